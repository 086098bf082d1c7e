// Package stage runs a whole shop on one machine without containers: private MariaDB and
// RabbitMQ, and each replica of each service as a process of its own, under a supervisor that
// starts again what dies. It owns the directory .cartwright and everything in it, and touches
// nothing outside.
//
// The commands do not talk to the supervisor, they leave it a plan: Up works out which
// processes there should be, with every argument and setting, and writes that to plan.json.
// The supervisor makes it so, at its start and at every SIGHUP, and writes what runs to
// state.json. So the supervisor of an older build runs the services of a newer one.
package stage

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// prefix begins the name of every setting.
const prefix = "CARTWRIGHT_"

// A Stage is a shop's directory and what its commands read and write.
type Stage struct {
	Home    string   // absolute
	Environ []string // KEY=value; settings are read from it
	Program string   // this program's executable
	In      io.Reader
	Out     io.Writer // what was asked for

	// Detour says where a process finds another one that it connects with, in place of that one's
	// own address. Processes are named as in Process, the servers mariadb and rabbitmq. Nil leads
	// everybody straight.
	Detour func(from, to, address string) (string, error)
}

// New is the stage that the environment names: in CARTWRIGHT_HOME, or in .cartwright under the
// current directory.
func New() (*Stage, error) {
	home := os.Getenv(prefix + "HOME")
	if home == "" {
		home = ".cartwright"
	}
	home, errHome := filepath.Abs(home)
	program, errProgram := os.Executable()
	if err := errors.Join(errHome, errProgram); err != nil {
		return nil, fmt.Errorf("stage: %w", err)
	}
	return &Stage{Home: home, Environ: os.Environ(), Program: program, In: os.Stdin, Out: os.Stdout}, nil
}

func (s *Stage) in(names ...string) string {
	return filepath.Join(append([]string{s.Home}, names...)...)
}

func (s *Stage) say(format string, args ...any) { fmt.Fprintf(s.Out, format+"\n", args...) }

// setting returns the value of CARTWRIGHT_<name> and whether it is set at all.
func (s *Stage) setting(name string) (string, bool) {
	for _, pair := range s.Environ {
		if key, value, _ := strings.Cut(pair, "="); key == prefix+name {
			return value, true
		}
	}
	return "", false
}

// parse reads the flags of a command. It returns done when help was asked for and given.
func (s *Stage) parse(flags *flag.FlagSet, help string, args []string) (done bool, err error) {
	flags.SetOutput(io.Discard) // flag would print its own idea of a usage
	err = flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		s.say("%s", strings.TrimSpace(help))
		return true, nil
	case err != nil:
		return false, fmt.Errorf("%w (see %s --help)", err, flags.Name())
	}
	return false, nil
}

// noMore refuses arguments that a command does not take.
func noMore(flags *flag.FlagSet) error {
	if flags.NArg() > 0 {
		return fmt.Errorf("unknown argument %q (see %s --help)", flags.Arg(0), flags.Name())
	}
	return nil
}
