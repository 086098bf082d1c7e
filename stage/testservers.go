package stage

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"

	"cartwright/internal/servers"
)

const serversHelp = `
Usage: cartwright servers command [argument ...]

Starts a private MariaDB and a private RabbitMQ on free ports in a temporary directory, runs the
command with these in its environment, and removes the servers when it ends:

  CARTWRIGHT_TEST_ADMIN_DSN   the database; this account may do everything
  CARTWRIGHT_TEST_AMQP_URL    the broker; this account may do everything
  CARTWRIGHT_TEST_BROKER_ADMIN_URL  its administration, with the same account
  CARTWRIGHT_TEST_REQUIRE=1   a test that finds no servers has to fail

For tests: cartwright servers go test ./...
Ends with the command's own status.
`

// An ExitError says with which status a command that was run for somebody ended.
type ExitError struct{ Status int }

func (e *ExitError) Error() string { return fmt.Sprintf("the command ended with status %d", e.Status) }

// Servers runs a command beside servers of its own. Errors: *ExitError when it ends badly.
func (s *Stage) Servers(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("cartwright servers", flag.ContinueOnError)
	if done, err := s.parse(flags, serversHelp, args); done || err != nil {
		return err
	}
	if flags.NArg() == 0 {
		return errors.New("servers: name a command to run (see cartwright servers --help)")
	}
	if missing := servers.Missing(); missing != nil {
		return &servers.MissingError{Packages: missing}
	}
	dir, err := os.MkdirTemp("", "cartwright-servers-")
	if err != nil {
		return fmt.Errorf("servers: %w", err)
	}
	if err := os.Chmod(dir, 0o755); err != nil { // the packages' users must be able to pass
		return errors.Join(err, os.RemoveAll(dir))
	}
	return errors.Join(s.beside(ctx, dir, flags.Args()), os.RemoveAll(dir))
}

func (s *Stage) beside(ctx context.Context, dir string, args []string) error {
	database, err := servers.StartMariaDB(ctx, servers.MariaDBConfig{
		Dir: filepath.Join(dir, mariaDB), Admin: adminAccount, Password: rand.Text(), OnParentDeath: syscall.SIGKILL,
	})
	if err != nil {
		return err
	}
	broker, err := servers.StartRabbitMQ(ctx, servers.RabbitMQConfig{
		Dir: filepath.Join(dir, rabbitMQ), User: brokerAccount, Password: rand.Text(), OnParentDeath: syscall.SIGKILL,
	})
	if err != nil {
		return errors.Join(err, database.Kill())
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopLimit
	cmd.Stdin, cmd.Stdout, cmd.Stderr = s.In, s.Out, os.Stderr
	cmd.Env = append(slices.Clone(s.Environ),
		prefix+"TEST_ADMIN_DSN="+database.DSN(), prefix+"TEST_AMQP_URL="+broker.URL(),
		prefix+"TEST_BROKER_ADMIN_URL="+broker.AdminURL(), prefix+"TEST_REQUIRE=1")
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		err = &ExitError{Status: exit.ExitCode()}
	}
	return errors.Join(err, broker.Kill(), database.Kill()) // their data goes next
}
