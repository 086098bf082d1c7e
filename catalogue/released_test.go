package catalogue

import (
	"testing"

	"cartwright/internal/released"
	"cartwright/proto/cataloguepb"
)

// E1: whoever listens for products hears what earlier versions told.
func TestReleasedEventsAreToldAsBefore(t *testing.T) {
	t.Parallel()
	released.Event(t, "cartwright/catalogue", updated(&cataloguepb.Product{ProductId: "tea", Version: 3, Name: "Grüner Tee", PriceMinor: 1290, Currency: "EUR", Active: true}))
	released.Whole(t, "product.updated.json")
}
