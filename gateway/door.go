package gateway

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofiber/fiber/v2"
)

const (
	// lingerMax is for a client that is still sending a request which was refused unread.
	lingerMax = 500 * time.Millisecond
	// hurryMax is for a client that has connected, but sent nothing yet, when the door closes.
	hurryMax = time.Second
)

// door is where connections come in. It knows those that are open, because the server can wait
// for them at a stop, but not tell them to end.
type door struct {
	net.Listener
	mu   sync.Mutex
	open map[*connection]bool
}

func newDoor(l net.Listener) *door { return &door{Listener: l, open: map[*connection]bool{}} }

// Accept waits for the next connection.
func (d *door) Accept() (net.Conn, error) {
	conn, err := d.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &connection{Conn: conn, door: d}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open[c] = true
	return c, nil
}

// hurry gives clients that have sent nothing yet a moment to do so.
func (d *door) hurry() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.open {
		if !c.heard.Load() {
			c.SetReadDeadline(time.Now().Add(hurryMax)) //nolint:errcheck // closed meanwhile
		}
	}
}

// cutOff closes whatever is still open.
func (d *door) cutOff() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.open {
		c.Conn.Close() //nolint:errcheck // closed meanwhile
	}
}

// connection is closed, when asked to linger, only after the client has stopped sending. Closed
// at once, the unread rest of its request would make the kernel reset the connection, and the
// client would never see why it was refused.
type connection struct {
	net.Conn
	door    *door
	heard   atomic.Bool // something was sent
	lingers atomic.Bool
}

func (c *connection) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.heard.Store(true)
	}
	return n, err
}

func (c *connection) Close() error {
	half, can := c.Conn.(interface{ CloseWrite() error })
	if can && c.lingers.Load() && half.CloseWrite() == nil && c.SetReadDeadline(time.Now().Add(lingerMax)) == nil {
		io.Copy(io.Discard, c.Conn) //nolint:errcheck // whatever ends it, the connection is closed next
	}
	c.door.mu.Lock()
	delete(c.door.open, c)
	c.door.mu.Unlock()
	return c.Conn.Close()
}

// linger asks the request's connection to be closed patiently.
func linger(c *fiber.Ctx) {
	if conn, ok := c.Context().Conn().(*connection); ok {
		conn.lingers.Store(true)
	}
}
