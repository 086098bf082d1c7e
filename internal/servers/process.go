package servers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// A child that leaves its output open to a child of its own must not hold up the news of its
// death for longer than this.
const outputGrace = 2 * time.Second

// tailSize is how much of the last output an error about a process quotes.
const tailSize = 4 << 10

// A Command says what to run and how.
type Command struct {
	Path   string
	Args   []string  // without the program's name
	Env    []string  // the whole environment, KEY=value
	Dir    string    // working directory; empty means the parent's
	Output io.Writer // standard output and error; nil means nowhere

	// Account is whom to run as; nil means as the parent.
	Account *Account

	// OnParentDeath is sent to the process when the parent ends without having stopped it,
	// also when the parent was killed with SIGKILL. Zero sends nothing. Only Linux can do it.
	OnParentDeath syscall.Signal
}

// A Process is a running child. All of its methods may be called from any goroutine, and
// after the process has ended.
type Process struct {
	name string
	cmd  *exec.Cmd
	tail *tail
	done chan struct{}
	err  error // how it ended; written before done is closed
}

// Start runs c. The name is what errors call the process. The process runs until it ends by
// itself, is stopped, or the parent dies.
func Start(name string, c Command) (*Process, error) {
	p := &Process{name: name, tail: &tail{}, done: make(chan struct{})}
	p.cmd = exec.Command(c.Path, c.Args...)
	p.cmd.Env, p.cmd.Dir, p.cmd.WaitDelay = c.Env, c.Dir, outputGrace
	var output io.Writer = p.tail
	if c.Output != nil {
		output = io.MultiWriter(c.Output, p.tail)
	}
	p.cmd.Stdout, p.cmd.Stderr = output, output
	p.cmd.SysProcAttr = &syscall.SysProcAttr{
		Setpgid:    true, // Ctrl-C in a terminal is for the parent, which stops its children in order
		Credential: c.Account.credential(),
	}
	signalOnParentDeath(p.cmd.SysProcAttr, c.OnParentDeath)
	started := make(chan error)
	go p.own(started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return p, nil
}

// own starts the process and waits for it, on one operating system thread: the kernel takes
// the end of the thread that started a child for the death of the parent.
func (p *Process) own(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := p.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	p.err = p.cmd.Wait()
	if errors.Is(p.err, exec.ErrWaitDelay) {
		p.err = nil // it ended well; only a grandchild held on to the output
	}
	close(p.done)
}

// PID is the process's number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err is nil while the process runs and when it ended with status 0; otherwise it says how
// it ended and quotes its last output.
func (p *Process) Err() error {
	select {
	case <-p.done:
	default:
		return nil
	}
	if p.err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w\n%s", p.name, p.err, p.tail)
}

// Signal sends sig. A process that has ended already is not an error.
func (p *Process) Signal(sig syscall.Signal) error {
	select {
	case <-p.done:
		return nil
	default:
	}
	// Once it has been waited for, os.Process refuses to signal what may be somebody else's number by now.
	if err := p.cmd.Process.Signal(sig); err != nil && !ended(err) {
		return fmt.Errorf("%s: signal %s: %w", p.name, sig, err)
	}
	return nil
}

// Stop asks the process to end and waits until it has. When ctx ends first, the process is
// killed, and Stop says so.
func (p *Process) Stop(ctx context.Context) error {
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("%s: killed, since it did not end when asked: %w", p.name, ctx.Err()), p.Kill())
	}
}

// Kill ends the process with SIGKILL and waits until it is gone.
func (p *Process) Kill() error {
	if err := p.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-p.done
	return nil
}

// tail keeps the last tailSize bytes written to it.
type tail struct {
	mu   sync.Mutex
	last []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = append(t.last, b...)
	if over := len(t.last) - tailSize; over > 0 {
		t.last = append(t.last[:0], t.last[over:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.last)
}
