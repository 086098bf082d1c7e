package payments

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"cartwright/internal/fault"
	"cartwright/internal/identity"
	"cartwright/internal/messaging"
	"cartwright/internal/rpc"
	"cartwright/internal/settings"
	"cartwright/internal/testenv"
	"cartwright/jobs"
	"cartwright/proto/paymentspb"
	schema "cartwright/sql"
)

// loopback is an address that nobody else uses: Linux gives all of 127.0.0.0/8 to this machine.
func loopback(port int) string {
	return fmt.Sprintf("127.%d.%d.%d:%d", 1+rand.IntN(250), 1+rand.IntN(250), 1+rand.IntN(250), port)
}

// running is a whole service with its ports.
type running struct {
	client paymentspb.PaymentsClient
	db     *sql.DB
	debug  string
	told   <-chan amqp.Delivery // its events
}

func start(t *testing.T) running {
	t.Helper()
	dsn, url := testenv.Servers(t)
	return startWith(t, dsn, url)
}

// startWith starts a service that reaches the servers at dsn and url; its test reaches them
// directly.
func startWith(t *testing.T, dsn, url string) running {
	t.Helper()
	namespace := testenv.Namespace(t)
	db := testenv.Database(t, namespace, schema.Payments)
	_, direct := testenv.Servers(t)
	own := Settings{TLS: identity.Settings{Insecure: true}, Broker: messaging.Settings{URL: url, Namespace: namespace}, Listen: loopback(9130), DebugListen: loopback(9131),
		DSN: dsn, Connections: 8, Provider: providerTest, TestSlow: 300 * time.Millisecond}
	told := listen(t, direct, namespace)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, testenv.Log(t), own) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	conn, err := rpc.Dial(own.Listen, identity.Insecure().Client("payments"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	r := running{paymentspb.NewPaymentsClient(conn), db, own.DebugListen, told}
	r.wantReady(t, http.StatusOK)
	return r
}

// listen hears every event of a shop.
func listen(t *testing.T, url, namespace string) <-chan amqp.Delivery {
	t.Helper()
	topology := jobs.Topology(namespace)
	testenv.Topology(t, topology)
	conn, err := amqp.Dial(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	queue, err := ch.QueueDeclare("", false, true, true, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := ch.QueueBind(queue.Name, "#", namespace+topology.Events, false, nil); err != nil {
		t.Fatal(err)
	}
	told, err := ch.ConsumeWithContext(t.Context(), queue.Name, "", true, true, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	return told
}

func (r running) get(path string) (int, string) {
	resp, err := http.Get("http://" + r.debug + path) //nolint:noctx // a test's own server
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	http.DefaultClient.CloseIdleConnections()
	return resp.StatusCode, string(body)
}

func (r running) wantReady(t *testing.T, want int) {
	t.Helper()
	testenv.Eventually(t, limit, fmt.Sprintf("readiness %d", want), func() bool { code, _ := r.get("/readyz"); return code == want })
}

func (r running) nextEvent(t *testing.T) map[string]any {
	t.Helper()
	select {
	case d := <-r.told:
		var e map[string]any
		if err := json.Unmarshal(d.Body, &e); err != nil {
			t.Fatalf("%s: %v", d.Body, err)
		}
		return e
	case <-time.After(limit):
		t.Fatal("no event")
		return nil
	}
}

func TestServiceTakesMoneyAndGivesItBack(t *testing.T) { // P1, P2, P15, P16
	t.Parallel()
	r := start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	id := newID()
	resp, err := r.client.Charge(ctx, euros(id, tokOK))
	if err != nil || resp.GetState() != paymentspb.State_STATE_CHARGED {
		t.Fatalf("%v, %v", resp, err)
	}
	_, err = r.client.Charge(ctx, euros(newID(), tokDeclined))
	wantFault(t, err, fault.Refused, "card_declined")
	if _, err := r.client.Refund(ctx, &paymentspb.RefundRequest{PaymentId: id, Reason: "order failed"}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`{"amount":4726,"currency":"EUR","orderId":"` + orderOf(id) + `","paymentId":"` + id + `","paymentStatus":"PAID"}`,
		`{"amount":4726,"currency":"EUR","orderId":"` + orderOf(id) + `","paymentId":"` + id + `","reason":"order failed"}`,
	} {
		e := r.nextEvent(t)
		if got, _ := json.Marshal(e["data"]); string(got) != want || e["source"] != "cartwright/payments" || e["subject"] != orderOf(id) {
			t.Errorf("event %v, want data %s", e, want)
		}
	}
	if _, metrics := r.get("/metrics"); !strings.Contains(metrics, `payment_provider_seconds_count{answer="charged",call="charge"} 1`) ||
		!strings.Contains(metrics, `groupcommit_batch_size_count{group="payments"}`) {
		t.Errorf("metrics:\n%s", metrics)
	}
}

func TestWrongSettingsAreNamed(t *testing.T) { // P1
	t.Parallel()
	var s Settings
	environ := []string{"CARTWRIGHT_AMQP_URL=amqp://x", "CARTWRIGHT_PAYMENTS_DSN=x", "CARTWRIGHT_INSECURE=true", "CARTWRIGHT_PAYMENTS_PROVIDER=paypol",
		"CARTWRIGHT_PAYMENTS_DB_CONNECTIONS=1", "CARTWRIGHT_PAYMENTS_TEST_SLOW=-1s"}
	err := settings.Load(environ, &s)
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{`CARTWRIGHT_PAYMENTS_PROVIDER is "paypol", want one of: test`, "CARTWRIGHT_PAYMENTS_DB_CONNECTIONS is 1", "CARTWRIGHT_PAYMENTS_TEST_SLOW is -1s"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\ndoes not say: %s", err, want)
		}
	}
	s.DSN = "nobody@/"
	if err := Run(t.Context(), testenv.Log(t), s); err == nil || !strings.Contains(err.Error(), "want one of: test") {
		t.Errorf("Run with an unknown provider: %v", err)
	}
}
