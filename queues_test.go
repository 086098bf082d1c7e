package main

import (
	"bytes"
	"errors"
	"flag"
	"os/user"
	"regexp"
	"strings"
	"testing"

	"cartwright/internal/fault"
	"cartwright/internal/messaging"
	"cartwright/internal/testenv"
	"cartwright/jobs"
	schema "cartwright/sql"
)

func TestWhatIsAskedOfAQueueIsReadWhole(t *testing.T) {
	t.Parallel()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	mine := queueOrder{by: me.Username, limit: listedByDefault}
	order := func(verb string, queue messaging.Queue, change func(*queueOrder)) *queueOrder {
		o := mine
		o.verb, o.queue = verb, queue
		change(&o)
		return &o
	}
	same, nobody := func(*queueOrder) {}, func(o *queueOrder) { o.by = "" }
	for _, c := range []struct {
		args  string
		want  *queueOrder
		fault string
	}{
		{"pause cartmanager", order("pause", "cartmanager", same), ""},
		{"resume checkoutmanager --by ann", order("resume", "checkoutmanager", func(o *queueOrder) { o.by = "ann" }), ""},
		{"pause --by=ann checkoutmanager", order("pause", "checkoutmanager", func(o *queueOrder) { o.by = "ann" }), ""},
		{"peek cartmanager.dead", order("peek", "cartmanager", nobody), ""},
		{"peek --limit 5 cartmanager.dead", order("peek", "cartmanager", func(o *queueOrder) { o.by, o.limit = "", 5 }), ""},
		{"replay cartmanager.dead --all", order("replay", "cartmanager", func(o *queueOrder) { o.all = true }), ""},
		{"drop checkoutmanager.dead --id x --by ann", order("drop", "checkoutmanager", func(o *queueOrder) { o.id, o.by = "x", "ann" }), ""},
		{"log", order("log", "", nobody), ""},
		{"pause", nil, "name one queue to pause: cartmanager and checkoutmanager"},
		{"resume cartmanager checkoutmanager", nil, "name one queue to resume"},
		{"pause basket", nil, `no queue "basket" with workers; there are cartmanager and checkoutmanager`},
		{"pause cartmanager.retry", nil, `no queue "cartmanager.retry"`},
		{"pause cartmanager --by", nil, "--help"},
		{"pause cartmanager --for ann", nil, "--help"},
		{"pause cartmanager --all", nil, "pause has no --all"},
		{"peek cartmanager", nil, "cartmanager.dead: RabbitMQ counts each look"},
		{"peek basket.dead", nil, "there are cartmanager.dead and checkoutmanager.dead"},
		{"peek cartmanager.dead --limit 0", nil, "limit: must be 1 to 1000"},
		{"peek cartmanager.dead --limit many", nil, "--help"},
		{"replay cartmanager.dead", nil, "--id id or --all"},
		{"drop cartmanager.dead --id x --all", nil, "--id id or --all"},
		{"log cartmanager", nil, "log lists all queues"},
		{"throttle cartmanager", nil, `not "throttle"`},
	} {
		got, err := readQueueOrder(strings.Fields(c.args))
		if c.fault != "" && (err == nil || !strings.Contains(err.Error(), c.fault)) || c.fault == "" && (err != nil || got != *c.want) {
			t.Errorf("%s: %+v, %v", c.args, got, err)
		}
	}
	if o, err := readQueueOrder([]string{"pause", "cartmanager", "--by", ""}); err != nil || o.by != "" {
		t.Errorf("an empty name became %q, %v", o.by, err)
	}
}

func TestQueuesTellsWhatItNeeds(t *testing.T) {
	for _, key := range []string{"AMQP_URL", "MYSQL_DSN", "ADMIN_DSN"} {
		t.Setenv("CARTWRIGHT_"+key, "")
	}
	var out bytes.Buffer
	if err := queues(&out)(t.Context(), []string{"pause", "--help"}); !errors.Is(err, flag.ErrHelp) {
		t.Error(err)
	}
	for _, word := range []string{"queues resume <queue> [--by name]", "queues replay <queue>.dead", "CARTWRIGHT_BROKER_ADMIN_URL", "CARTWRIGHT_ADMIN_DSN", "CARTWRIGHT_MYSQL_DSN", "CARTWRIGHT_AMQP_URL"} {
		if !strings.Contains(out.String(), word) {
			t.Errorf("the help does not say %s:\n%s", word, out.String())
		}
	}
}

