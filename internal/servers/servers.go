// Package servers runs private instances of MariaDB and RabbitMQ out of this machine's own
// packages: own data directory, own ports on 127.0.0.1, own passwords. It never touches the
// instances that the system's service manager may run, and knows nothing of what is kept in
// them.
//
// A server is kept by whoever started it: it ends when it is stopped, and, where the
// configuration says so, when its parent dies. To see what a crash does, Kill it and start it
// again with its own Config: same directory, same ports, same data.
package servers

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// startLimit is how long a server may take until it answers: RabbitMQ needs 5 to 10 s on
	// two quiet cores, and InnoDB may have minutes of log to replay after a crash.
	startLimit = 3 * time.Minute

	// pollEvery is how often a server that starts is asked whether it answers yet.
	pollEvery = 100 * time.Millisecond

	// askLimit bounds one such question.
	askLimit = 2 * time.Second
)

// A MissingError names the Debian and Ubuntu packages without which a server cannot start.
type MissingError struct{ Packages []string }

func (e *MissingError) Error() string {
	list := strings.Join(e.Packages, " ")
	return fmt.Sprintf("not installed: %s (./setup.sh installs what is missing, or: apt-get install %s)", list, list)
}

// Missing returns the packages that are not installed on this machine, or nothing.
func Missing() []string {
	var missing []string
	if _, err := mariaDBPrograms(); err != nil {
		missing = append(missing, mariaDBPackage)
	}
	if _, err := rabbitMQPrograms(); err != nil {
		missing = append(missing, rabbitMQPackage)
	}
	return missing
}

// find returns the path of a program, by name or by path, also from the directories that an
// ordinary user's PATH leaves out.
func find(names ...string) (string, error) {
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
		for _, dir := range []string{"/usr/sbin", "/usr/local/sbin"} {
			if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
				return path, nil
			}
		}
	}
	return "", fmt.Errorf("program %s: %w", names[0], exec.ErrNotFound)
}

const (
	// Ports for servers are drawn from below the range that the kernel gives to outgoing
	// connections, or one of those could take a port between the draw and its use.
	portFirst, portLast = 20000, 31999

	// portTries is far more than a machine with a few hundred busy ports needs.
	portTries = 100
)

// FreePort returns a TCP port of 127.0.0.1 that nobody listens on now, and that no other call,
// of this process or of another one, gets while this process lives: a port is drawn long before
// a server listens on it, and tests of several packages draw dozens at a time.
func FreePort() (int, error) {
	var last error
	for range portTries {
		port := portFirst + rand.IntN(portLast-portFirst+1)
		if last = PortIsFree(port); last != nil {
			continue
		}
		if last = claim(port); last == nil {
			return port, nil
		}
	}
	return 0, fmt.Errorf("free port: %w", last)
}

// PortIsFree returns nil if a server could listen on that port of 127.0.0.1 now.
func PortIsFree(port int) error {
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return err
	}
	return l.Close()
}

// claimed keeps the sockets of claim open: one that the collector finds would be closed.
var claimed sync.Map

// claim takes the port's name among the abstract sockets of the kernel, which frees it when
// this process ends, however it ends (unix(7)).
func claim(port int) error {
	l, err := net.Listen("unix", fmt.Sprintf("@cartwright-port-%d", port))
	if err != nil {
		return err
	}
	claimed.Store(port, l)
	return nil
}

// fillPorts gives every port that is zero a free one.
func fillPorts(ports ...*int) error {
	for _, p := range ports {
		if *p != 0 {
			continue
		}
		free, err := FreePort()
		if err != nil {
			return err
		}
		*p = free
	}
	return nil
}

// untilAnswers asks until there is an answer, the process ends, or ctx does.
func untilAnswers(ctx context.Context, p *Process, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	again := time.NewTicker(pollEvery)
	defer again.Stop()
	for {
		askCtx, done := context.WithTimeout(ctx, askLimit)
		err := ask(askCtx)
		done()
		if err == nil {
			return nil
		}
		select {
		case <-again.C:
		case <-p.Done():
			if err := p.Err(); err != nil {
				return err
			}
			return fmt.Errorf("%s: ended while it was starting", p.name)
		case <-ctx.Done():
			return fmt.Errorf("%s: no answer: %w: %w", p.name, ctx.Err(), err)
		}
	}
}

func ended(err error) bool {
	return errors.Is(err, os.ErrProcessDone) || errors.Is(err, syscall.ESRCH)
}
