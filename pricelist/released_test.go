package pricelist

import (
	"os"
	"testing"

	"cartwright/internal/messaging"
)

// A price list of today hears what a catalogue of yesterday tells, and forgets that product alone.
func TestReleasedEventsAreHeard(t *testing.T) {
	t.Parallel()
	event, err := os.ReadFile("../catalogue/testdata/released/product.updated.json")
	if err != nil {
		t.Fatal(err)
	}
	l := New(messaging.Broker{}, "released", nil)
	defer l.Close()
	l.known.Set("tea", nil)
	l.known.Set("cup", nil)
	l.hear(event)
	_, tea := l.known.GetIfPresent("tea")
	_, cup := l.known.GetIfPresent("cup")
	if tea || !cup {
		t.Errorf("tea is remembered: %t, cup: %t", tea, cup)
	}
}
