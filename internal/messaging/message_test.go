package messaging

import (
	"bytes"
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"cartwright/internal/fault"
)

var testKeys = Keys{"a key of sixteen and more"}

func sealed() (Message, amqp.Publishing) {
	m := Message{ID: "job-1", Kind: "work.do", Body: []byte("b"), ReplyTo: "reply." + strings.Repeat("0f", 16), Correlation: strings.Repeat("a0", 16), Trace: "00-trace", Attempt: 2}
	return m, testKeys.seal(m)
}

func delivered(p amqp.Publishing) amqp.Delivery {
	return amqp.Delivery{ContentType: p.ContentType, MessageId: p.MessageId, Type: p.Type, ReplyTo: p.ReplyTo, CorrelationId: p.CorrelationId, Headers: p.Headers, Body: p.Body}
}

func TestAMessageSurvivesTheJourney(t *testing.T) {
	t.Parallel()
	m, p := sealed()
	got, err := testKeys.open(delivered(p))
	if err != nil {
		t.Fatal(err)
	}
	if got.ID != m.ID || got.Kind != m.Kind || !bytes.Equal(got.Body, m.Body) || got.ReplyTo != m.ReplyTo || got.Correlation != m.Correlation ||
		got.Trace != m.Trace || got.Attempt != m.Attempt {
		t.Errorf("sent %+v, got %+v", m, got)
	}
}

func TestNoSignedPartCanBeChanged(t *testing.T) {
	t.Parallel()
	for part, change := range map[string]func(*amqp.Delivery){
		"ID":          func(d *amqp.Delivery) { d.MessageId = "job-2" },
		"kind":        func(d *amqp.Delivery) { d.Type = "work.undo" },
		"body":        func(d *amqp.Delivery) { d.Body = []byte("c") },
		"reply to":    func(d *amqp.Delivery) { d.ReplyTo = "reply." + strings.Repeat("00", 16) },
		"nobody":      func(d *amqp.Delivery) { d.ReplyTo, d.CorrelationId = "", "" },
		"correlation": func(d *amqp.Delivery) { d.CorrelationId = strings.Repeat("a1", 16) },
		"boundaries":  func(d *amqp.Delivery) { d.MessageId, d.Type = "job-1w", "ork.do" },
		"signature":   func(d *amqp.Delivery) { d.Headers = amqp.Table{} },
		"its type":    func(d *amqp.Delivery) { d.Headers = amqp.Table{headerSignature: "text"} },
	} {
		_, p := sealed()
		d := delivered(p)
		change(&d)
		if _, err := testKeys.open(d); !fault.Is(err, fault.Invalid) || fault.As(err).Field != headerSignature {
			t.Errorf("%s changed: %v", part, err)
		}
	}
}

func TestAKeyIsLongEnough(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]int{"": 0, "fifteen letters": 0, "sixteen letters.": 1, "sixteen letters.,short": 0, "sixteen letters.,and sixteen more": 2} {
		if keys, err := ParseKeys(s); len(keys) != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %d keys, %v", s, len(keys), err)
		}
	}
}

// Whatever comes from the wire is opened or refused, and only what we signed is opened.
func FuzzOpen(f *testing.F) {
	_, p := sealed()
	f.Add(p.ContentType, p.MessageId, p.Type, p.ReplyTo, p.CorrelationId, p.Headers[headerSignature].([]byte), int32(1), p.Body)
	f.Fuzz(func(t *testing.T, contentType, id, kind, replyTo, correlation string, signature []byte, attempt int32, body []byte) {
		d := amqp.Delivery{ContentType: contentType, MessageId: id, Type: kind, ReplyTo: replyTo, CorrelationId: correlation, Body: body,
			Headers: amqp.Table{headerSignature: signature, headerAttempt: attempt}}
		m, err := testKeys.open(d)
		switch {
		case err != nil && !fault.Is(err, fault.Invalid):
			t.Fatalf("%v is no fault of the sender", err)
		case err == nil && !bytes.Equal(signature, testKeys.sign(testKeys[0], m)):
			t.Fatalf("opened %+v without our signature", m)
		case m.Attempt < 0:
			t.Fatalf("%d attempts", m.Attempt)
		}
	})
}
