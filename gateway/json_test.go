package gateway

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"cartwright/internal/fault"
	"cartwright/internal/ids"
	"cartwright/internal/settings"
	"cartwright/jobs"
)

// FuzzBodies: whatever is sent, what is read of it is within the limits, and what is refused is
// refused as the sender's fault, by field, in few and valid words.
func FuzzBodies(f *testing.F) {
	for _, seed := range []string{
		`{"clientID":"jo","productID":"tea","quantity":2}`, `{"clientID":"jo","productID":"tea","quantity":1e30}`, `{"clientID":{"$ne":null}}`,
		`{"quantity":1,"quantity":2}`, `{"price":{"amount":1,"currency":"EUR"}}`, `[[[[`, `null`, "\xff", `{"a\ud800":1}`, `{"quantity":01}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m := parseObject(text, "clientID", "productID", "quantity", "price", "email", "active")
		client, quantity, price := m.id("clientID"), m.whole("quantity", 1, jobs.QuantityMax), m.amount("price", priceMax)
		m.optional("email")
		m.flag("active")
		m.text("productID", 1, 5)
		if m.err == nil {
			if !ids.Valid(client) || quantity < 1 || quantity > jobs.QuantityMax || price.Minor < 0 || len(price.Currency) != 3 {
				t.Errorf("%q gave %q, %d, %v", text, client, quantity, price)
			}
			if !json.Valid(text) {
				t.Errorf("%q is no JSON", text)
			}
			return
		}
		e := fault.As(m.err)
		if e.Kind != fault.Invalid || e.Field == "" || !strings.HasPrefix(e.Message, e.Field+": ") || len(e.Message) > 400 || !utf8.ValidString(e.Message) {
			t.Errorf("%q: %+v", text, e)
		}
	})
}

// Z13, X4
func TestAllWrongSettingsAreReportedTogether(t *testing.T) {
	var s Settings
	err := settings.Load([]string{
		"CARTWRIGHT_AMQP_URL=amqp://localhost/", "CARTWRIGHT_JOB_SECRET=short", "CARTWRIGHT_STAFF_KEY=short", "CARTWRIGHT_GATEWAY_ANSWER_TIMEOUT=99m",
	}, &s)
	for _, key := range []string{"CARTWRIGHT_JOB_SECRET", "CARTWRIGHT_STAFF_KEY", "CARTWRIGHT_GATEWAY_ANSWER_TIMEOUT", "CARTWRIGHT_TLS_DIR"} {
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s is not in %v", key, err)
		}
	}
	if err != nil && strings.Contains(err.Error(), "short") {
		t.Errorf("a secret is repeated in %v", err)
	}
	s = Settings{}
	if err := settings.Load([]string{"CARTWRIGHT_AMQP_URL=amqp://localhost/", "CARTWRIGHT_JOB_SECRET=0123456789abcdef", "CARTWRIGHT_INSECURE=true"}, &s); err != nil || s.AnswerTimeout != 5*time.Second || s.Listen != "127.0.0.1:5003" {
		t.Errorf("the least settings gave %+v, %v", s, err)
	}
}
