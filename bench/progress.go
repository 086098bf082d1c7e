package bench

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

const (
	barEvery  = 200 * time.Millisecond
	lineEvery = 5 * time.Second // for logs, which should not grow much
)

// progress tells people how far a run is: with a bar on a terminal, elsewhere with a line now and then.
type progress struct {
	out io.Writer
	bar bool
}

func newProgress(out io.Writer) progress {
	file, is := out.(*os.File)
	return progress{out, is && term.IsTerminal(int(file.Fd()))}
}

func (p progress) say(format string, args ...any) { fmt.Fprintf(p.out, format+"\n", args...) }

// follow shows how much of total is done, until stop is called.
func (p progress) follow(what string, total int, done func() int) (stop func()) {
	every, show := lineEvery, func() { p.say("%s: %d of %d", what, done(), total) }
	finish := func() {}
	if p.bar {
		bar := progressbar.NewOptions(total, progressbar.OptionSetWriter(p.out), progressbar.OptionSetDescription(what),
			progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionClearOnFinish())
		every, show = barEvery, func() { bar.Set(done()) } //nolint:errcheck // only a picture
		finish = func() { bar.Finish() }                   //nolint:errcheck // only a picture
	}
	ended, left := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(left)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				show()
			case <-ended:
				return
			}
		}
	}()
	return func() {
		close(ended)
		<-left
		finish()
	}
}
