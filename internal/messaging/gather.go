package messaging

import (
	"net"
	"runtime"
	"sync"
)

// gatherMax is how much may wait to be written before writers are made to wait too.
const gatherMax = 1 << 20

// gatherConn gathers small writes. The client library writes every publish and every
// acknowledgement by itself; under load, hundreds of goroutines do so at the same time, and a
// system call each, on both sides, costs more than the messages. Here one goroutine writes, and
// takes along whatever has come meanwhile. There is no timer: a lone write goes at once.
//
// An error is told to the write after the one that it befell, and by closing the connection, as
// after any write whose fate TCP has not told yet.
type gatherConn struct {
	net.Conn
	mu      sync.Mutex
	room    *sync.Cond // there is room, or an error
	waiting []byte
	spare   []byte // the buffer that was written last
	writing bool
	err     error
}

func newGatherConn(conn net.Conn) *gatherConn {
	c := &gatherConn{Conn: conn}
	c.room = sync.NewCond(&c.mu)
	return c
}

// Write takes b along. It blocks only while too much waits already.
func (c *gatherConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.waiting) >= gatherMax && c.err == nil {
		c.room.Wait()
	}
	if c.err != nil {
		return 0, c.err
	}
	c.waiting = append(c.waiting, b...)
	if !c.writing {
		c.writing = true
		go c.writeAll()
	}
	return len(b), nil
}

// writeAll writes until nothing waits any more.
func (c *gatherConn) writeAll() {
	for {
		runtime.Gosched() // those who can run may have something to add
		c.mu.Lock()
		if len(c.waiting) == 0 || c.err != nil {
			c.writing = false
			c.mu.Unlock()
			return
		}
		now := c.waiting
		c.waiting, c.spare = c.spare[:0], nil
		c.mu.Unlock()

		_, err := c.Conn.Write(now)

		c.mu.Lock()
		c.spare = now
		if err != nil && c.err == nil {
			c.err = err
			c.Conn.Close() // the reader ends, and with it the session
		}
		c.room.Broadcast()
		c.mu.Unlock()
	}
}
