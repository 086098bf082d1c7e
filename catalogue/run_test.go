package catalogue

import (
	"context"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"cartwright/internal/identity"
	"cartwright/internal/messaging"
	"cartwright/internal/settings"
	"cartwright/internal/testenv"
	"cartwright/jobs"
	schema "cartwright/sql"
)

func TestServiceTellsOfEveryChange(t *testing.T) { // E2
	t.Parallel()
	namespace := testenv.Namespace(t)
	testenv.Database(t, namespace, schema.Catalogue)
	dsn, url := testenv.Servers(t)
	told := listen(t, url, namespace)
	own := Settings{TLS: identity.Settings{Insecure: true}, Broker: messaging.Settings{URL: url, Namespace: namespace}, Listen: loopback(9140), DebugListen: loopback(9141), DSN: dsn, Connections: 4}
	background(t, func(ctx context.Context) error { return Run(ctx, testenv.Log(t), own) })
	testenv.Eventually(t, limit, "ready", func() bool { return ready(own.DebugListen) })

	s := shop{t: t, client: dial(t, own.Listen)}
	s.put(tea())
	dearer := tea()
	dearer.PriceMinor = 599
	s.put(dearer)
	for _, want := range []string{
		`{"active":true,"name":"Tee „Grün“ 茶 🍵","price":{"amount":499,"currency":"EUR"},"productId":"tea","version":1}`,
		`{"active":true,"name":"Tee „Grün“ 茶 🍵","price":{"amount":599,"currency":"EUR"},"productId":"tea","version":2}`,
	} {
		select {
		case d := <-told:
			var e struct {
				Type, Source, Subject string
				Data                  map[string]any
			}
			if err := json.Unmarshal(d.Body, &e); err != nil {
				t.Fatal(err)
			}
			if data, _ := json.Marshal(e.Data); string(data) != want || e.Type != "product.updated" || e.Source != "cartwright/catalogue" || e.Subject != "tea" {
				t.Errorf("event %s, want data %s", d.Body, want)
			}
		case <-time.After(limit):
			t.Fatal("no event")
		}
	}
}

func ready(debug string) bool {
	resp, err := http.Get("http://" + debug + "/readyz") //nolint:noctx // a test's own server
	if err != nil {
		return false
	}
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	return resp.StatusCode == http.StatusOK
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

func TestTooFewConnectionsAreNamed(t *testing.T) {
	t.Parallel()
	err := settings.Load([]string{"CARTWRIGHT_AMQP_URL=amqp://x", "CARTWRIGHT_CATALOGUE_DSN=x", "CARTWRIGHT_INSECURE=true", "CARTWRIGHT_CATALOGUE_DB_CONNECTIONS=1"}, &Settings{})
	if want := "wrong settings:\n  CARTWRIGHT_CATALOGUE_DB_CONNECTIONS is 1, must be 3 or more"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
