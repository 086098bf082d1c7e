package stage

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const logsHelp = `
Usage: cartwright logs [-f] [service]

Prints the last lines of the logs in .cartwright/log/. With several, each line begins with the
name of its process. A service is a name (inventory: all of its replicas), one replica
(inventory-2), or mariadb, rabbitmq, migrate, supervisor.

  -f   go on printing what is written, until interrupted
`

// logLines is how many lines of a log are printed first.
const logLines = 100

// Logs prints the ends of logs, and with -f what is added until ctx ends.
func (s *Stage) Logs(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("cartwright logs", flag.ContinueOnError)
	follow := flags.Bool("f", false, "")
	var names []string
	for rest := args; ; { // flag stops at the first name, and people write -f behind it too
		if done, err := s.parse(flags, logsHelp, rest); done || err != nil {
			return err
		}
		if flags.NArg() == 0 {
			break
		}
		names, rest = append(names, flags.Arg(0)), flags.Args()[1:]
	}
	paths, err := s.logPaths(names)
	if err != nil {
		return err
	}
	readers := make([]*logReader, len(paths))
	for i, path := range paths {
		readers[i] = &logReader{path: path, out: s.Out}
		if len(paths) > 1 {
			readers[i].label = strings.TrimSuffix(filepath.Base(path), ".log")
		}
		if err := readers[i].end(); err != nil {
			return fmt.Errorf("logs: %w", err)
		}
	}
	if !*follow {
		return nil
	}
	return followAll(ctx, readers)
}

func followAll(ctx context.Context, readers []*logReader) error {
	look := time.NewTicker(pollEvery)
	defer look.Stop()
	for {
		select {
		case <-look.C:
		case <-ctx.Done():
			return nil // being interrupted is how following ends
		}
		for _, r := range readers {
			if err := r.more(); err != nil {
				return fmt.Errorf("logs: %w", err)
			}
		}
	}
}

// logPaths are the logs of the named processes, or all.
func (s *Stage) logPaths(names []string) ([]string, error) {
	all, err := filepath.Glob(s.in(logDir, "*.log"))
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, errNoShop
	}
	if len(names) == 0 {
		return all, nil
	}
	var chosen []string
	for _, name := range names {
		found := slices.DeleteFunc(slices.Clone(all), func(path string) bool {
			process := strings.TrimSuffix(filepath.Base(path), ".log")
			return process != name && !strings.HasPrefix(process, name+"-")
		})
		if len(found) == 0 {
			return nil, fmt.Errorf("logs: there is none of %q in %s", name, s.in(logDir))
		}
		chosen = append(chosen, found...)
	}
	return chosen, nil
}

// A logReader prints one log, whole lines only.
type logReader struct {
	path, label string
	out         io.Writer
	file        fs.FileInfo // tells when the log has been put aside for a new one
	offset      int64
}

// end prints the last lines and remembers where they end.
func (r *logReader) end() error {
	text, err := endOf(r.path)
	if err != nil {
		return err
	}
	if r.file, err = os.Stat(r.path); err != nil {
		return err
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	lines = lines[max(0, len(lines)-1-logLines):] // the last one is what follows the last line's end
	unfinished := lines[len(lines)-1]
	r.offset = r.file.Size() - int64(len(unfinished))
	return r.print(lines[:len(lines)-1])
}

// more prints what has been added since.
func (r *logReader) more() error {
	f, err := os.Open(r.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // between being put aside and being made anew
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !os.SameFile(info, r.file) {
		r.file, r.offset = info, 0
	}
	if info.Size() == r.offset {
		return nil
	}
	text, err := io.ReadAll(io.NewSectionReader(f, r.offset, info.Size()-r.offset))
	if err != nil {
		return err
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	lines = lines[:len(lines)-1]
	for _, line := range lines {
		r.offset += int64(len(line))
	}
	return r.print(lines)
}

func (r *logReader) print(lines [][]byte) error {
	for _, line := range lines {
		if r.label != "" {
			line = fmt.Appendf(nil, "%-18s %s", r.label, line)
		}
		if _, err := r.out.Write(line); err != nil {
			return err
		}
	}
	return nil
}
