//go:build !linux

package main

// workInBatches does nothing: other kernels have no such policy.
func workInBatches() error { return nil }
