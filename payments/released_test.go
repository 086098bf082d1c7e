package payments

import (
	"testing"

	"cartwright/internal/money"
	"cartwright/internal/released"
)

// E1: whoever listens for payments hears what earlier versions told.
func TestReleasedEventsAreToldAsBefore(t *testing.T) {
	t.Parallel()
	p := payment{id: "p", orderID: "o", amount: money.Amount{Minor: 700, Currency: "EUR"}, reason: "out_of_stock"}
	released.Event(t, "cartwright/payments", *processed(p))
	released.Event(t, "cartwright/payments", *givenBack(p))
	released.Whole(t, "payment.processed.json", "payment.refunded.json")
}
