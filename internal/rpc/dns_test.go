package rpc

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// newReplicaLimit is how soon a replica that has just come gets calls.
const newReplicaLimit = 10 * time.Second

// names is a name server that knows one name, with as many addresses as there are replicas.
type names struct {
	conn net.PacketConn

	mu        sync.Mutex
	addresses []net.IP
}

func openNames(t *testing.T) *names {
	t.Helper()
	conn, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &names{conn: conn}
	var hand sync.WaitGroup
	hand.Go(n.answer)
	t.Cleanup(func() {
		conn.Close()
		hand.Wait()
	})
	return n
}

func (n *names) answer() {
	question := make([]byte, 512)
	for {
		size, from, err := n.conn.ReadFrom(question)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(question[:size]) != nil || len(m.Questions) != 1 {
			continue
		}
		m.Response, m.Authoritative, m.Additionals = true, true, nil
		if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
			n.mu.Lock()
			for _, ip := range n.addresses {
				m.Answers = append(m.Answers, dnsmessage.Resource{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class},
					Body:   &dnsmessage.AResource{A: [4]byte(ip.To4())},
				})
			}
			n.mu.Unlock()
		}
		if packed, err := m.Pack(); err == nil {
			_, _ = n.conn.WriteTo(packed, from) // who does not hear it asks again
		}
	}
}

// add lets the name have one address more, and returns the port.
func (n *names) add(t *testing.T, addr string) (port string) {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addresses = append(n.addresses, net.ParseIP(host))
	return port
}

// Z3: a replica that comes gets calls within ten seconds, without a call that fails.
func TestANewReplicaIsFoundByItsName(t *testing.T) {
	t.Parallel()
	names := openNames(t)
	heard := [2]atomic.Int32{}
	counting := func(i int) says {
		return func(_ context.Context, in string) (string, error) { heard[i].Add(1); return in, nil }
	}
	first, _ := serve(t, counting(0))
	port := names.add(t, first)
	say := dial(t, "dns://"+names.conn.LocalAddr().String()+"/replicas.test.:"+port)
	calls(t, say, "the first is asked", func() bool { return heard[0].Load() > 10 })

	second, _ := serve(t, counting(1))
	dial(t, second) // until it serves
	heard[1].Store(0)
	names.add(t, second)
	began := time.Now()
	calls(t, say, "the second is asked", func() bool { return heard[1].Load() > 10 })
	if took := time.Since(began); took > newReplicaLimit {
		t.Errorf("the second was asked after %s", took)
	} else {
		t.Logf("the second was asked after %s", took)
	}
}
