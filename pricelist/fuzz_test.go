package pricelist

import (
	"encoding/json"
	"testing"

	"cartwright/internal/messaging"
)

// X5: whatever event is heard, nothing that it may be about is remembered any longer.
func FuzzHear(f *testing.F) {
	l := New(messaging.Broker{}, "fuzz", nil)
	f.Cleanup(l.Close)
	f.Add([]byte(`{"specversion":"1.0","type":"product.updated","subject":"tea","data":{"productId":"tea","version":2}}`), "tea")
	f.Add([]byte(`{"subject":""}`), "tea")
	f.Add([]byte(`{"Subject":"cup","subject":"tea"}`), "cup")
	f.Add([]byte("nonsense"), "tea")
	f.Fuzz(func(t *testing.T, event []byte, product string) {
		l.known.Set(product, nil)
		l.hear(event)
		_, remembered := l.known.GetIfPresent(product)
		var about struct{ Subject string }
		unread := json.Unmarshal(event, &about) != nil || about.Subject == ""
		if remembered && (unread || about.Subject == product) {
			t.Errorf("%q is remembered after %q", product, event)
		}
	})
}
