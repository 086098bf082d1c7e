package stage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"
)

// tailLines is how many lines of a log an error quotes: enough for a panic's first frames.
const tailLines = 25

// errGone says that the supervisor has ended without being asked to.
var errGone = errors.New("the supervisor has ended")

// watch says what the supervisor does until all of the plan has been started. Errors: why it
// could not be, with the log that explains it.
func (s *Stage) watch(ctx context.Context, p plan) error {
	look := time.NewTicker(pollEvery)
	defer look.Stop()
	for told := 0; ; {
		pid, errHolder := holder(s.in(keeperLock)) // before the state: a supervisor that ends has written why
		st, errState := s.readState()
		if err := errors.Join(errHolder, errState); err != nil {
			return fmt.Errorf("up: %w", err)
		}
		if st.Asked != p.Asked { // it has not got to it yet
			st = state{}
		}
		for ; told < len(st.Progress); told++ {
			s.say("  %s", st.Progress[told])
		}
		switch {
		case st.Fault != "":
			return s.explain(errors.New(st.Fault), st.Blame)
		case st.Settled:
			return nil
		case pid == 0:
			return s.explain(errGone, itself)
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return fmt.Errorf("up: %w", ctx.Err())
		}
	}
}

// whenAllReady waits until every process of the plan says that it is ready, and names each.
// Errors: that a process dies again and again, or that time is up, with the log that explains it.
func (s *Stage) whenAllReady(ctx context.Context, p plan) error {
	look := time.NewTicker(pollEvery)
	defer look.Stop()
	waiting := append([]processPlan{}, p.Processes...)
	before, err := s.readState()
	if err != nil {
		return fmt.Errorf("up: %w", err)
	}
	for {
		var still []processPlan
		for _, process := range waiting {
			if err = ready(ctx, process.Debug); err != nil {
				still = append(still, process)
				continue
			}
			s.say("  ready: %s", process.name())
		}
		if waiting = still; len(waiting) == 0 {
			return nil
		}
		if name, err := s.loops(before, waiting); err != nil {
			return s.explain(err, name)
		}
		if pid, err := holder(s.in(keeperLock)); err != nil || pid == 0 {
			return errors.Join(errGone, err)
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return s.explain(fmt.Errorf("%s is not ready: %w", waiting[0].name(), err), waiting[0].name())
		}
	}
}

// loops names the first of these processes that has died triesFirst times since before.
func (s *Stage) loops(before state, waiting []processPlan) (string, error) {
	now, err := s.readState()
	if err != nil {
		return itself, err
	}
	for _, process := range waiting {
		name := process.name()
		if n := now.restarts(name) - before.restarts(name); n >= triesFirst {
			return name, fmt.Errorf("%s has ended %d times while it was starting", name, n)
		}
	}
	return "", nil
}

func (st state) restarts(name string) int {
	for _, process := range st.Processes {
		if process.Name == name {
			return process.Restarts
		}
	}
	return 0
}

// explain adds the end of a process's log to an error.
func (s *Stage) explain(err error, process string) error {
	path := s.in(logDir, process+".log")
	text, errRead := endOf(path)
	if errors.Is(errRead, fs.ErrNotExist) {
		return err
	}
	if errRead != nil {
		return errors.Join(err, errRead)
	}
	return fmt.Errorf("%w\nThe end of %s:\n%s", err, path, lastLines(text, tailLines))
}

// endOf reads the last part of a file, which is whole lines but for the first.
func endOf(path string) ([]byte, error) {
	const part = 64 << 10
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.NewSectionReader(f, max(0, info.Size()-part), part))
}

func lastLines(text []byte, n int) string {
	lines := bytes.Split(bytes.TrimRight(text, "\n"), []byte("\n"))
	lines = lines[max(0, len(lines)-n):]
	var b strings.Builder
	for _, line := range lines {
		fmt.Fprintf(&b, "  | %s\n", line)
	}
	return strings.TrimSuffix(b.String(), "\n")
}
