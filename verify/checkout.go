package verify

import (
	"encoding/json"
	"fmt"
	"strconv"
)

// checkout is all that the databases have under one checkout's ID. What is nil or empty is not there.
type checkout struct {
	id          string
	order       *order
	bought      []boughtLine
	reservation *reservation
	movements   []movement
	payment     *payment
	charge      *charge
	freeze      *freeze

	promised []promise // the reservation's contents, once they were read
	unread   error     // why they could not be
	text     []byte    // for building text, without asking for memory each time
}

type order struct {
	orderID, state, currency string
	total                    int64
}

type boughtLine struct {
	product         string
	quantity, price int64
}

type reservation struct{ state, contents string }

// promise is a line of a reservation's contents, as inventory writes them.
type promise struct {
	Product  string `json:"product"`
	Quantity int64  `json:"quantity"`
	Counted  int64  `json:"counted"`
}

// movement is one that a checkout made: kind is sold or returned.
type movement struct {
	product, kind string
	delta         int64
}

type payment struct {
	orderID, state, currency, provider string
	amount                             int64
}

type charge struct {
	outcome, currency string
	amount, refunded  int64
}

type freeze struct{ client, state string }

// reset makes it another's, of whom nothing is known.
func (c *checkout) reset(id string) {
	*c = checkout{id: id, bought: c.bought[:0], movements: c.movements[:0], promised: c.promised[:0], text: c.text}
}

// readContents understands the reservation's lines. To compare text is several times as quick as to
// read JSON, and most of it is what the movements of what was sold would make it.
func (c *checkout) readContents() {
	if c.reservation == nil {
		return
	}
	if c.text = c.expectedContents(c.text[:0]); string(c.text) == c.reservation.contents {
		for _, m := range c.movements {
			c.promised = append(c.promised, promise{m.product, -m.delta, -m.delta})
		}
		return
	}
	c.promised = nil // JSON would leave in a line what the one in its place before had
	c.unread = json.Unmarshal([]byte(c.reservation.contents), &c.promised)
}

// expectedContents appends the contents of a reservation which sold just what has moved.
func (c *checkout) expectedContents(text []byte) []byte {
	for i, m := range c.movements {
		lead := `,{"product":"`
		if i == 0 {
			lead = `[{"product":"`
		}
		text = append(append(text, lead...), m.product...)
		text = strconv.AppendInt(append(text, `","quantity":`...), -m.delta, 10)
		text = strconv.AppendInt(append(text, `,"counted":`...), -m.delta, 10)
		text = append(text, '}')
	}
	return append(text, ']')
}

func (c *checkout) reservationState() string {
	if c.reservation == nil {
		return "none"
	}
	return c.reservation.state
}

// gone is how many units of a product were sold, and how many of those were returned.
func (c *checkout) gone(product string) (sold, returned int64) {
	for _, m := range c.movements {
		switch {
		case m.product != product:
		case m.kind == "sold":
			sold -= m.delta
		default:
			returned += m.delta
		}
	}
	return sold, returned
}

// line is the reservation's line of a product, nil if it has none.
func (c *checkout) line(product string) *promise {
	for i := range c.promised {
		if c.promised[i].Product == product {
			return &c.promised[i]
		}
	}
	return nil
}

// soldHasLeft goes from the lines to the ledger, and from the ledger to the lines: a line of what is
// sold that has another movement than it should, or none; and movements of what is not sold, of no
// line, or of nobody.
func soldHasLeft(c *checkout) (rows []string) {
	state := c.reservationState()
	if c.unread != nil {
		rows = append(rows, fmt.Sprintf("reservation %s (%s): its contents cannot be read: %v", c.id, state, c.unread))
	}
	if state == "sold" {
		for _, l := range c.promised {
			if sold, returned := c.gone(l.Product); sold-returned != l.Counted {
				rows = append(rows, fmt.Sprintf("reservation %s (%s) product %s: counted %d, sold %d, returned %d", c.id, state, l.Product, l.Counted, sold, returned))
			}
		}
	}
	for i, m := range c.movements {
		if i > 0 && c.movements[i-1].product == m.product || state == "sold" && c.line(m.product) != nil {
			continue
		}
		if sold, returned := c.gone(m.product); sold != returned {
			rows = append(rows, fmt.Sprintf("reservation %s (%s) product %s: sold and not returned %d", c.id, state, m.product, sold-returned))
		}
	}
	return rows
}

