package outbox

import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
)

func document(t testing.TB, r Relay, sheet string) []byte {
	t.Helper()
	var saved []Saved
	if err := jsonv2.Unmarshal([]byte(sheet), &saved, asWritten); err != nil {
		t.Fatal(err)
	}
	saved[0].Time, saved[0].Sequence = time.Date(2026, 11, 21, 12, 0, 0, 5000, time.FixedZone("CET", 3600)), sequence(7, 1)
	e, err := r.CloudEvent(saved[0])
	if err != nil {
		t.Fatal(err)
	}
	return e.Body
}

// E1: whatever an event says, its document is JSON and says just that.
func TestAnEventsDocumentSaysWhatWasSaved(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"plain", `"quoted" \ and {braced}`, "<a href='?a&b'>\u2028\x00\n", "ü 日本 🛒"} {
		data := map[string]any{"text": text, "list": []any{1.5, nil, true, map[string]any{}}}
		sheet, err := json.Marshal([]map[string]any{{"id": "id " + text, "type": "thing.happened", "subject": "subject " + text, "data": data}})
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if err := json.Unmarshal(document(t, Relay{Source: "source " + text}, string(sheet)), &got); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		want := map[string]any{
			"specversion": "1.0", "id": "id " + text, "source": "source " + text, "type": "thing.happened", "subject": "subject " + text,
			"time": "2026-11-21T11:00:00.000005Z", "sequence": "00000000000000000007.000001", "datacontenttype": "application/json", "data": data,
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%q: the document says %v", text, got)
		}
	}
}

func BenchmarkDocuments(b *testing.B) {
	sheet := "["
	for i := range 64 {
		sheet += fmt.Sprintf(`{"id":"0b1f4a56-7c7b-4c5e-9a57-%012d","type":"order.created","subject":"4852650d-9a89-8277-9a07-%012d","data":{"orderID":"4852650d-9a89-8277-9a07-%012d","clientID":"client-%d","total":{"amount":12032,"currency":"EUR"},"lines":[{"productID":"product-1","quantity":2,"price":6016}]}},`, i, i, i, i)
	}
	text := []byte(sheet[:len(sheet)-1] + "]")
	r := Relay{Source: "cartwright/checkoutmanager"}
	b.ReportAllocs()
	for b.Loop() {
		var saved []Saved
		if err := jsonv2.Unmarshal(text, &saved, asWritten); err != nil {
			b.Fatal(err)
		}
		for _, e := range saved {
			if _, err := r.CloudEvent(e); err != nil {
				b.Fatal(err)
			}
		}
	}
}
