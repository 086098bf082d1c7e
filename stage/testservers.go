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
	"time"

	"cartwright/internal/servers"
)

const serversHelp = `
Usage: cartwright servers [--record file] command [argument ...]

Starts a private MariaDB and a private RabbitMQ on free ports in a temporary directory, runs the
command with these in its environment, and removes the servers when it ends:

  CARTWRIGHT_TEST_ADMIN_DSN         the database; this account may do everything
  CARTWRIGHT_TEST_AMQP_URL          the broker; this account may do everything
  CARTWRIGHT_TEST_BROKER_ADMIN_URL  its administration, with the same account
  CARTWRIGHT_TEST_REQUIRE=1         a test that finds no servers has to fail

Where these name servers already, the command runs beside those, and none is started.

  --record file  when the command has ended well, write which servers it ran beside into the table
                 in this file: a row for each kind of database

For tests: cartwright servers go test ./...
Ends with the command's own status.
`

// An ExitError says with which status a command that was run for somebody ended.
type ExitError struct{ Status int }

func (e *ExitError) Error() string { return fmt.Sprintf("the command ended with status %d", e.Status) }

// Servers runs a command beside servers for tests. Errors: *ExitError when it ends badly.
func (s *Stage) Servers(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("cartwright servers", flag.ContinueOnError)
	record := flags.String("record", "", "")
	if done, err := s.parse(flags, serversHelp, args); done || err != nil {
		return err
	}
	if flags.NArg() == 0 {
		return errors.New("servers: name a command to run (see cartwright servers --help)")
	}
	began := time.Now()
	beside, stop, err := s.testServers(ctx)
	if err != nil {
		return err
	}
	err = s.runBeside(ctx, beside, flags.Args())
	if err == nil && *record != "" {
		err = recordRun(ctx, *record, beside, began)
	}
	return errors.Join(err, stop())
}

// besides are the servers that a command runs beside: accounts that may do everything.
type besides struct{ adminDSN, amqpURL, brokerAdminURL string }

// testServers are those that the environment names, or new ones. stop ends what was started.
func (s *Stage) testServers(ctx context.Context) (beside besides, stop func() error, err error) {
	beside.adminDSN, _ = s.setting("TEST_ADMIN_DSN")
	beside.amqpURL, _ = s.setting("TEST_AMQP_URL")
	beside.brokerAdminURL, _ = s.setting("TEST_BROKER_ADMIN_URL")
	switch empty := (besides{}); {
	case beside == empty:
		return startTestServers(ctx)
	case beside.adminDSN == "" || beside.amqpURL == "" || beside.brokerAdminURL == "":
		return empty, nil, fmt.Errorf("servers: set all of %[1]sTEST_ADMIN_DSN, %[1]sTEST_AMQP_URL and %[1]sTEST_BROKER_ADMIN_URL, or none", prefix)
	}
	return beside, func() error { return nil }, nil
}

func startTestServers(ctx context.Context) (beside besides, stop func() error, err error) {
	if missing := servers.Missing(); missing != nil {
		return beside, nil, &servers.MissingError{Packages: missing}
	}
	dir, err := os.MkdirTemp("", "cartwright-servers-")
	if err != nil {
		return beside, nil, fmt.Errorf("servers: %w", err)
	}
	if err := os.Chmod(dir, 0o755); err != nil { // the packages' users must be able to pass
		return beside, nil, errors.Join(err, os.RemoveAll(dir))
	}
	database, err := servers.StartMariaDB(ctx, servers.MariaDBConfig{
		Dir: filepath.Join(dir, mariaDB), Admin: adminAccount, Password: rand.Text(), OnParentDeath: syscall.SIGKILL,
	})
	if err != nil {
		return beside, nil, errors.Join(err, os.RemoveAll(dir))
	}
	broker, err := servers.StartRabbitMQ(ctx, servers.RabbitMQConfig{
		Dir: filepath.Join(dir, rabbitMQ), User: brokerAccount, Password: rand.Text(), OnParentDeath: syscall.SIGKILL,
	})
	if err != nil {
		return beside, nil, errors.Join(err, database.Kill(), os.RemoveAll(dir))
	}
	stop = func() error { return errors.Join(broker.Kill(), database.Kill(), os.RemoveAll(dir)) }
	return besides{adminDSN: database.DSN(), amqpURL: broker.URL(), brokerAdminURL: broker.AdminURL()}, stop, nil
}

func (s *Stage) runBeside(ctx context.Context, beside besides, args []string) error {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopLimit
	cmd.Stdin, cmd.Stdout, cmd.Stderr = s.In, s.Out, os.Stderr
	cmd.Env = append(slices.Clone(s.Environ),
		prefix+"TEST_ADMIN_DSN="+beside.adminDSN, prefix+"TEST_AMQP_URL="+beside.amqpURL,
		prefix+"TEST_BROKER_ADMIN_URL="+beside.brokerAdminURL, prefix+"TEST_REQUIRE=1")
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		err = &ExitError{Status: exit.ExitCode()}
	}
	return err
}
