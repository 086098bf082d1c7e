//go:build failpoints && unix

package failpoint

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"cartwright/internal/fault"
)

var errLost = errors.New("the connection broke at a failpoint")

// Hit marks a step. Its error, if there is one, stands for the answer that got lost.
func Hit(p Point) error {
	switch take(p) {
	case Kill:
		signal(syscall.SIGKILL)
		select {}
	case Stop:
		signal(syscall.SIGSTOP)
	case Lost:
		return fault.Away("the other side", errLost)
	}
	return nil
}

// After marks the step that follows when err is nil. It returns err, or what Hit returns.
func After(err error, p Point) error {
	if err != nil {
		return err
	}
	return Hit(p)
}

// Cut is Hit on a link: the answer that gets lost takes the link with it.
func Cut(p Point, link any) error {
	err := Hit(p)
	if closer, can := link.(io.Closer); can && err != nil {
		return errors.Join(err, closer.Close())
	}
	return err
}

// take returns what a point is armed with, to whoever is first. It leaves word of who that was.
func take(p Point) Action {
	armed := filepath.Join(os.Getenv(Folder), string(p))
	action, err := os.ReadFile(armed)
	if err != nil {
		return ""
	}
	if os.Rename(armed, armed+hitBy+strconv.Itoa(os.Getpid())) != nil {
		return "" // somebody was faster
	}
	return Action(action)
}

func signal(s syscall.Signal) {
	if err := syscall.Kill(os.Getpid(), s); err != nil {
		panic(err)
	}
}