// B6: pausing, pausing again, showing and resuming, in people's words; what is refused changes nothing.
func TestAQueueIsPausedShownAndResumed(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.migrate()
	settings := pauseSettings{Namespace: s.settings.Broker.Namespace, DSN: s.settings.AdminDSN}
	turn := func(queue messaging.Queue, pause bool, by string) string {
		t.Helper()
		var out bytes.Buffer
		if err := turnQueue(t.Context(), &out, settings, queue, pause, by); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	show := func(dsn string) (string, error) {
		var out bytes.Buffer
		err := showQueues(t.Context(), &out, queuesSettings{Broker: s.settings.Broker, DSN: dsn})
		return out.String(), err
	}
	says := func(said, pattern string) {
		t.Helper()
		if !regexp.MustCompile(pattern).MatchString(said) {
			t.Errorf("it says\n%s\nwant %s", said, pattern)
		}
	}
	const since = ` since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC`
	says(turn(jobs.Checkoutmanager, false, "ann"), `^checkoutmanager is not paused\n$`)
	says(turn(jobs.Checkoutmanager, true, "Ann O'Ny"), `^checkoutmanager is paused: `)
	says(turn(jobs.Checkoutmanager, true, "bob"), `^checkoutmanager is paused already, by Ann O'Ny`+since+`\n$`)
	said, err := show(s.settings.ReaderDSN)
	if err != nil {
		t.Error(err)
	}
	says(said, `(?m)^QUEUE +WAITING +IN HAND +OLDEST +IN/S +OUT/S +CONSUMERS +PAUSED\ncartmanager +0 +- +- +- +- +0 +no$`)
	says(said, `(?m)^checkoutmanager +0 +[- ]+0 +by Ann O'Ny`+since+`$`)
	says(turn(jobs.Cartmanager, true, "bob"), `^cartmanager is paused: `)
	says(turn(jobs.Checkoutmanager, false, "bob"), `^checkoutmanager is resumed; it was paused by Ann O'Ny`+since+`\n$`)

	if err := turnQueue(t.Context(), &bytes.Buffer{}, settings, jobs.Checkoutmanager, true, strings.Repeat("x", 65)); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "64") {
		t.Errorf("a long name: %v", err)
	}
	said, err = show(s.settings.ReaderDSN)
	if err != nil {
		t.Error(err)
	}
	says(said, `(?m)^cartmanager +0 +[- ]+0 +by bob`+since+`$`)
	says(said, `(?m)^checkoutmanager +0 +[- ]+0 +no$`)
}

// What waits is shown also when no database tells what is paused, and before there is a table.
func TestQueuesAreShownWithoutADatabase(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.migrate()
	proxy, dsn := testenv.DatabaseProxy(t)
	proxy.Cut()
	var out bytes.Buffer
	err := showQueues(t.Context(), &out, queuesSettings{Broker: s.settings.Broker, DSN: dsn})
	if !fault.Is(err, fault.Unavailable) || strings.Count(out.String(), "not known") != 2 || !strings.Contains(out.String(), "checkoutmanager.dead") {
		t.Errorf("%v\n%s", err, out.String())
	}
	testenv.Down(t, s.settings.Broker.Namespace, schema.Carts, 2)
	pause := pauseSettings{Namespace: s.settings.Broker.Namespace, DSN: s.settings.AdminDSN}
	if err := turnQueue(t.Context(), &out, pause, jobs.Cartmanager, true, "ann"); err == nil || !strings.Contains(err.Error(), "run migrate") {
		t.Errorf("paused without a table: %v", err)
	}
}
