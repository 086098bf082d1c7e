package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"cartwright/internal/lifecycle"
)

const (
	// garbageRoom is how much garbage may gather on a heap before it is collected. By Go's default a
	// heap of a few megabytes is collected dozens of times a second under load.
	garbageRoom = 64 << 20 // bytes
	// A heap may grow to five times of what is live when that is little, and to twice, as by Go's
	// default, when it is much.
	garbageMost, garbageLeast = 400, 100 // percent
	heapLook                  = time.Second
)

// easeCollector has the garbage collector run less often, for as long as ctx lasts. It leaves the
// choice to GOGC, where that is set.
func easeCollector(ctx context.Context) {
	if _, chosen := os.LookupEnv("GOGC"); chosen {
		return
	}
	debug.SetGCPercent(garbageMost)
	go func() {
		live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		for now := garbageMost; ctx.Err() == nil; lifecycle.Pause(ctx, heapLook) {
			metrics.Read(live)
			if next := garbagePercent(live[0].Value.Uint64()); next != now {
				debug.SetGCPercent(next)
				now = next
			}
		}
	}()
}

// garbagePercent is GOGC for a heap with so many live bytes.
func garbagePercent(live uint64) int {
	if live <= garbageRoom*100/garbageMost {
		return garbageMost
	}
	return max(int(garbageRoom*100/live), garbageLeast)
}
