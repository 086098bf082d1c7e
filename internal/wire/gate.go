package wire

import (
	"sync"
	"sync/atomic"
	"time"
)

// gate is what every byte of one direction passes.
type gate struct {
	mu     sync.Mutex
	opened chan struct{} // nil while the gate is open
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.opened == nil {
		g.opened = make(chan struct{})
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.opened != nil {
		close(g.opened)
		g.opened = nil
	}
}

// pass waits until the gate is open, and tells whether it was before gone.
func (g *gate) pass(gone <-chan struct{}) bool {
	g.mu.Lock()
	opened := g.opened
	g.mu.Unlock()
	if opened == nil {
		return true
	}
	select {
	case <-opened:
		return true
	case <-gone:
		return false
	}
}

// pace is how slowly pieces go.
type pace struct {
	delay          atomic.Int64 // nanoseconds
	bytesPerSecond atomic.Int64 // 0: as many as there are
}

func (p *pace) set(delay time.Duration, bytesPerSecond int) {
	p.delay.Store(int64(delay))
	p.bytesPerSecond.Store(int64(bytesPerSecond))
}

// wait takes as long as n bytes should, and tells whether that was over before gone.
func (p *pace) wait(n int, gone <-chan struct{}) bool {
	wait := time.Duration(p.delay.Load())
	if rate := p.bytesPerSecond.Load(); rate > 0 {
		wait += time.Duration(n) * time.Second / time.Duration(rate)
	}
	if wait == 0 {
		return true
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-gone:
		return false
	}
}
