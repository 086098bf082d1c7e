package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"text/tabwriter"

	"cartwright/cartmanager"
	"cartwright/catalogue"
	"cartwright/checkoutmanager"
	"cartwright/gateway"
	"cartwright/internal/lifecycle"
	"cartwright/internal/logging"
	"cartwright/internal/settings"
	"cartwright/inventory"
	"cartwright/payments"
	"cartwright/verify"
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
	err := errors.Join(settings.Load(os.Environ(), &logs), settings.Load(os.Environ(), s))
	if err != nil {
		return nil, err
	}
	log, err := logging.New(os.Stderr, logs, name)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		easeCollector()
		log.Info("starting")
		err := run(ctx, log, *s)
		log.Info("stopped", "error", err)
		return err
	}, nil
}

// garbagePercent lets a heap of a few megabytes grow to a few times its size before it is
// collected. By Go's default, such small heaps are collected dozens of times a second under load.
const garbagePercent = 400

// easeCollector leaves the choice to GOGC, where that is set.
func easeCollector() {
	if _, chosen := os.LookupEnv("GOGC"); !chosen {
		debug.SetGCPercent(garbagePercent)
	}
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

// dev runs all services in one process. They are stopped in the order in which requests travel.
func dev(ctx context.Context, args []string) error {
	if len(args) > 0 {
		return noArguments("dev", "all services in one process, each with its settings", args, &struct{}{})
	}
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

func verifyAll(ctx context.Context, out io.Writer, s verify.Settings) error {
	agree, err := verify.Run(ctx, out, s)
	if err == nil && !agree {
		return errDiffers
	}
	return err
}
