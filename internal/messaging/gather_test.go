package messaging

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// gathered is a connection and its other end. What is written waits until that end reads it.
func gathered(t *testing.T, test func(t *testing.T, c *gatherConn, peer net.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		ours, peer := net.Pipe()
		c := newGatherConn(ours)
		defer peer.Close()
		defer c.Close()
		test(t, c, peer)
	})
}

func write(t *testing.T, c *gatherConn, b []byte) {
	t.Helper()
	if n, err := c.Write(b); n != len(b) || err != nil {
		t.Fatalf("%d bytes were taken, %v", n, err)
	}
}

func read(t *testing.T, peer net.Conn) []byte {
	t.Helper()
	b := make([]byte, 2*gatherMax)
	n, err := peer.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

func TestWhatIsWrittenDuringAWriteGoesWithTheNext(t *testing.T) {
	gathered(t, func(t *testing.T, c *gatherConn, peer net.Conn) {
		write(t, c, []byte("lone"))
		synctest.Wait() // it is on its way, without a timer
		many := bytes.Repeat([]byte("many"), 1000)
		for part := range slices.Chunk(many, 4) {
			write(t, c, part)
		}
		if got := read(t, peer); string(got) != "lone" {
			t.Errorf("the first write is %q", got)
		}
		if got := read(t, peer); !bytes.Equal(got, many) {
			t.Errorf("the second write has %d bytes, want all %d", len(got), len(many))
		}
	})
}

// E13
func TestWritersWaitForAPeerThatDoesNotRead(t *testing.T) {
	gathered(t, func(t *testing.T, c *gatherConn, peer net.Conn) {
		write(t, c, []byte("first"))
		synctest.Wait()
		if c.full() != nil {
			t.Error("it is full from the beginning")
		}
		write(t, c, make([]byte, gatherRoom))
		full := c.full()
		if full == nil {
			t.Fatal("publishers are not told that it is full")
		}
		write(t, c, make([]byte, gatherMax-gatherRoom))
		more := make(chan error, 1)
		go func() {
			_, err := c.Write([]byte("more"))
			more <- err
		}()
		synctest.Wait()
		if len(more) > 0 {
			t.Error("more was taken than may wait")
		}
		read(t, peer)
		synctest.Wait()
		if err := <-more; err != nil {
			t.Error(err)
		}
		<-full
		if c.full() != nil {
			t.Error("it stays full")
		}
		read(t, peer)
		read(t, peer)
	})
}

func TestWhatWasWrittenBeforeTheCloseLeaves(t *testing.T) {
	gathered(t, func(t *testing.T, c *gatherConn, peer net.Conn) {
		write(t, c, []byte("good"))
		synctest.Wait()
		write(t, c, []byte("bye"))
		go c.Close() //nolint:errcheck // the peer tells
		if got, err := io.ReadAll(peer); string(got) != "goodbye" || err != nil {
			t.Errorf("the peer has %q, %v", got, err)
		}
		if _, err := c.Write([]byte("late")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a write after the close: %v", err)
		}
	})
}

func TestACloseWaitsForNoDeafPeer(t *testing.T) {
	gathered(t, func(t *testing.T, c *gatherConn, _ net.Conn) {
		write(t, c, []byte("unheard"))
		began := time.Now()
		c.Close() //nolint:errcheck // only how long it takes counts
		if took := time.Since(began); took > closeTime {
			t.Errorf("it took %s", took)
		}
	})
}

func TestAFailedWriteClosesTheConnectionAndFailsTheNext(t *testing.T) {
	gathered(t, func(t *testing.T, c *gatherConn, peer net.Conn) {
		peer.Close()
		write(t, c, []byte("lost"))
		synctest.Wait()
		if _, err := c.Write([]byte("late")); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("the write after the one that failed: %v", err)
		}
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("the reader does not hear of it")
		}
	})
}
