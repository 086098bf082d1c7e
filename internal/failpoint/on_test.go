//go:build failpoints && unix

package failpoint

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"cartwright/internal/fault"
)

// The test program stands in for a process with a point.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "come-by" {
		err := Hit(JobMade)
		fmt.Println("came by:", err)
		return
	}
	os.Exit(m.Run())
}

// comeBy starts a process that comes by the point, armed or not.
func comeBy(t *testing.T, dir string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(program, "come-by")
	c.Env = append(os.Environ(), Folder+"="+dir)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return c, bufio.NewReader(out)
}

func arm(t *testing.T, a Action) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := Arm(dir, JobMade, a); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestAKilledProcessSaysNothing(t *testing.T) {
	dir := arm(t, Kill)
	c, out := comeBy(t, dir)
	if line, err := out.ReadString('\n'); err == nil {
		t.Errorf("it said %q", line)
	}
	err := c.Wait()
	if status, ok := c.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		t.Errorf("it ended with %v, want SIGKILL", err)
	}
	if pid, err := HitBy(dir, JobMade); pid != c.ProcessState.Pid() || err != nil {
		t.Errorf("hit by %d, %v; want %d", pid, err, c.ProcessState.Pid())
	}
	if pid, err := HitBy(dir, JobMade); pid != 0 || err != nil {
		t.Errorf("hit by %d again, %v", pid, err)
	}
}

func TestAStoppedProcessGoesOnWhenItIsResumed(t *testing.T) {
	c, out := comeBy(t, arm(t, Stop))
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(c.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Fatalf("status %v, %v; want stopped", status, err)
	}
	if err := c.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if line, err := out.ReadString('\n'); !strings.Contains(line, "<nil>") {
		t.Errorf("it said %q, %v", line, err)
	}
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
}

// closer counts how often it is closed.
type closer struct{ times int }

func (c *closer) Close() error { c.times++; return nil }

func TestALostAnswerIsSilenceOnce(t *testing.T) {
	t.Setenv(Folder, arm(t, Lost))
	var lost atomic.Int64
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if err := After(nil, JobMade); fault.Is(err, fault.Unavailable) {
				lost.Add(1)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if lost.Load() != 1 {
		t.Errorf("lost %d times, want once", lost.Load())
	}
}

func TestALostAnswerTakesTheLinkWithIt(t *testing.T) {
	t.Setenv(Folder, arm(t, Lost))
	link := &closer{}
	if err := Cut(JobMade, link); !fault.Is(err, fault.Unavailable) || link.times != 1 {
		t.Errorf("got %v, closed %d times", err, link.times)
	}
	if err := Cut(JobMade, link); err != nil || link.times != 1 {
		t.Errorf("then got %v, closed %d times", err, link.times)
	}
}

func TestAnEarlierErrorIsKept(t *testing.T) {
	t.Setenv(Folder, arm(t, Lost))
	first := fault.New(fault.Refused, "no", "no")
	if err := After(first, JobMade); err != error(first) {
		t.Errorf("got %v", err)
	}
}
