package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"text/tabwriter"

	"cartwright/access"
	"cartwright/cartmanager"
	"cartwright/catalogue"
	"cartwright/checkoutmanager"
	"cartwright/gateway"
	"cartwright/internal/identity"
	"cartwright/internal/lifecycle"
	"cartwright/internal/logging"
	"cartwright/internal/settings"
	"cartwright/inventory"
	"cartwright/payments"
	"cartwright/stage"
)

// errDiffers ends verify when balances differ; what differs is printed already.
var errDiffers = errors.New("balances differ")

// service makes the command of a service: read its settings, make its log, run it.
func service[S any](name, does string, run func(context.Context, *slog.Logger, S) error) command {
	return command{name, does, func(ctx context.Context, args []string) error {
		var s S
		if err := noArguments(name, does, args, &s); err != nil {
			return err
		}
		start, err := prepared(name, &s, run)
		if err != nil {
			return err
		}
		return start(ctx)
	}}
}

// prepared reads a service's settings and returns how to run it.
func prepared[S any](name string, s *S, run func(context.Context, *slog.Logger, S) error) (func(context.Context) error, error) {
	var logs logging.Settings
	environ := withOwnBroker(os.Environ(), name)
	err := errors.Join(settings.Load(environ, &logs), settings.Load(environ, s))
	if err != nil {
		return nil, err
	}
	log, err := logging.New(os.Stderr, logs, name)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		easeCollector(ctx)
		if err := workInBatches(); err != nil {
			log.Warn("works on, and may do less", "error", err)
		}
		log.Info("starting")
		err := run(ctx, log, *s)
		log.Info("stopped", "error", err)
		return err
	}, nil
}

// supervise makes the command that keeps a shop's processes, all of them batch work: its servers too.
func supervise(st *stage.Stage) func(context.Context, []string) error {
	return func(ctx context.Context, args []string) error {
		if err := workInBatches(); err != nil {
			fmt.Fprintln(os.Stderr, "cartwright: works on, and may do less:", err)
		}
		return st.Supervise(ctx, args)
	}
}

// withOwnBroker gives a service the broker account that is its own, where CARTWRIGHT_<SERVICE>_AMQP_URL
// names one, in place of the common CARTWRIGHT_AMQP_URL: so one environment serves all commands.
func withOwnBroker(environ []string, service string) []string {
	common, own := settings.Prefix+"AMQP_URL", settings.Prefix+strings.ToUpper(service)+"_AMQP_URL"
	var others, found []string
	for _, pair := range environ {
		key, value, _ := strings.Cut(pair, "=")
		switch strings.TrimSuffix(key, "_FILE") {
		case own:
			if value != "" {
				found = append(found, common+strings.TrimPrefix(pair, own))
			}
		case common:
		default:
			others = append(others, pair)
		}
	}
	if found == nil {
		return environ
	}
	return append(others, found...)
}

// task makes the command of something that ends by itself and prints.
func task[S any](name, does string, out io.Writer, run func(context.Context, io.Writer, S) error) command {
	return command{name, does, func(ctx context.Context, args []string) error {
		var s S
		if err := noArguments(name, does, args, &s); err != nil {
			return err
		}
		if err := settings.Load(os.Environ(), &s); err != nil {
			return err
		}
		return run(ctx, out, s)
	}}
}

// noArguments answers --help, and refuses everything else.
func noArguments(name, does string, args []string, s any) error {
	switch {
	case len(args) == 0:
		return nil
	case args[0] == "--help" || args[0] == "-h" || args[0] == "-help":
		fmt.Printf("cartwright %s: %s.\n\nIt takes no flags. Settings, from the environment (each also as …_FILE, the path of a file with the value):\n\n", name, does)
		printSettings(os.Stdout, settings.Describe(s))
		return flag.ErrHelp
	}
	return fmt.Errorf("%s takes no arguments, got %q", name, args[0])
}

func printSettings(out io.Writer, all []settings.Setting) {
	table := tabwriter.NewWriter(out, 2, 0, 2, ' ', 0)
	for _, s := range all {
		byDefault := s.Default
		if s.Required {
			byDefault = "(required)"
		}
		fmt.Fprintf(table, "  %s\t%s\t%s\n", s.Key, byDefault, s.Help)
	}
	table.Flush() //nolint:errcheck // standard output is gone
}

// dev makes the command that runs all services in one process, with certificates in certsDir
// unless its settings say otherwise.
func dev(certsDir string) func(context.Context, []string) error {
	return func(ctx context.Context, args []string) error {
		if len(args) > 0 {
			return noArguments("dev", "all services in one process, each with its settings", args, &struct{}{})
		}
		if err := certsForDev(certsDir); err != nil {
			return err
		}
		return runAll(ctx)
	}
}

// certsForDev makes certificates where no setting says whose to use.
func certsForDev(dir string) error {
	var chosen identity.Settings
	if err := settings.Load(os.Environ(), &chosen); err == nil || chosen.Dir != "" || chosen.Insecure {
		return nil // what is wrong with a choice is told with the other settings
	}
	authority := identity.Authority{Dir: dir, Life: certDays * day}
	if _, err := authority.Ensure(access.Subjects(), nil); err != nil {
		return fmt.Errorf("certificates: %w", err)
	}
	return os.Setenv(settings.Prefix+"TLS_DIR", dir)
}

// runAll stops the services in the order in which requests travel.
func runAll(ctx context.Context) error {
	var parts []lifecycle.Part
	var faults []error
	add := func(name string, start func(context.Context) error, err error) {
		parts, faults = append(parts, lifecycle.Part{Name: name, Run: start}), append(faults, err)
	}
	start, err := prepared("catalogue", &catalogue.Settings{}, catalogue.Run)
	add("catalogue", start, err)
	start, err = prepared("inventory", &inventory.Settings{}, inventory.Run)
	add("inventory", start, err)
	start, err = prepared("payments", &payments.Settings{}, payments.Run)
	add("payments", start, err)
	start, err = prepared("cartmanager", &cartmanager.Settings{}, cartmanager.Run)
	add("cartmanager", start, err)
	start, err = prepared("checkoutmanager", &checkoutmanager.Settings{}, checkoutmanager.Run)
	add("checkoutmanager", start, err)
	start, err = prepared("gateway", &gateway.Settings{}, gateway.Run)
	add("gateway", start, err)
	if err := errors.Join(faults...); err != nil {
		return err
	}
	return lifecycle.Run(ctx, slog.New(slog.NewJSONHandler(os.Stderr, nil)), parts...)
}
