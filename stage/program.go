package stage

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// programPrefix begins the name of every kept program; a digest of its content follows.
const programPrefix = "shop-"

// keepProgram puts a copy of this program where no build and no `go run` takes it away, and
// returns its path: a process that is started again tomorrow must be of the same build as
// its neighbours.
func (s *Stage) keepProgram() (string, error) {
	source, err := os.Open(s.Program)
	if err != nil {
		return "", err
	}
	defer source.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, source); err != nil {
		return "", err
	}
	path := s.in(binDir, programPrefix+hex.EncodeToString(sum.Sum(nil)[:6]))
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if _, err := source.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	return path, copyProgram(path, source)
}

// copyProgram makes the file whole or not at all.
func copyProgram(path string, source io.Reader) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".half-*")
	if err != nil {
		return err
	}
	_, errCopy := io.Copy(f, source)
	err = errors.Join(errCopy, f.Chmod(0o755), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("%s: %w", path, err), os.Remove(f.Name()))
	}
	return nil
}

// dropPrograms removes the programs of former builds.
func (s *Stage) dropPrograms(except string) error {
	all, err := filepath.Glob(s.in(binDir, programPrefix+"*"))
	for _, path := range all {
		if path != except {
			err = errors.Join(err, os.Remove(path))
		}
	}
	return err
}
