package servers

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func shell(t *testing.T, script string, out *bytes.Buffer) *Process {
	t.Helper()
	c := Command{Path: "/bin/sh", Args: []string{"-c", script}, OnParentDeath: syscall.SIGKILL}
	if out != nil {
		c.Output = out
	}
	p, err := Start("shell", c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Kill() })
	return p
}

func TestAProcessThatEndsBadlyQuotesItsLastWords(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	p := shell(t, "echo the disk is full; exit 3", &out)
	<-p.Done()
	if err := p.Err(); err == nil || !strings.Contains(err.Error(), "exit status 3\nthe disk is full") {
		t.Errorf("error = %v", err)
	}
	if out.String() != "the disk is full\n" {
		t.Errorf("output = %q", out.String())
	}
	if err := p.Stop(context.Background()); err != nil {
		t.Errorf("stopping it afterwards: %v", err)
	}
}

func TestAProcessThatWillNotStopIsKilled(t *testing.T) {
	t.Parallel()
	ready := filepath.Join(t.TempDir(), "ready")
	p := shell(t, "trap '' TERM; touch "+ready+"; while :; do sleep 1; done", nil)
	waitForFile(t, ready)
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if err := p.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error = %v, want one that says it was killed", err)
	}
	<-p.Done()
}

func TestAnUnknownProgramIsAnError(t *testing.T) {
	t.Parallel()
	if _, err := Start("ghost", Command{Path: "/no/such/program"}); err == nil || !strings.HasPrefix(err.Error(), "ghost: ") {
		t.Errorf("error = %v", err)
	}
}

// The test program starts itself as a parent, which starts a child and is killed.
func TestChildrenEndWithAKilledParent(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "pid")
	parent, err := Start("parent", Command{Path: self, Args: []string{"-test.run=^TestParentOfAChild$"}, Env: append(os.Environ(), "CHILD_PID_FILE="+file)})
	if err != nil {
		t.Fatal(err)
	}
	waitForFile(t, file)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Kill(); err != nil {
		t.Fatal(err)
	}
	wait(t, "the child to end", func() bool { return !runs(child) })
}

// TestParentOfAChild is the parent of the test above.
func TestParentOfAChild(t *testing.T) {
	file := os.Getenv("CHILD_PID_FILE")
	if file == "" {
		t.Skip("only the test that kills it runs this")
	}
	p := shell(t, "echo $$ > "+file+".new; mv "+file+".new "+file+"; while :; do sleep 1; done", nil)
	<-p.Done()
}

// runs tells whether a process exists that has not ended: one that nobody waits for stays in
// the table as a zombie.
func runs(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

func waitForFile(t *testing.T, path string) {
	t.Helper()
	wait(t, path, func() bool { _, err := os.Stat(path); return err == nil })
}

func wait(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(testLimit)
	for !holds() {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
