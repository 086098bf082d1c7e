package messaging

import (
	"encoding/hex"
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
)

// releasedSignature is what an earlier version has signed the message below with.
const releasedSignature = "764a81c9c3e98a67fb6b4c1cde31806e3a9e94aad8bd45f0d1578489bdc792d5"

// A job that an earlier version has queued is still whole in the eyes of today's workers, with all that
// its headers say, and theirs would be signed alike.
func TestAReleasedJobIsOpened(t *testing.T) {
	t.Parallel()
	signature, err := hex.DecodeString(releasedSignature)
	if err != nil {
		t.Fatal(err)
	}
	m, err := testKeys.open(amqp.Delivery{
		ContentType: "application/x-protobuf", MessageId: "job-1", Type: "work.do", ReplyTo: "reply." + strings.Repeat("0f", 16),
		CorrelationId: strings.Repeat("a0", 16), Body: []byte("b"),
		Headers: amqp.Table{"x-signature": signature, "x-attempt": int32(2), "traceparent": "00-trace"},
	})
	if err != nil || m.Attempt != 2 || m.Trace != "00-trace" || m.ID != "job-1" || m.Kind != "work.do" || string(m.Body) != "b" {
		t.Errorf("it reads %+v, %v", m, err)
	}
	if today := hex.EncodeToString(testKeys.sign(testKeys[0], m)); today != releasedSignature {
		t.Errorf("it would be signed %s", today)
	}
}
