package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	"cartwright/internal/messaging"
	"cartwright/internal/pauses"
	"cartwright/internal/store"
)

// unknown stands where nobody can tell.
const unknown = "-"

// ageLooks is how many dead letters are looked at for the oldest. When more lie there, it is at least
// as old as the oldest of these: RabbitMQ puts what was looked at behind what was not.
const ageLooks = 100

// showQueues prints what lies on each queue and how it moves, and which are paused. It prints what it
// can also when no database answers, or no management.
func showQueues(ctx context.Context, out io.Writer, s queuesSettings) error {
	broker := s.broker()
	depths, err := broker.Depths(ctx)
	if err != nil {
		return err
	}
	var faults []error
	admin, err := s.administration(ctx)
	faults = append(faults, err)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "QUEUE\tWAITING\tIN HAND\tOLDEST\tIN/S\tOUT/S\tCONSUMERS\tPAUSED")
	for i, d := range depths {
		flow, paused, oldest := messaging.Flow{}, "", unknown
		if admin != nil {
			flow, err = admin.Flow(ctx, s.Broker.URL, broker.Topology, d.Queue)
			faults = append(faults, err)
		}
		if jobDatabases[d.Queue] != "" {
			paused, err = howItStands(ctx, s, d.Queue)
			faults = append(faults, err)
		}
		if work := workQueueOf(depths[:i+1]); d.Queue == work.Dead() && d.Waiting > 0 {
			oldest, err = oldestLetter(ctx, broker, work)
			faults = append(faults, err)
		}
		fmt.Fprintf(table, "%s\t%d\t%s\t%s\t%s\t%s\t%d\t%s\n", d.Queue, d.Waiting, inHand(flow), oldest, perSecond(flow.In), perSecond(flow.Out), d.Consumers, paused)
	}
	return errors.Join(append(faults, table.Flush())...)
}

// administration is the broker's, nil where no setting names it. One that does not answer costs only
// what it would have told.
func (s queuesSettings) administration(ctx context.Context) (*messaging.Administration, error) {
	if s.AdminURL == "" {
		return nil, nil
	}
	admin, err := messaging.Administer(ctx, s.AdminURL)
	if err != nil {
		return nil, err
	}
	return admin, nil
}

// workQueueOf is the last work queue of a list in the order of the topology.
func workQueueOf(depths []messaging.Depth) (work messaging.Queue) {
	for _, d := range depths {
		if jobDatabases[d.Queue] != "" {
			work = d.Queue
		}
	}
	return work
}

func inHand(f messaging.Flow) string {
	if f.InHand == nil {
		return unknown
	}
	return strconv.Itoa(*f.InHand)
}

func perSecond(rate *float64) string {
	if rate == nil {
		return unknown
	}
	return strconv.FormatFloat(*rate, 'f', 1, 64)
}

// oldestLetter says how long ago the oldest dead letter of a work queue was buried.
func oldestLetter(ctx context.Context, broker messaging.Broker, work messaging.Queue) (age string, err error) {
	age = unknown
	err = broker.Letters(ctx, work, func(_ context.Context, l *messaging.Letters) error {
		letters, err := l.Next(ageLooks)
		var oldest time.Time
		for _, letter := range letters {
			if !letter.Buried.IsZero() && (oldest.IsZero() || letter.Buried.Before(oldest)) {
				oldest = letter.Buried
			}
		}
		age = ageOf(oldest)
		if l.Lie > len(letters) && age != unknown {
			age = "≥ " + age
		}
		return err
	})
	return age, err
}

// ageOf says how long ago something was, in whole seconds.
func ageOf(at time.Time) string {
	if at.IsZero() {
		return unknown
	}
	return max(0, time.Since(at)).Truncate(time.Second).String()
}

// howItStands says whether a queue is paused, by whom and since when.
func howItStands(ctx context.Context, s queuesSettings, queue messaging.Queue) (string, error) {
	db, err := store.Open(s.DSN, s.Broker.Namespace+jobDatabases[queue], 1)
	if err != nil {
		return "not known", err
	}
	defer db.Close()
	p, err := pauses.Of(ctx, db, string(queue))
	switch {
	case err != nil:
		return "not known", orMigrate("pauses", queue, err)
	case !p.Paused:
		return "no", nil
	}
	return p.String(), nil
}
