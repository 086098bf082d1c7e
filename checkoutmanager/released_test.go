package checkoutmanager

import (
	"testing"

	"cartwright/internal/fault"
	"cartwright/internal/money"
	"cartwright/internal/released"
)

// E1: whoever listens for orders hears what earlier versions told.
func TestReleasedEventsAreToldAsBefore(t *testing.T) {
	t.Parallel()
	r := row{request: request{clientID: "ann"}, orderID: "o", total: money.Amount{Minor: 700, Currency: "EUR"}, reasonCode: "out_of_stock"}
	m := move{to: placed, lines: []line{{"tea", "Tea", 2, 350}}}
	no := move{to: failed, reason: fault.New(fault.Refused, "out_of_stock", "tea is sold out")}
	for _, e := range append(events(r, m), events(r, no)...) {
		released.Event(t, "cartwright/"+name, e)
	}
	released.Whole(t, "order.created.json", "order.cancelled.json")
}