func boughtWasSold(c *checkout) (rows []string) {
	if !c.is("placed") {
		return nil
	}
	for _, b := range c.bought {
		quantity := int64(0)
		if l := c.line(b.product); l != nil {
			quantity = l.Quantity
		}
		if state := c.reservationState(); state != "sold" || quantity != b.quantity {
			rows = append(rows, fmt.Sprintf("order %s product %s: bought %d, reserved %d (%s)", c.order.orderID, b.product, b.quantity, quantity, state))
		}
	}
	return rows
}

// is tells whether there is an order, in that state.
func (c *checkout) is(state string) bool { return c.order != nil && c.order.state == state }

func linesAddUp(c *checkout) []string {
	if !c.is("placed") {
		return nil
	}
	sum := int64(0)
	for _, b := range c.bought {
		sum += b.quantity * b.price
	}
	if len(c.bought) > 0 && sum == c.order.total {
		return nil
	}
	return []string{fmt.Sprintf("order %s: total %d, lines add up to %d", c.order.orderID, c.order.total, sum)}
}

func failedHoldsNoStock(c *checkout) []string {
	if !c.is("failed") || c.reservation == nil || c.reservation.state == "released" {
		return nil
	}
	return []string{fmt.Sprintf("order %s: reservation is %s", c.order.orderID, c.reservation.state)}
}

func placedWasPaid(c *checkout) []string {
	if !c.is("placed") || c.order.total <= 0 {
		return nil
	}
	paid := "none"
	if p := c.payment; p != nil {
		if p.state == "charged" && p.amount == c.order.total && p.currency == c.order.currency {
			return nil
		}
		paid = fmt.Sprintf("%d %s %s", p.amount, p.currency, p.state)
	}
	return []string{fmt.Sprintf("order %s: total %d %s, payment %s", c.order.orderID, c.order.total, c.order.currency, paid)}
}

func failedKeepsNoMoney(c *checkout) []string {
	if !c.is("failed") || c.payment == nil {
		return nil
	}
	switch c.payment.state {
	case "initiated", "charged", "cancelling":
		return []string{fmt.Sprintf("order %s: payment is %s", c.order.orderID, c.payment.state)}
	}
	return nil
}

func chargedForAnOrder(c *checkout) []string {
	p := c.payment
	if p == nil || p.state != "charged" || c.order != nil && c.order.orderID == p.orderID {
		return nil
	}
	return []string{fmt.Sprintf("payment %s of %d %s for order %s", c.id, p.amount, p.currency, p.orderID)}
}

// providerAgrees is about the test provider: it is the one whose books can be read here.
func providerAgrees(c *checkout) []string {
	p := c.payment
	if p == nil || p.provider != "test" {
		return nil
	}
	var none charge
	theirs, words := &none, "nothing"
	if c.charge != nil {
		theirs = c.charge
		words = fmt.Sprintf("%s over %d, refunded %d", theirs.outcome, theirs.amount, theirs.refunded)
	}
	taken := theirs.outcome == "charged"
	agree := true
	switch p.state {
	case "charged":
		agree = taken && theirs.amount == p.amount && theirs.refunded == 0
	case "refunded":
		agree = taken && theirs.refunded == theirs.amount
	case "declined", "cancelled":
		agree = !taken || theirs.refunded == theirs.amount
	}
	if agree {
		return nil
	}
	return []string{fmt.Sprintf("payment %s is %s over %d, provider: %s", c.id, p.state, p.amount, words)}
}

func providerIsKnown(c *checkout) []string {
	if c.charge == nil || c.charge.outcome != "charged" || c.payment != nil {
		return nil
	}
	return []string{fmt.Sprintf("charge %s over %d %s", c.id, c.charge.amount, c.charge.currency)}
}

func cartFollows(c *checkout) []string {
	if c.freeze == nil || !(c.is("placed") && c.freeze.state == "thawed") && !(c.is("failed") && c.freeze.state != "thawed") {
		return nil
	}
	return []string{fmt.Sprintf("order %s is %s, its cart is %s", c.order.orderID, c.order.state, c.freeze.state)}
}

func frozenForACheckout(c *checkout) []string {
	if c.freeze == nil || c.freeze.state != "frozen" || c.order != nil {
		return nil
	}
	return []string{fmt.Sprintf("checkout %s of %s", c.id, c.freeze.client)}
}
