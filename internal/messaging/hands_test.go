package messaging

import (
	"bytes"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// goroutine names the one that calls.
func goroutine() string {
	var stack [64]byte
	name, _, _ := bytes.Cut(stack[:runtime.Stack(stack[:], false)], []byte(" ["))
	return string(name)
}

// E12
func TestHandsStayForTheNextTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, seen := newHands(), map[string]bool{}
		for range 100 {
			h.do(func() { seen[goroutine()] = true })
			synctest.Wait()
		}
		if h.end(); len(seen) != 1 {
			t.Errorf("100 tasks, one after the other, took %d goroutines", len(seen))
		}
	})
}

func TestHandsAreAsManyAsAreNeededAndAllEnd(t *testing.T) {
	h := newHands()
	var ended atomic.Int32
	begun, over := make(chan struct{}), make(chan struct{})
	for range 50 {
		h.do(func() {
			begun <- struct{}{}
			<-over
			ended.Add(1)
		})
	}
	for range 50 { // all at a time
		<-begun
	}
	close(over)
	h.end()
	h.end()
	if n := ended.Load(); n != 50 {
		t.Errorf("%d of 50 tasks had ended", n)
	}
}
