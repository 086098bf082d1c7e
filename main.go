// Cartwright is a cart, stock and checkout engine. This file is the map of it: one program, and
// a table of what it can be.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"cartwright/cartmanager"
	"cartwright/catalogue"
	"cartwright/checkoutmanager"
	"cartwright/demo"
	"cartwright/gateway"
	"cartwright/inventory"
	"cartwright/payments"
	"cartwright/stage"
)

// command is one thing that the program can be.
type command struct {
	name, does string
	run        func(ctx context.Context, args []string) error
}

// commands is the table; help prints it in this order.
func commands(out io.Writer) ([]command, error) {
	st, err := stage.New()
	if err != nil {
		return nil, err
	}
	return []command{
		service("gateway", "HTTP: takes requests, queues jobs, waits for answers", gateway.Run),
		service("cartmanager", "worker: changes carts", cartmanager.Run),
		service("checkoutmanager", "worker: turns carts into paid orders", checkoutmanager.Run),
		service("inventory", "gRPC: reserves, commits and rolls back stock", inventory.Run),
		service("payments", "gRPC: takes money and gives it back", payments.Run),
		service("catalogue", "gRPC: products and prices", catalogue.Run),
		{"dev", "all of these in one process", dev(st.Certs())},

		{"certs", "makes the certificates of services and people, or renews them", certs(out, st.Certs())},
		task("migrate", "makes databases, tables and accounts, or brings them up to date", out, migrate),
		{"verify", "recomputes every balance and names each row that differs", balances(out)},
		{"queues", "shows what waits on each queue; pauses and resumes them; replays and drops dead letters", queues(out)},
		{"checkouts", "lists checkouts that have not ended; resumes and undoes them", checkouts(out)},
		task("demo", "fills a few shelves and places one order over HTTP", out, demo.Run),
		{"bench", "loads a running shop and tells how fast it is, and whether it was right", benchmark(out, st)},

		{"chaos", "starts a shop of its own, breaks it in every way, and tells whether anything was lost", chaosOn(out, st)},

		{"up", "starts a whole shop on this machine, without containers", st.Up},
		{"down", "ends what up started; data is kept", st.Down},
		{"status", "shows what runs", st.Status},
		{"logs", "shows a service's log", st.Logs},
		{"env", "prints the shop's addresses and keys as export lines", st.Env},
		{"reset", "deletes the shop's data, after asking", st.Reset},
		{"supervise", "keeps the shop's processes running; up starts it", supervise(st)},
		{"servers", "runs a command beside private MariaDB and RabbitMQ servers", st.Servers},
		{"healthcheck", "tells whether a service in this container is ready", st.Healthcheck},
	}, nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errDiffers):
		os.Exit(1)
	default:
		fmt.Fprintln(os.Stderr, "cartwright:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	all, err := commands(out)
	if err != nil {
		return err
	}
	if len(args) == 0 || args[0] == "help" || args[0] == "--help" || args[0] == "-h" {
		usage(out, all)
		return nil
	}
	for _, c := range all {
		if c.name == args[0] {
			return c.run(ctx, args[1:])
		}
	}
	return fmt.Errorf("there is no command %q; cartwright help lists them", args[0])
}

func usage(out io.Writer, all []command) {
	fmt.Fprint(out, "Cartwright is a cart, stock and checkout engine.\n\nusage: cartwright <command> [flags]\n\n")
	for _, c := range all {
		fmt.Fprintf(out, "  %-16s %s\n", c.name, c.does)
	}
	fmt.Fprint(out, "\ncartwright <command> --help tells more, with the settings that the command reads.\n")
}
