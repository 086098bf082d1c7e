package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"text/tabwriter"

	"cartwright/internal/logging"
	"cartwright/internal/messaging"
	"cartwright/jobs"
)

type queuesSettings struct {
	logging.Settings
	Broker messaging.Settings
}

// queues prints what waits on each queue.
func queues(ctx context.Context, out io.Writer, s queuesSettings) error {
	broker := messaging.Broker{URL: s.Broker.URL, Topology: jobs.Topology(s.Broker.Namespace), Log: slog.New(slog.DiscardHandler)}
	depths, err := broker.Depths(ctx)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "QUEUE\tWAITING\tCONSUMERS")
	for _, d := range depths {
		fmt.Fprintf(table, "%s\t%d\t%d\n", d.Queue, d.Waiting, d.Consumers)
	}
	return table.Flush()
}
