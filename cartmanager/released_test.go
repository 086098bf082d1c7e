package cartmanager

import (
	"encoding/json"
	"testing"

	"cartwright/internal/fault"
	"cartwright/internal/released"
)

// E1: whoever listens for carts hears what earlier versions told, and what those have saved is read.
func TestReleasedEventsAndRowsAreAsBefore(t *testing.T) {
	t.Parallel()
	released.Event(t, "cartwright/cartmanager", cartThawed(hold{checkout: "c", client: "ann", order: "o"}))
	lines := []frozenLine{{Product: "tea", Name: "Grüner Tee", Quantity: 2, Price: 350, Currency: "EUR"}}
	text, err := json.Marshal(lines)
	if err != nil {
		t.Fatal(err)
	}
	released.Document(t, "frozen_lines.json", text)
	var read []frozenLine
	if err := json.Unmarshal(released.File(t, "frozen_lines.json", nil), &read); err != nil || len(read) != 1 || read[0] != lines[0] {
		t.Errorf("frozen lines read %+v, %v", read, err)
	}
	released.Message(t, "refusal", fault.ToProto(fault.New(fault.Refused, "out_of_stock", "only 3 of tea left").With("product", "tea")))
	released.Whole(t, "cart.thawed.json", "frozen_lines.json", "refusal.pb", "refusal.json")
}
