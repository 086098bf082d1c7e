package main

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"cartwright/internal/fault"
	"cartwright/internal/interventions"
	"cartwright/internal/messaging"
	"cartwright/internal/pauses"
	"cartwright/internal/store"
	"cartwright/jobs"
)

const (
	// letterBatch letters are recorded together, and then moved together.
	letterBatch = 100
	// searchMax letters are looked through for an ID at most: all of them are in hand meanwhile.
	searchMax = 10_000
	// shownMax characters of something are shown in a column.
	shownMax = 120
)

// letterSettings are for replaying and dropping.
type letterSettings struct {
	Broker messaging.Settings
	DSN    string `env:"ADMIN_DSN,required" help:"an account that may make databases and accounts"`
}

// peekQueue lists dead letters, and leaves them where they are.
func peekQueue(ctx context.Context, out io.Writer, s queuesSettings, o queueOrder) error {
	return s.broker().Letters(ctx, o.queue, func(_ context.Context, l *messaging.Letters) error {
		letters, err := l.Next(listedMax) // more than are shown: who is put back goes to the end, and the order is to stay
		if err != nil {
			return err
		}
		letters = letters[:min(len(letters), o.limit)]
		table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "BURIED\tTRIES\tKIND\tID\tCLIENT\tASKS FOR\tREASON")
		for _, letter := range letters {
			client, asks := contentOf(letter)
			buried := unknown
			if !letter.Buried.IsZero() {
				buried = ageOf(letter.Buried) + " ago"
			}
			fmt.Fprintf(table, "%s\t%d\t%s\t%s\t%s\t%s\t%s\n", buried, letter.Attempts, shown(letter.Kind), shown(letter.ID), client, asks, shown(letter.Reason))
		}
		if err := table.Flush(); err != nil {
			return err
		}
		fmt.Fprintf(out, "%d of %d dead letters of %s\n", len(letters), l.Lie, o.queue)
		return nil
	})
}

// contentOf decodes a letter, as far as it can be.
func contentOf(letter messaging.Letter) (client, asks string) {
	job, err := jobs.Decode(letter.Kind, letter.Body)
	if err != nil {
		return unknown, "cannot be read: " + shown(err.Error())
	}
	return job.GetClientId(), jobs.Describe(job)
}

// shown makes text of others fit a column: one line, nothing that a terminal would obey, not too long.
func shown(s string) string {
	first, _, more := strings.Cut(strings.ToValidUTF8(s, "?"), "\n")
	runes := []rune(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, first))
	if more || len(runes) > shownMax {
		return string(runes[:min(len(runes), shownMax)]) + "…"
	}
	return cmp.Or(string(runes), unknown)
}

// moveLetters replays or drops dead letters. Each is on record before anything is done to it.
func moveLetters(ctx context.Context, out io.Writer, s letterSettings, o queueOrder) error {
	if err := pauses.CheckName(o.by); err != nil {
		return err
	}
	db, err := store.Open(s.DSN, s.Broker.Namespace+jobDatabases[o.queue], 1)
	if err != nil {
		return err
	}
	defer db.Close()
	broker := messaging.Broker{URL: s.Broker.URL, Topology: jobs.Topology(s.Broker.Namespace), Log: slog.New(slog.DiscardHandler)}
	return broker.Letters(ctx, o.queue, func(ctx context.Context, l *messaging.Letters) error {
		done, looked := 0, 0
		for {
			letters, err := l.Next(letterBatch)
			if err != nil || len(letters) == 0 || !o.all && looked >= searchMax {
				return errors.Join(err, o.moved(out, done, looked, l.Lie))
			}
			looked += len(letters)
			if !o.all {
				letters = slices.DeleteFunc(letters, func(letter messaging.Letter) bool { return letter.ID != o.id })
			}
			n, err := o.move(ctx, db, l, letters)
			done += n
			if err != nil {
				return errors.Join(err, o.moved(out, done, looked, l.Lie))
			}
		}
	})
}

// move records what is to be done to some letters, and then does it.
func (o queueOrder) move(ctx context.Context, db *sql.DB, l *messaging.Letters, letters []messaging.Letter) (done int, err error) {
	var deeds []interventions.Intervention
	for _, letter := range letters {
		deeds = append(deeds, interventions.Intervention{Queue: string(o.queue), Deed: interventions.Deed(o.verb), MessageID: letter.ID, Kind: letter.Kind, Reason: letter.Reason})
	}
	if err := interventions.Record(ctx, db, o.by, deeds...); err != nil {
		return 0, orMigrate("interventions", o.queue, err)
	}
	if o.verb == "drop" {
		return l.Drop(ctx, letters)
	}
	return l.Replay(ctx, letters)
}

// moved says what was done. Nothing, where one letter was meant, is an error.
func (o queueOrder) moved(out io.Writer, done, looked, lie int) error {
	if !o.all && done == 0 {
		return fault.New(fault.NotFound, "unknown_letter", "no message %s is among the %d dead letters of %s that could be looked at, of %d", shown(o.id), looked, o.queue, lie)
	}
	where := "dropped from " + string(o.queue.Dead())
	if o.verb == "replay" {
		where = "put back on " + string(o.queue)
	}
	fmt.Fprintf(out, "%d of %d dead letters were %s\n", done, lie, where)
	return nil
}

// deed is one line of the log.
type deed struct {
	at                                 time.Time
	by, what, queue, id, kind, because string
}

// showDeeds lists who has done what by hand, of all queues, the newest first.
func showDeeds(ctx context.Context, out io.Writer, s queuesSettings, limit int) error {
	var all []deed
	for queue := range jobDatabases {
		some, err := deedsOf(ctx, s, queue, limit)
		if err != nil {
			return err
		}
		all = append(all, some...)
	}
	slices.SortFunc(all, func(a, b deed) int { return b.at.Compare(a.at) })
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "WHEN (UTC)\tWHO\tWHAT\tQUEUE\tID\tKIND\tREASON")
	for _, d := range all[:min(len(all), limit)] {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", d.at.UTC().Format(time.DateTime), d.by, d.what, d.queue, d.id, d.kind, d.because)
	}
	return table.Flush()
}

// deedsOf reads what is on record of one queue: its pauses, and its dead letters.
func deedsOf(ctx context.Context, s queuesSettings, queue messaging.Queue, limit int) (all []deed, err error) {
	db, err := store.Open(s.DSN, s.Broker.Namespace+jobDatabases[queue], 1)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	turns, err := pauses.Newest(ctx, db, limit)
	if err != nil {
		return nil, orMigrate("pauses", queue, err)
	}
	for _, p := range turns {
		what := "resume"
		if p.Paused {
			what = "pause"
		}
		all = append(all, deed{at: p.Since, by: p.By, what: what, queue: string(queue)})
	}
	moves, err := interventions.Newest(ctx, db, limit)
	if err != nil {
		return nil, orMigrate("interventions", queue, err)
	}
	for _, i := range moves {
		all = append(all, deed{i.At, i.By, string(i.Deed), i.Queue, shown(i.MessageID), shown(i.Kind), shown(i.Reason)})
	}
	return all, nil
}
