package soldout

import (
	"encoding/json"
	"testing"

	"cartwright/internal/messaging"
)

// X5: whatever event is heard, a product counts as sold out only if the newest event about it says so,
// and an event that cannot be read makes everything be asked again.
func FuzzHear(f *testing.F) {
	const head = `{"specversion":"1.0","id":"e","source":"cartwright/inventory","subject":"tea","sequence":"00000000000000000007.000000","type":`
	f.Add([]byte(head + `"stock.sold_out","data":{"productId":"tea"}}`))
	f.Add([]byte(head + `"stock.available","data":{"productId":"tea"}}`))
	f.Add([]byte(`{"type":"stock.sold_out","subject":"cup"}`))
	f.Add([]byte("nonsense"))
	f.Fuzz(func(t *testing.T, event []byte) {
		l := New(messaging.Broker{}, "fuzz", nil)
		l.add("known", &entry{gone: true, sequence: "00000000000000000005.000000"})
		l.hear(event)
		l.hear(event) // events may come twice
		var told struct{ Type, Subject, Sequence string }
		unread := json.Unmarshal(event, &told) != nil || told.Subject == ""
		wantKnown := !unread && (told.Subject != "known" || told.Sequence != "" && (told.Sequence <= "00000000000000000005.000000" || told.Type == ranOut))
		if l.Has("known") != wantKnown {
			t.Errorf("after %q what was known is %t", event, l.Has("known"))
		}
		if told.Subject != "known" && l.Has(told.Subject) != (!unread && told.Type == ranOut && told.Sequence != "") {
			t.Errorf("after %q, %q is sold out: %t", event, told.Subject, l.Has(told.Subject))
		}
		if len(l.products) > 2 {
			t.Errorf("%d products are remembered", len(l.products))
		}
	})
}
