package outbox

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"
	"unicode/utf8"
)

// read is a CloudEvent as its readers see it.
type read struct {
	SpecVersion, ID, Source, Type, Subject, Time, Sequence, DataContentType string
	Data                                                                    any
}

// E1: an event that was saved is read back, and published as a CloudEvent that says the same.
func FuzzSheet(f *testing.F) {
	f.Add("order.created", "65bafcc0-4234-8f15-9209-6c4186a3af5f", "Grüner Tee", int64(1290))
	f.Add("product.updated", "tea", `<script>"\u2028`, int64(-1))
	f.Add("", "\x00", "\u2028", int64(1)<<62)
	f.Fuzz(func(t *testing.T, kind, subject, name string, amount int64) {
		text, err := writeSheet([]Event{{Type: kind, Subject: subject, Data: map[string]any{"name": name, "amount": amount}}})
		if err != nil {
			t.Fatal(err)
		}
		sheet, err := readSheet(text)
		if err != nil || len(sheet) != 1 {
			t.Fatalf("%d events, %v", len(sheet), err)
		}
		sheet[0].Time, sheet[0].Sequence = time.UnixMicro(1_760_000_000_123_456), sequence(7, 0)
		e, err := Relay{Source: "cartwright/test"}.CloudEvent(sheet[0])
		if err != nil {
			t.Fatal(err)
		}
		var got read
		if err := json.Unmarshal(e.Body, &got); err != nil {
			t.Fatalf("%v in %s", err, e.Body)
		}
		if !utf8.ValidString(kind) || !utf8.ValidString(subject) || !utf8.ValidString(name) {
			return // mended on the way, as JSON has to be
		}
		want := read{"1.0", sheet[0].ID, "cartwright/test", kind, subject, "2025-10-09T08:53:20.123456Z", "00000000000000000007.000000", "application/json",
			map[string]any{"name": name, "amount": float64(amount)}}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v, want %+v", got, want)
		}
	})
}

// Whatever is found in the table either cannot be read, or becomes a CloudEvent.
func FuzzReadSheet(f *testing.F) {
	f.Add([]byte(`[{"id":"a","type":"order.created","subject":"o","data":{"total":1}}]`))
	f.Add([]byte(`[{"id":"a","data":[1,2,{"x":null}]},{}]`))
	f.Add([]byte(`[{"type":"a\ud800"}]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		sheet, err := readSheet(text)
		if err != nil {
			return
		}
		for _, saved := range sheet {
			if e, err := (Relay{}).CloudEvent(saved); err == nil && saved.Data != nil && utf8.Valid(text) && !json.Valid(e.Body) {
				t.Fatalf("%q became %q", text, e.Body)
			}
		}
	})
}
