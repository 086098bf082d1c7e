package cartmanager

import (
	"maps"
	"strconv"

	"cartwright/internal/fault"
	"cartwright/jobs"
)

// cart is one client's cart as a value. It knows the rules of carts, and nothing of where it is
// kept. A change that is refused leaves it as it was.
type cart struct {
	version int64           // grows with every change; 0 for a cart that never had anything in it
	lines   map[string]line // by product
	touched map[string]bool // products whose lines may differ from what was read
	isNew   bool            // it has no row yet
}

// line is a product in a cart.
type line struct {
	product  string
	quantity int64 // at least 1
	position int64 // the cart's version when the line came in
}

func newCart(version int64) *cart {
	return &cart{version: version, lines: map[string]line{}, touched: map[string]bool{}}
}

// add puts quantity more of a product in.
func (c *cart) add(product string, quantity int64, left stock) error {
	return c.set(product, c.lines[product].quantity+quantity, left)
}

// set makes a line exactly this long, if there is room for it and enough left of the product.
func (c *cart) set(product string, quantity int64, left stock) error {
	_, has := c.lines[product]
	switch {
	case quantity > jobs.QuantityMax:
		return fault.New(fault.Refused, "line_full", "a cart takes at most %d of %s", jobs.QuantityMax, product).With("product", product)
	case !has && len(c.lines) >= jobs.CartLinesMax:
		return fault.New(fault.Refused, "cart_full", "a cart takes at most %d products", jobs.CartLinesMax)
	case !left.covers(quantity):
		return left.outOf(product)
	}
	c.write(product, quantity)
	return nil
}

// remove takes a line out. What is not there is gone already.
func (c *cart) remove(product string) {
	if _, has := c.lines[product]; !has {
		return
	}
	c.version++
	delete(c.lines, product)
	c.touched[product] = true
}

func (c *cart) clear() {
	for product := range maps.Clone(c.lines) {
		c.remove(product)
	}
}

// putBack merges lines that had left for a checkout. No limit applies: nothing that the shopper
// chose may be lost because more was chosen meanwhile.
func (c *cart) putBack(lines []frozenLine) {
	for _, l := range lines {
		c.write(l.Product, c.lines[l.Product].quantity+l.Quantity)
	}
}

func (c *cart) write(product string, quantity int64) {
	old, has := c.lines[product]
	c.version++
	if !has {
		old = line{product: product, position: c.version}
	}
	old.quantity = quantity
	c.lines[product] = old
	c.touched[product] = true
}

// stock is how much of a product can be bought.
type stock struct {
	available int64
	infinite  bool // never runs out; available means nothing
}

func (s stock) covers(quantity int64) bool { return s.infinite || quantity <= s.available }

func (s stock) outOf(product string) error {
	words := "only " + strconv.FormatInt(s.available, 10) + " of " + product + " left"
	if s.available <= 0 {
		words = product + " is sold out"
	}
	return fault.New(fault.Refused, "out_of_stock", "%s", words).
		With("product", product).With("available", strconv.FormatInt(max(0, s.available), 10))
}
