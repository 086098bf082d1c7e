package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"cartwright/internal/fault"
	"cartwright/internal/messaging"
	"cartwright/internal/testenv"
	"cartwright/jobs"
	"cartwright/proto/jobspb"
)

var someTimeAgo = time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)

// office is a site with dead letters, and somebody who looks after them.
type office struct {
	*site
	channel *amqp.Channel
}

func newOffice(t *testing.T) *office {
	t.Helper()
	s := newSite(t)
	s.migrate()
	conn, err := amqp.Dial(s.settings.Broker.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	channel, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	return &office{s, channel}
}

// bury puts a message among the dead letters of a queue.
func (o *office) bury(queue messaging.Queue, m amqp.Publishing) {
	o.t.Helper()
	o.channel.Confirm(false) //nolint:errcheck // the next line tells
	sent, err := o.channel.PublishWithDeferredConfirm("", o.settings.Broker.Namespace+string(queue.Dead()), true, false, m)
	if err != nil || !sent.Wait() {
		o.t.Fatalf("bury: %v", err)
	}
}

// do runs the command as people do.
func (o *office) do(args ...string) (said string, err error) {
	o.t.Helper()
	environ := []string{"CARTWRIGHT_AMQP_URL=" + o.settings.Broker.URL, "CARTWRIGHT_NAMESPACE=" + o.settings.Broker.Namespace,
		"CARTWRIGHT_MYSQL_DSN=" + o.settings.ReaderDSN, "CARTWRIGHT_ADMIN_DSN=" + o.settings.AdminDSN, "CARTWRIGHT_BROKER_ADMIN_URL=" + o.settings.BrokerAdminURL}
	var order queueOrder
	if len(args) > 0 {
		if order, err = readQueueOrder(args); err != nil {
			return "", err
		}
	}
	var out bytes.Buffer
	err = order.run(o.t.Context(), &out, environ)
	return out.String(), err
}

// says runs the command and holds what it prints to patterns.
func (o *office) says(args string, patterns ...string) (said string) {
	o.t.Helper()
	said, err := o.do(strings.Fields(args)...)
	if err != nil {
		o.t.Fatalf("queues %s: %v\n%s", args, err, said)
	}
	for _, p := range patterns {
		if !regexp.MustCompile(p).MatchString(said) {
			o.t.Errorf("queues %s says\n%s\nwant %s", args, said, p)
		}
	}
	return said
}

func body(t *testing.T, job jobs.Job) []byte {
	t.Helper()
	b, err := jobs.Encode(job)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// B4: dead letters are listed, decoded, with their reasons and without what is secret; one is replayed and
// one is dropped by its ID, the others stay; who did what is on record.
func TestDeadLettersAreReadReplayedAndDropped(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	checkout := body(t, &jobspb.StartCheckout{ClientId: "ann", PaymentMethod: "tok_of_ann", Email: "ann@example.org"})
	note := func(reason string) amqp.Table { return amqp.Table{"x-reason": reason, "x-attempt": int32(4)} }
	o.bury(jobs.Checkoutmanager, amqp.Publishing{MessageId: "first", Type: jobs.StartCheckout, Body: checkout, Headers: note("handler panicked: oh\ngoroutine 1")})
	o.bury(jobs.Checkoutmanager, amqp.Publishing{MessageId: "second", Type: jobs.StartCheckout, Body: []byte("\xff"), Headers: note("body: is no checkout.start")})
	o.bury(jobs.Checkoutmanager, amqp.Publishing{Type: "evil\x1b[31m", Body: []byte("x")})

	said := o.says("peek checkoutmanager.dead",
		`(?m)^- +4 +checkout.start +first +ann +a checkout of the cart +handler panicked: oh…$`,
		`(?m)^- +4 +checkout.start +second +- +cannot be read: body: is no checkout.start +body: is no checkout.start$`,
		`(?m)^- +0 +evil\?\[31m +- +- +cannot be read`, `(?m)^3 of 3 dead letters of checkoutmanager$`)
	for _, secret := range []string{"tok_of_ann", "example.org", "\x1b"} {
		if strings.Contains(said, secret) {
			t.Errorf("%q is shown:\n%s", secret, said)
		}
	}
	o.says("peek checkoutmanager.dead --limit 1", `(?m)^1 of 3 dead letters`)
	o.says("replay checkoutmanager.dead --id first --by ann", `^1 of 3 dead letters were put back on checkoutmanager\n$`)
	o.says("drop checkoutmanager.dead --id second --by bob", `^1 of 2 dead letters were dropped from checkoutmanager.dead\n$`)
	o.says("peek checkoutmanager.dead", `(?m)^1 of 1 dead letters`)
	if said, err := o.do("replay", "checkoutmanager.dead", "--id", "second"); !fault.Is(err, fault.NotFound) || said != "" {
		t.Errorf("replayed what is gone: %s, %v", said, err)
	}
	if said, err := o.do("drop", "checkoutmanager.dead", "--all", "--by", ""); !fault.Is(err, fault.Invalid) || said != "" {
		t.Errorf("dropped in nobody's name: %s, %v", said, err)
	}
	d, found, err := o.channel.Get(o.settings.Broker.Namespace+string(jobs.Checkoutmanager), true)
	if err != nil || !found || d.MessageId != "first" || !bytes.Equal(d.Body, checkout) || d.Headers["x-reason"] != nil || d.Headers["x-attempt"] != nil {
		t.Errorf("replayed as %q with %v, %v, %v", d.MessageId, d.Headers, found, err)
	}
	o.says("drop checkoutmanager.dead --all", `^1 of 1 dead letters were dropped`)
	o.says("pause cartmanager --by carl")
	log := o.says("log", `(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d +carl +pause +cartmanager`,
		`(?m) +bob +drop +checkoutmanager +second +checkout.start +body: is no checkout.start$`, `(?m) +ann +replay +checkoutmanager +first +checkout.start +handler panicked: oh…$`)
	if n := strings.Count(log, "\n"); n != 5 || strings.Index(log, "carl") > strings.Index(log, "bob") || strings.Index(log, "bob") > strings.Index(log, "ann") {
		t.Errorf("the log has %d lines, or in a wrong order:\n%s", n, log)
	}
	o.says("log --limit 1", `^WHEN.*\n.*carl.*\n$`)
}

// A letter is recorded before it is moved: where nothing can be recorded, nothing is moved.
func TestNoLetterIsMovedWithoutARecord(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.bury(jobs.Cartmanager, amqp.Publishing{MessageId: "one", Type: jobs.ClearCart})
	testenv.Down(t, o.settings.Broker.Namespace, "carts", 4)
	for _, verb := range []string{"replay", "drop"} {
		if said, err := o.do(verb, "cartmanager.dead", "--all"); err == nil || !strings.Contains(err.Error(), "run migrate") || !strings.HasPrefix(said, "0 of 1 ") {
			t.Errorf("%s: %s, %v", verb, said, err)
		}
	}
	o.says("peek cartmanager.dead", `(?m)^1 of 1 dead letters`)
}

// What lies, what is in hand and since when is told where it is known; what nobody tells is a dash.
func TestQueuesTellHowTheyStand(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.bury(jobs.Cartmanager, amqp.Publishing{MessageId: "old", Type: jobs.ClearCart, Timestamp: someTimeAgo})
	o.says("", `(?m)^cartmanager.dead +1 +[-\d]+ +\d{5,}h\d+m\d+s +[-.\d]+ +[-.\d]+ +0 *$`, `(?m)^checkoutmanager.dead +0 +[-\d]+ +- `)
	o.says("peek cartmanager.dead", `(?m)^\d{5,}h\d+m\d+s ago +0 +cart.clear +old`)
}

// An answer of RabbitMQ's own, of a queue in use and of one whose figures are off.
func TestTheFlowOfAQueueIsRead(t *testing.T) {
	t.Parallel()
	answers := map[string]string{
		"/api/queues/%2F/a_cartmanager":     `{"messages_unacknowledged":7,"message_stats":{"publish_details":{"rate":12.4},"ack_details":{"rate":0.0}}}`,
		"/api/queues/%2F/a_checkoutmanager": `{"messages":3}`,
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if answer, has := answers[r.URL.EscapedPath()]; has {
			w.Write([]byte(answer)) //nolint:errcheck // the client notices
			return
		}
		json.NewEncoder(w).Encode(map[string]string{"name": "admin"}) //nolint:errcheck // likewise
	}))
	defer server.Close()
	admin, err := messaging.Administer(t.Context(), strings.Replace(server.URL, "http://", "http://admin:secret@", 1))
	if err != nil {
		t.Fatal(err)
	}
	for queue, want := range map[messaging.Queue]string{jobs.Cartmanager: "7 12.4 0.0", jobs.Checkoutmanager: "- - -"} {
		f, err := admin.Flow(t.Context(), "amqp://x:y@localhost/", jobs.Topology("a_"), queue)
		if got := inHand(f) + " " + perSecond(f.In) + " " + perSecond(f.Out); err != nil || got != want {
			t.Errorf("%s: %s, %v, want %s", queue, got, err, want)
		}
	}
}
