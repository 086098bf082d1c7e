package stage

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// errNoShop says that nothing was ever started in this directory.
var errNoShop = errors.New("there is no shop here yet: start one with up")

const envHelp = `
Usage: cartwright env

Prints the settings with which people and other programs use the shop of this directory, as
lines for a shell:  eval "$(./setup.sh env)"

  CARTWRIGHT_URL             the HTTP API
  CARTWRIGHT_STAFF_KEY       the key of the staff's routes: Authorization: Bearer <key>
  CARTWRIGHT_AMQP_URL        the broker; this account may do everything
  CARTWRIGHT_BROKER_ADMIN_URL  its administration; the same account
  CARTWRIGHT_ADMIN_DSN       the database; this account may do everything
  CARTWRIGHT_MYSQL_DSN       the database; this account may read everything
  CARTWRIGHT_INVENTORY_ADDR  gRPC of the inventory, its first replica
  CARTWRIGHT_CHECKOUTMANAGER_ADDR  gRPC of the checkoutmanager, its first replica
  CARTWRIGHT_TLS_DIR         certificates; people call with operator.crt and operator.key
  CARTWRIGHT_NAMESPACE       only where one was chosen
`

// Env prints the settings as export lines, and nothing else.
func (s *Stage) Env(_ context.Context, args []string) error {
	flags := flag.NewFlagSet("cartwright env", flag.ContinueOnError)
	if done, err := s.parse(flags, envHelp, args); done || err != nil {
		return err
	}
	if err := noMore(flags); err != nil {
		return err
	}
	var p plan
	if err := readJSON(s.in(planFile), &p); err != nil {
		return fmt.Errorf("env: %w", err)
	}
	if p.Program == "" {
		return errNoShop
	}
	sec, err := s.readSecrets()
	if err != nil {
		return fmt.Errorf("env: %w", err)
	}
	env := p.exports(sec)
	for _, name := range slices.Sorted(maps.Keys(env)) {
		s.say("export %s=%s", name, shellQuoted(env[name]))
	}
	return nil
}

func shellQuoted(text string) string {
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// exports are the settings with which people and other programs use the shop.
func (p plan) exports(sec secrets) map[string]string {
	first := func(service string) string {
		for _, process := range p.Processes {
			if process.Service == service {
				return reachable(process.Listen)
			}
		}
		return ""
	}
	env := map[string]string{
		prefix + "URL":              "http://" + first("gateway"),
		prefix + "STAFF_KEY":        sec.StaffKey,
		prefix + "AMQP_URL":         p.brokerURL(),
		prefix + "BROKER_ADMIN_URL": p.brokerAdminURL(),
		prefix + "ADMIN_DSN":        p.adminDSN(),
		prefix + "MYSQL_DSN":        p.readerDSN(sec),
		prefix + "INVENTORY_ADDR":   first("inventory"),

		prefix + "CHECKOUTMANAGER_ADDR": first("checkoutmanager"),
	}
	if certs, has := p.Processes[0].Env[prefix+"TLS_DIR"]; has {
		env[prefix+"TLS_DIR"] = certs
	}
	if namespace, chosen := p.Migrate.Env[prefix+"NAMESPACE"]; chosen {
		env[prefix+"NAMESPACE"] = namespace // or the names of databases and queues could not be known
	}
	return env
}
