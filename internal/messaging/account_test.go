package messaging_test

import (
	"bytes"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cartwright/internal/messaging"
	"cartwright/internal/testenv"
)

// notes is a log to look into.
type notes struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (n *notes) Write(b []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.Write(b)
}

func (n *notes) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.String()
}

// own makes an account for the test's services and returns the corner as seen with it.
func (y *yard) own(account messaging.Account) messaging.Broker {
	b := y.broker
	b.Topology.Accounts = []messaging.Account{account}
	b.Service, b.URL = account.Service, testenv.BrokerAccount(y.t, b.Topology.Namespace+account.Service)
	return b
}

func (y *yard) admit(b messaging.Broker) {
	y.t.Helper()
	admin, err := messaging.Administer(y.t.Context(), testenv.BrokerAdmin(y.t))
	if err == nil {
		_, err = admin.Admit(y.t.Context(), b.URL, b.Topology, b.Topology.Accounts[0])
	}
	if err != nil {
		y.t.Fatal(err)
	}
}

// X6, Z2: a wrong password is told as what it is, without the password; the broker is asked less
// and less often; and once the password is right, all is well by itself.
func TestAWrongPasswordIsToldAndWaitedFor(t *testing.T) {
	t.Parallel()
	y := open(t)
	b := y.own(messaging.Account{Service: "teller", Tells: "order"})
	user, err := url.Parse(b.URL)
	if err != nil {
		t.Fatal(err)
	}
	password, _ := user.User.Password()
	proxy := testenv.NewProxy(t, user.Host)
	user.Host = proxy.Addr()
	b.URL = user.String()
	said := &notes{}
	b.Log = slog.New(slog.NewTextHandler(said, nil))

	p := messaging.NewPublisher(b, "teller")
	proxy.Cut() // hangs up at once, which RabbitMQ does only seconds after a wrong password
	began := time.Now()
	y.background(p.Run)
	y.eventually("it was tried five times", func() bool { return proxy.Accepted() >= 5 })
	if took := time.Since(began); took < (50+100+200+400)*time.Millisecond {
		t.Errorf("the fifth try came after %s", took)
	}
	proxy.Heal()
	y.eventually("the log says what is wrong", func() bool {
		return strings.Contains(said.String(), "user "+user.User.Username()+" is not let in, wrong user or password")
	})
	if strings.Contains(said.String(), password) {
		t.Error("the password is in the log")
	}
	y.admit(b)
	y.eventually("the account is let in", func() bool { return p.Ready() == nil })
}

// An address that cannot be read is not repeated: there is a password in it.
func TestAnAddressThatIsNoneIsNotRepeated(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"amqp://user:a-secret@host:port/", "a-secret", "amqp://user:a-secret@[::1/"} {
		err := messaging.Broker{URL: address}.Declare()
		if err == nil || strings.Contains(err.Error(), "a-secret") || !strings.Contains(err.Error(), "amqp://user:password@host:port/vhost") {
			t.Errorf("it says %v", err)
		}
	}
}

// E13: a service looks for what it uses and for nothing else, says what is missing and what to do
// about it, and works once it is there.
func TestWhatIsMissingIsNamed(t *testing.T) {
	t.Parallel()
	y := open(t)
	full := y.broker.Topology.Namespace
	worker := messaging.Account{Service: "worker", Works: work, Tells: "order"}
	for _, one := range []struct {
		account messaging.Account
		missing []string // each is missed
		unused  []string // none is
	}{
		{worker, []string{"queue " + full + "work", "queue " + full + "work.alone", "queue " + full + "work.retry", "queue " + full + "work.dead",
			"exchange " + full + "queues", "exchange " + full + "replies", "exchange " + full + "events"}, []string{"exchange " + full + "jobs"}},
		{messaging.Account{Service: "asker", Asks: true}, []string{"exchange " + full + "jobs", "exchange " + full + "replies"},
			[]string{"queue " + full + "work", "exchange " + full + "events", "exchange " + full + "queues"}},
		{messaging.Account{Service: "teller", Tells: "order"}, []string{"exchange " + full + "events"}, []string{"queue " + full + "work", "exchange " + full + "jobs"}},
	} {
		b := y.own(one.account)
		y.admit(b)
		for _, gone := range append(one.missing, one.unused...) {
			y.remove(gone)
			_, err := b.Depths(t.Context())
			switch {
			case slices.Contains(one.missing, gone) && (err == nil || !strings.Contains(err.Error(), gone+" is missing, run migrate")):
				t.Errorf("%s without %s: %v", one.account.Service, gone, err)
			case slices.Contains(one.unused, gone) && err != nil && strings.Contains(err.Error(), "run migrate"):
				t.Errorf("%s needs no %s: %v", one.account.Service, gone, err)
			}
			if err := y.broker.Declare(); err != nil {
				t.Fatal(err)
			}
		}
	}

	b := y.own(messaging.Account{Service: "late", Tells: "order"})
	y.admit(b)
	y.remove("exchange " + full + "events")
	said := &notes{}
	b.Log = slog.New(slog.NewTextHandler(said, nil))
	p := messaging.NewPublisher(b, "late")
	y.background(p.Run)
	y.eventually("the log names it", func() bool { return strings.Contains(said.String(), full+"events is missing, run migrate") })
	if err := y.broker.Declare(); err != nil {
		t.Fatal(err)
	}
	y.eventually("it works", func() bool { return p.Ready() == nil })
}

// remove takes away what a message about something missing names.
func (y *yard) remove(what string) {
	y.t.Helper()
	kind, name, _ := strings.Cut(what, " ")
	ch, err := y.channel(), error(nil)
	if kind == "queue" {
		_, err = ch.QueueDelete(name, false, false, false)
	} else {
		err = ch.ExchangeDelete(name, false, false)
	}
	if err != nil {
		y.t.Fatal(err)
	}
}
