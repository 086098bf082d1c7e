package inventory

import (
	"encoding/json"
	"testing"

	past "cartwright/internal/released"
)

// E1: whoever listens for stock hears what earlier versions told, and what those have saved is read.
func TestReleasedEventsAndRowsAreAsBefore(t *testing.T) {
	t.Parallel()
	l := newLedger(map[string]shelf{})
	l.decide([]operation{{verb: adjust, id: "delivery", product: "tea", delta: 2, kind: finite}})
	sale := newLedger(l.shelves)
	lines := []line{{Product: "tea", Quantity: 2, Counted: 2}}
	sale.decide([]operation{{verb: reserve, id: "r", lines: lines}})
	files := []string{"reservation_lines.json"}
	for _, e := range append(l.events, sale.events...) {
		past.Event(t, "cartwright/inventory", e)
		files = append(files, e.Type+".json")
	}
	if len(files) != 4 {
		t.Errorf("the events are %v", files[1:])
	}
	text, err := json.Marshal(lines)
	if err != nil {
		t.Fatal(err)
	}
	past.Document(t, "reservation_lines.json", text)
	var read []line
	if err := json.Unmarshal(past.File(t, "reservation_lines.json", nil), &read); err != nil || len(read) != 1 || read[0] != lines[0] {
		t.Errorf("reservation lines read %+v, %v", read, err)
	}
	past.Whole(t, files...)
}
