package cartmanager

import (
	"errors"
	"maps"
	"slices"

	"cartwright/internal/fault"
	"cartwright/jobs"
)

// freezeState is what a checkout has done to a cart.
type freezeState string

const (
	unheardOf freezeState = ""       // nothing yet: there is no row
	frozen    freezeState = "frozen" // the lines are with the checkout, for good once it is an order
	thawed    freezeState = "thawed" // they are back; also the tombstone of a freeze that never came
)

// freeze is a checkout's hold on the lines of a cart.
type freeze struct {
	client string
	stored freezeState // as it was read
	state  freezeState
	lines  []frozenLine // while frozen, in the order of their products
}

// frozenLine is a line with the name and price of the moment it was frozen. Its JSON is what the
// table has.
type frozenLine struct {
	Product  string `json:"product"`
	Name     string `json:"name"`
	Quantity int64  `json:"quantity"`
	Price    int64  `json:"price"` // of one unit, in the currency's smallest unit
	Currency string `json:"currency"`
}

// product is what the catalogue says of one.
type product struct {
	id       string
	name     string
	price    int64 // of one unit, in the currency's smallest unit
	currency string
	active   bool
}

// errUnseen says that the cart has a line whose product nobody has asked the catalogue about,
// because it came in after the question: ask again.
var errUnseen = errors.New("the cart changed while its products were looked up")

// take moves the lines out of the cart into the checkout. offers holds every product that was
// asked for; nil for one that the catalogue does not know.
func (f *freeze) take(c *cart, offers map[string]*product) error {
	switch f.state {
	case frozen:
		return nil // asked before: the same lines, at the prices of then
	case thawed:
		return fault.New(fault.Refused, "checkout_undone", "this checkout has ended already")
	}
	lines, err := price(c, offers)
	if err != nil {
		return err
	}
	c.clear()
	f.state, f.lines = frozen, lines
	return nil
}

// price gives every line its name and price, or says why the cart cannot be bought.
func price(c *cart, offers map[string]*product) ([]frozenLine, error) {
	switch {
	case len(c.lines) == 0:
		return nil, fault.New(fault.Refused, "empty_cart", "the cart is empty")
	case len(c.lines) > jobs.CartLinesMax: // merged by a thaw
		return nil, fault.New(fault.Refused, "cart_full", "at most %d products can be bought at once", jobs.CartLinesMax)
	}
	lines := make([]frozenLine, 0, len(c.lines))
	for _, id := range slices.Sorted(maps.Keys(c.lines)) {
		offer, asked := offers[id]
		if !asked {
			return nil, errUnseen
		}
		if err := buyable(id, offer, c.lines[id].quantity); err != nil {
			return nil, err
		}
		lines = append(lines, frozenLine{id, offer.name, c.lines[id].quantity, offer.price, offer.currency})
		if lines[0].Currency != offer.currency {
			return nil, fault.New(fault.Refused, "mixed_currencies", "the cart has prices in %s and in %s", lines[0].Currency, offer.currency)
		}
	}
	return lines, nil
}

func buyable(id string, offer *product, quantity int64) error {
	switch {
	case offer == nil || !offer.active:
		return notForSale(id)
	case quantity > jobs.QuantityMax: // merged by a thaw
		return fault.New(fault.Refused, "line_full", "at most %d of %s can be bought at once", jobs.QuantityMax, id).With("product", id)
	}
	return nil
}

func notForSale(id string) error {
	return fault.New(fault.Refused, "not_for_sale", "%s is not for sale", id).With("product", id)
}

// thaw puts the lines back and tells whether there were any. Without a freeze it leaves a
// tombstone: the freeze may still be on its way.
func (f *freeze) thaw(c *cart) (putBack bool, err error) {
	switch f.state {
	case frozen:
		c.putBack(f.lines)
		putBack = true
	}
	f.state, f.lines = thawed, nil
	return putBack, nil
}
