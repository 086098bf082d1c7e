package hands

import (
	"bytes"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// goroutine names the one that calls.
func goroutine() string {
	var stack [64]byte
	name, _, _ := bytes.Cut(stack[:runtime.Stack(stack[:], false)], []byte(" ["))
	return string(name)
}

// E12
func TestHandsStayForTheNextTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, seen := New(), map[string]bool{}
		for range 100 {
			h.Do(func() { seen[goroutine()] = true })
			synctest.Wait()
		}
		if h.End(); len(seen) != 1 {
			t.Errorf("100 tasks, one after the other, took %d goroutines", len(seen))
		}
	})
}

func TestHandsAreAsManyAsAreNeededAndAllEnd(t *testing.T) {
	h := New()
	var ended atomic.Int32
	begun, over := make(chan struct{}), make(chan struct{})
	for range 50 {
		h.Do(func() {
			begun <- struct{}{}
			<-over
			ended.Add(1)
		})
	}
	for range 50 { // all at a time
		<-begun
	}
	close(over)
	h.End()
	h.End()
	if n := ended.Load(); n != 50 {
		t.Errorf("%d of 50 tasks had ended", n)
	}
}
