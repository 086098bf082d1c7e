//go:build !mutations

package mutation

// On tells whether a mechanism is taken away.
func On(Mutation) bool { return false }
