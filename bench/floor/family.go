package floor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"cartwright/internal/servers"
	"cartwright/internal/settings"
)

const (
	// readyLimit is far more than a process needs to connect to its servers, also on a busy machine.
	readyLimit = 30 * time.Second

	// newsLimit is how long a buyer who got no answer waits to hear which process has died: the
	// reason is worth more than the broken connection.
	newsLimit = time.Second
)

// readyWord begins the line in which a child says that it works, and where it listens.
const readyWord = "ready "

// part is what one child process does: the same command, with a role.
type part struct {
	role      string
	inventory string // where the worker finds it
	products  int
}

// play does the part until the process is ended, by its parent as a rule.
func (p part) play(ctx context.Context, out io.Writer, s Settings) error {
	ready := func(address string) { fmt.Fprintln(out, readyWord+address) }
	ended := make(chan error, 1)
	go func() {
		switch p.role {
		case "inventory":
			ended <- runInventory(ctx, s, p.products, ready)
		case "worker":
			ended <- runWorker(ctx, s, p.inventory, ready)
		case "gateway":
			ended <- runGateway(ctx, s, ready)
		default:
			ended <- fmt.Errorf("the floor has no part %q", p.role)
		}
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// family is the three processes.
type family struct {
	ctx     context.Context // ends when one of the processes does, and says why
	cancel  context.CancelCauseFunc
	members []*servers.Process
	gateway string // where it listens
}

// startFamily starts the processes in the order in which they need each other.
func startFamily(ctx context.Context, s Settings, products int) (*family, error) {
	f := &family{}
	f.ctx, f.cancel = context.WithCancelCause(ctx)
	inventory, err := f.start(s, "inventory", "--products", strconv.Itoa(products))
	if err == nil {
		_, err = f.start(s, "worker", "--inventory", inventory)
	}
	if err == nil {
		f.gateway, err = f.start(s, "gateway")
	}
	if err != nil {
		return nil, errors.Join(err, f.end())
	}
	// Who waits for an answer of a process that nobody needs any more is told at once.
	context.AfterFunc(f.ctx, f.kill)
	return f, nil
}

// start starts one process of this very program and waits until it says that it is ready.
func (f *family) start(s Settings, role string, args ...string) (address string, err error) {
	program, err := os.Executable()
	if err != nil {
		return "", err
	}
	heard := &herald{said: make(chan string, 1)}
	process, err := servers.Start(role, servers.Command{
		Path: program, Args: append([]string{"bench", "floor", "--role", role}, args...), Env: environ(s),
		Output: heard, OnParentDeath: syscall.SIGKILL,
	})
	if err != nil {
		return "", err
	}
	f.members = append(f.members, process)
	go f.watch(role, process)
	limit := time.NewTimer(readyLimit)
	defer limit.Stop()
	select {
	case address = <-heard.said:
		return address, nil
	case <-f.ctx.Done():
		return "", context.Cause(f.ctx)
	case <-limit.C:
		return "", fmt.Errorf("%s: not ready within %s", role, readyLimit)
	}
}

// watch ends the family when a member ends by itself.
func (f *family) watch(role string, process *servers.Process) {
	<-process.Done()
	err := process.Err()
	if err == nil {
		err = fmt.Errorf("%s: ended too early", role)
	}
	f.cancel(err)
}

// environ is this process's environment, with these settings in place of its own. Secrets travel
// in it, and never among the arguments, which everybody can read.
func environ(s Settings) []string {
	others := slices.DeleteFunc(os.Environ(), func(pair string) bool { return strings.HasPrefix(pair, settings.Prefix) })
	return append(others, settings.Prefix+"AMQP_URL="+s.Broker.URL, settings.Prefix+"NAMESPACE="+s.Broker.Namespace, settings.Prefix+"ADMIN_DSN="+s.AdminDSN)
}

// blame finds the reason for an error of the buyers.
func (f *family) blame(err error) error {
	news := time.NewTimer(newsLimit)
	defer news.Stop()
	select {
	case <-f.ctx.Done():
		return context.Cause(f.ctx)
	case <-news.C:
		return err
	}
}

func (f *family) kill() {
	for _, process := range f.members {
		process.Kill() //nolint:errcheck // end tells it
	}
}

// end ends all processes, and returns when they are gone.
func (f *family) end() (err error) {
	f.cancel(context.Canceled) // from here on, an end is none too early
	for _, process := range f.members {
		err = errors.Join(err, process.Kill())
	}
	return err
}

// herald hears a process say that it is ready.
type herald struct {
	said  chan string
	heard []byte
	told  bool
}

// Write looks at what the process prints, until the word has come.
func (h *herald) Write(b []byte) (int, error) {
	if h.told {
		return len(b), nil
	}
	h.heard = append(h.heard, b...)
	for {
		line, rest, whole := bytes.Cut(h.heard, []byte("\n"))
		if !whole {
			return len(b), nil
		}
		h.heard = rest
		if address, ready := strings.CutPrefix(string(line), readyWord); ready {
			h.said <- address
			h.told = true
			return len(b), nil
		}
	}
}
