package failpoint

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Folder is the environment variable that names the folder in which a process's points are armed.
const Folder = "CARTWRIGHT_FAILPOINTS"

// Action is what happens at a point.
type Action string

// What can happen. What was done before the point stays done.
const (
	Kill Action = "kill" // the process ends with SIGKILL
	Stop Action = "stop" // the process is stopped with SIGSTOP, until somebody resumes it
	Lost Action = "lost" // an error comes back, as when a connection breaks before the answer
)

// Actions are all of them.
func Actions() []Action { return []Action{Kill, Stop, Lost} }

const hitBy = ".hit-by-"

// Arm makes the next process that comes by a point do something there.
func Arm(dir string, p Point, a Action) error {
	unready, err := os.CreateTemp(dir, "unready-")
	if err != nil {
		return err
	}
	_, err = unready.WriteString(string(a))
	if err = errors.Join(err, unready.Close()); err != nil {
		return err
	}
	return os.Rename(unready.Name(), filepath.Join(dir, string(p)))
}

// Disarm takes back what nobody has come by.
func Disarm(dir string, p Point) error { return os.Remove(filepath.Join(dir, string(p))) }

// HitBy tells which process a point has gone off in since it was armed, and forgets it; 0 when it
// has not.
func HitBy(dir string, p Point) (pid int, err error) {
	found, err := filepath.Glob(filepath.Join(dir, string(p)+hitBy+"*"))
	if err != nil || len(found) == 0 {
		return 0, err
	}
	if pid, err = strconv.Atoi(found[0][strings.LastIndex(found[0], hitBy)+len(hitBy):]); err != nil {
		return 0, err
	}
	return pid, os.Remove(found[0])
}
