// Package progress tells people how far something is that takes its time.
package progress

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

// View tells people how far a run is: with a bar on a terminal, elsewhere with a line now and then.
type View struct {
	out io.Writer
	bar bool
}

// New tells it to out.
func New(out io.Writer) View {
	file, is := out.(*os.File)
	return View{out, is && term.IsTerminal(int(file.Fd()))}
}

// Say writes a line.
func (p View) Say(format string, args ...any) { fmt.Fprintf(p.out, format+"\n", args...) }

// Always is a description that does not change.
func Always(what string) func() string { return func() string { return what } }

// Follow shows how much of total is done, of what, until stop is called.
func (p View) Follow(what func() string, total int, done func() int) (stop func()) {
	every, show := lineEvery, func() { p.Say("%s: %d of %d", what(), done(), total) }
	finish := func() {}
	if p.bar {
		bar := progressbar.NewOptions(total, progressbar.OptionSetWriter(p.out), progressbar.OptionSetDescription(what()),
			progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionClearOnFinish())
		every, show = barEvery, func() { bar.Describe(what()); bar.Set(done()) } //nolint:errcheck // only a picture
		finish = func() { bar.Finish() }                                         //nolint:errcheck // only a picture
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
