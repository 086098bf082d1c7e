package messaging

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"cartwright/internal/fault"
	"cartwright/internal/ids"
)

const (
	contentType   = "application/x-protobuf"
	bodyMax       = 64 << 10
	correlationID = 32 // hex characters of 128 random bits

	headerSignature = "x-signature"
	headerAttempt   = "x-attempt" // tries that ended with an error of ours
	headerReason    = "x-reason"  // why it was buried
	headerTrace     = "traceparent"
)

// Message is a job on its way: a body of a kind, under an ID that stays the same however often it
// is delivered, and who waits for the answer, if anybody does.
type Message struct {
	ID          string
	Kind        string
	Body        []byte
	ReplyTo     string // a reply queue's name; empty when nobody waits
	Correlation string // of that wait, never reused
	Trace       string // W3C traceparent, empty when there is none
	Attempt     int    // earlier tries that failed
}

var replyShape = regexp.MustCompile(`^reply\.[0-9a-f]{32}$`)

// Keys sign jobs, so that a worker does only what a gateway asked. The first signs; all of them
// are accepted, so that a key can be replaced without losing what is queued.
type Keys []string

// ParseKeys reads one key, or several divided by commas, the newest first. A key has at least 16
// characters.
func ParseKeys(s string) (Keys, error) {
	keys := Keys(strings.Split(s, ","))
	for _, k := range keys {
		if len(k) < 16 {
			return nil, fmt.Errorf("a key has %d characters, want at least 16", len(k))
		}
	}
	return keys, nil
}

// sign covers everything a forger could gain by changing. Attempts are left out: they are the
// workers' own notes, and a retried job keeps its signature.
func (k Keys) sign(key string, m Message) []byte {
	mac := hmac.New(sha256.New, []byte(key))
	for _, part := range [][]byte{[]byte(m.ID), []byte(m.Kind), []byte(m.ReplyTo), []byte(m.Correlation), m.Body} {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(part)))
		mac.Write(size[:])
		mac.Write(part)
	}
	return mac.Sum(nil)
}

func (k Keys) verify(signature []byte, m Message) bool {
	for _, key := range k {
		if hmac.Equal(signature, k.sign(key, m)) {
			return true
		}
	}
	return false
}

// seal makes the AMQP message of a job.
func (k Keys) seal(m Message) amqp.Publishing {
	headers := amqp.Table{headerSignature: k.sign(k[0], m)}
	if m.Trace != "" {
		headers[headerTrace] = m.Trace
	}
	if m.Attempt > 0 {
		headers[headerAttempt] = int32(m.Attempt)
	}
	return amqp.Publishing{
		ContentType:   contentType,
		DeliveryMode:  amqp.Persistent,
		MessageId:     m.ID,
		Type:          m.Kind,
		ReplyTo:       m.ReplyTo,
		CorrelationId: m.Correlation,
		Headers:       headers,
		Body:          m.Body,
	}
}

// open reads a delivery and checks everything about it that does not depend on what it says. Its
// error is fault.Invalid, and the reason under which the message is buried.
func (k Keys) open(d amqp.Delivery) (Message, error) {
	m := Message{
		ID: d.MessageId, Kind: d.Type, Body: d.Body, ReplyTo: d.ReplyTo, Correlation: d.CorrelationId,
		Attempt: count(d.Headers[headerAttempt]),
	}
	m.Trace, _ = d.Headers[headerTrace].(string)
	signature, _ := d.Headers[headerSignature].([]byte)
	switch {
	case d.ContentType != contentType:
		return m, fault.InvalidField("content_type", "is %.64q, want %q", d.ContentType, contentType)
	case !ids.Valid(m.ID):
		return m, fault.InvalidField("message_id", ids.Shape)
	case len(m.Body) > bodyMax:
		return m, fault.InvalidField("body", "has %d bytes, at most %d", len(m.Body), bodyMax)
	case m.ReplyTo != "" && !replyShape.MatchString(m.ReplyTo):
		return m, fault.InvalidField("reply_to", "is no reply queue of a gateway")
	case m.ReplyTo != "" && !isHex(m.Correlation):
		return m, fault.InvalidField("correlation_id", "must be %d hexadecimal characters", correlationID)
	case !k.verify(signature, m):
		return m, fault.InvalidField(headerSignature, "does not belong to this message")
	}
	return m, nil
}

func isHex(s string) bool {
	raw, err := hex.DecodeString(s)
	return err == nil && len(raw)*2 == correlationID
}

func count(header any) int {
	switch n := header.(type) {
	case int32:
		return max(0, int(n))
	case int64:
		return max(0, int(min(n, 1<<20)))
	}
	return 0
}
