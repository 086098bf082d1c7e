package messaging

import (
	"bufio"
	"net"
	"runtime"
	"sync"
	"time"
)

const (
	// gatherMax is how much may wait to be written before writers are made to wait too.
	gatherMax = 1 << 20
	// gatherRoom is how much may wait before publishers wait. It leaves room for one message more.
	gatherRoom = gatherMax / 2
	// gatherRead is how much is read at a time: the client library alone would read 4 KiB.
	gatherRead = 32 << 10
	// closeTime is for what was written just before the connection is closed.
	closeTime = 200 * time.Millisecond
)

// gatherConn gathers small writes. The client library writes every publish and every
// acknowledgement by itself; under load, hundreds of goroutines do so at the same time, and a
// system call each, on both sides, costs more than the messages. Here one goroutine writes, and
// takes along whatever has come meanwhile. There is no timer: a lone write goes at once.
//
// An error is told to the write after the one that it befell, and by closing the connection, as
// after any write whose fate TCP has not told yet.
type gatherConn struct {
	net.Conn
	reader  *bufio.Reader
	mu      sync.Mutex
	written chan struct{} // closed after a write, for whoever waits for it; nil when nobody does
	waiting []byte
	spare   []byte // the buffer that was written last
	writing bool
	err     error
}

func newGatherConn(conn net.Conn) *gatherConn {
	return &gatherConn{Conn: conn, reader: bufio.NewReaderSize(conn, gatherRead)}
}

func (c *gatherConn) Read(b []byte) (int, error) { return c.reader.Read(b) }

// Write takes b along. It blocks only while too much waits already.
func (c *gatherConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.waiting) >= gatherMax && c.err == nil {
		c.wait()
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

// full is nil while a message can be written without being held up, and otherwise closed after the
// next write, when it is worth asking again.
func (c *gatherConn) full() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting) < gatherRoom || c.err != nil {
		return nil
	}
	return c.next()
}

// next is closed after the next write. c.mu is held.
func (c *gatherConn) next() <-chan struct{} {
	if c.written == nil {
		c.written = make(chan struct{})
	}
	return c.written
}

// wait returns after the next write. c.mu is held before and afterwards.
func (c *gatherConn) wait() {
	written := c.next()
	c.mu.Unlock()
	<-written
	c.mu.Lock()
}

// Close closes the connection once what was written before has left, for which it has closeTime:
// it may be the word that the client library takes its leave with.
func (c *gatherConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = net.ErrClosed
		c.Conn.SetWriteDeadline(time.Now().Add(closeTime)) //nolint:errcheck // it may be dead already
	}
	for c.writing {
		c.wait()
	}
	return c.Conn.Close()
}

// writeAll writes until nothing waits any more.
func (c *gatherConn) writeAll() {
	runtime.Gosched() // those who can run may have something to add
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.waiting) > 0 {
		now := c.waiting
		c.waiting, c.spare = c.spare[:0], nil
		c.mu.Unlock()
		_, err := c.Conn.Write(now)
		runtime.Gosched()
		c.mu.Lock()
		c.spare = now
		if err != nil {
			c.waiting = nil
			if c.err == nil {
				c.err = err
			}
			c.Conn.Close() // the reader ends, and with it the session
		}
		c.tell()
	}
	c.writing = false
	c.tell()
}

// tell ends the waiting for a write. c.mu is held.
func (c *gatherConn) tell() {
	if c.written != nil {
		close(c.written)
		c.written = nil
	}
}
