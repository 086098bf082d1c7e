package main

import (
	"context"
	"runtime/debug"
	"testing"
	"time"
)

func TestGarbageHasRoomButNotWithoutEnd(t *testing.T) {
	const mega = 1 << 20
	for live, want := range map[uint64]int{0: 400, 4 * mega: 400, 16 * mega: 400, 32 * mega: 200, 64 * mega: 100, 1000 * mega: 100} {
		if got := garbagePercent(live); got != want {
			t.Errorf("%d MiB live: %d, want %d", live/mega, got, want)
		}
	}
}

// B9: a heap that has grown is collected as often as Go would.
func TestTheCollectorFollowsTheHeap(t *testing.T) {
	before := debug.SetGCPercent(100)
	defer debug.SetGCPercent(before)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	kept := make([]byte, 2*garbageRoom)
	debug.FreeOSMemory()
	easeCollector(ctx)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		now := debug.SetGCPercent(garbageLeast)
		if now == garbageLeast {
			break
		}
		debug.SetGCPercent(now)
		if time.Now().After(deadline) {
			t.Fatalf("GOGC is %d with %d bytes in use", now, len(kept))
		}
	}
	kept[0] = 1
}
