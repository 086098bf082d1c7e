package stage

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Names in the directory of a stage.
const (
	choicesFile = "choices.json" // what people asked for, kept for the next up
	secretsFile = "secrets.json"
	planFile    = "plan.json"  // what should run
	stateFile   = "state.json" // what runs
	keeperLock  = "supervisor.lock"
	upLock      = "up.lock"
	logDir      = "log"
	binDir      = "bin"
	certsDir    = "certs"
)

// readJSON fills v from a file. A file that does not exist leaves v as it is.
func readJSON(path string, v any) error {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// writeJSON writes a file in one step: whoever reads it sees the old text or the new, whole.
// Only this user can read it, since passwords are in most of them.
func writeJSON(path string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // made for this user alone
	if err != nil {
		return err
	}
	_, errWrite := f.Write(append(text, '\n'))
	err = errors.Join(errWrite, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("%s: %w", path, err), os.Remove(f.Name()))
	}
	return nil
}

// errLocked says that another process holds a lock.
var errLocked = errors.New("another process holds it")

// lock takes a lock that the kernel gives back when this process ends, however it ends.
// Errors: errLocked.
func lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.FcntlFlock(f.Fd(), syscall.F_SETLK, &syscall.Flock_t{Type: syscall.F_WRLCK})
	if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) {
		err = errLocked
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return f, nil
}

// holder returns the number of the other process that holds a lock, or 0.
func holder(path string) (pid int, err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	held := syscall.Flock_t{Type: syscall.F_WRLCK}
	if err := syscall.FcntlFlock(f.Fd(), syscall.F_GETLK, &held); err != nil {
		return 0, fmt.Errorf("lock %s: %w", path, err)
	}
	if held.Type == syscall.F_UNLCK {
		return 0, nil
	}
	return int(held.Pid), nil
}
