package cartmanager

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"cartwright/internal/fault"
	"cartwright/internal/groupcommit"
	"cartwright/internal/ids"
	"cartwright/internal/testenv"
	"cartwright/jobs"
	"cartwright/proto/jobspb"
	schema "cartwright/sql"
)

func TestACartHasRoomForSoManyProducts(t *testing.T) {
	t.Parallel()
	c, plenty := newCart(0), stock{infinite: true}
	for i := range jobs.CartLinesMax {
		if err := c.add(fmt.Sprint("p", i), 1, plenty); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.add("one more", 1, plenty); err == nil || fault.As(err).Code != "cart_full" {
		t.Errorf("one more product: %v", err)
	}
	if err := c.add("p0", jobs.QuantityMax, plenty); err == nil || fault.As(err).Code != "line_full" {
		t.Errorf("one more unit than a line takes: %v", err)
	}
	if err := c.add("p0", jobs.QuantityMax-1, plenty); err != nil {
		t.Errorf("a full line: %v", err)
	}
}

// shopper plays everything that can happen to one cart against the books, and keeps count by
// simpler means.
type shopper struct {
	books *books
	units map[string]int64            // in the cart
	held  map[string]map[string]int64 // by checkout, while frozen
	over  map[string]bool             // checkouts that have ended
	jobs  int
}

const client = "ann"

var (
	products  = rapid.SampledFrom([]string{"tea", "cup", "book"})
	checkouts = rapid.SampledFrom([]string{"o1", "o2", "o3", "o4"})
	quantity  = rapid.Int64Range(0, jobs.QuantityMax)
	available = rapid.Int64Range(0, 2*jobs.QuantityMax)
)

func newShopper() *shopper {
	b := &books{now: time.Now(), carts: map[string]*cart{client: newCart(0)}, freezes: map[string]*freeze{}, done: map[string]*doneJob{}}
	for _, id := range []string{"o1", "o2", "o3", "o4"} {
		b.freezes[id] = &freeze{}
	}
	return &shopper{books: b, units: map[string]int64{}, held: map[string]map[string]int64{}, over: map[string]bool{}}
}

// job does a job twice: the second answer is the first one again.
func (s *shopper) job(t *rapid.T, job jobs.Job, left int64) error {
	s.jobs++
	ch := &jobChange{id: fmt.Sprint("job-", s.jobs), job: job, offer: offer{left: stock{available: left}}}
	_, err := ch.decide(s.books)
	again, errAgain := ch.decide(s.books)
	if !again.replayed || fmt.Sprint(err) != fmt.Sprint(errAgain) {
		t.Fatalf("%v, and again %v (replayed %t)", err, errAgain, again.replayed)
	}
	return err
}

func (s *shopper) add(t *rapid.T) {
	p, q, left := products.Draw(t, "product"), max(1, quantity.Draw(t, "quantity")), available.Draw(t, "available")
	err := s.job(t, add(client, p, q), left)
	sum := s.units[p] + q
	if want := sum <= left && sum <= jobs.QuantityMax; (err == nil) != want {
		t.Fatalf("%d of %d left on top of %d: %v", q, left, s.units[p], err)
	}
	if err == nil {
		s.units[p] = sum
	}
}

func (s *shopper) set(t *rapid.T) {
	p, q, left := products.Draw(t, "product"), quantity.Draw(t, "quantity"), available.Draw(t, "available")
	err := s.job(t, set(client, p, q), left)
	if want := q == 0 || q <= left; (err == nil) != want {
		t.Fatalf("%d of %d left: %v", q, left, err)
	}
	switch {
	case err == nil && q > 0:
		s.units[p] = q
	case err == nil:
		delete(s.units, p)
	}
}

func (s *shopper) freeze(t *rapid.T) {
	h := hold{checkout: checkouts.Draw(t, "checkout"), client: client}
	offers := map[string]*product{}
	for _, p := range []string{"tea", "cup", "book"} {
		offers[p] = &product{id: p, name: p, price: 1, currency: "EUR", active: true}
	}
	out, err := (&freezeChange{hold: h, offers: offers}).decide(s.books)
	var got map[string]int64
	for _, l := range out.lines {
		if got == nil {
			got = map[string]int64{}
		}
		got[l.Product] = l.Quantity
	}
	switch {
	case s.held[h.checkout] != nil:
		if err != nil || !maps.Equal(got, s.held[h.checkout]) {
			t.Fatalf("the second freeze gave %v, %v", got, err)
		}
	case err == nil:
		if s.over[h.checkout] || !maps.Equal(got, s.units) {
			t.Fatalf("froze %v out of %v (ended: %t)", got, s.units, s.over[h.checkout])
		}
		s.held[h.checkout], s.units = got, map[string]int64{}
	case !s.over[h.checkout] && len(s.units) > 0 && fault.As(err).Code != "line_full":
		t.Fatal(err)
	}
}

func (s *shopper) thaw(t *rapid.T) {
	h := hold{checkout: checkouts.Draw(t, "checkout"), client: client}
	if _, err := (&thawChange{h}).decide(s.books); err != nil {
		t.Fatal(err)
	}
	for p, q := range s.held[h.checkout] {
		s.units[p] += q
	}
	delete(s.held, h.checkout)
	s.over[h.checkout] = true
}

// agree compares the books with the count.
func (s *shopper) agree(t *rapid.T) {
	got := map[string]int64{}
	for p, l := range s.books.carts[client].lines {
		if l.quantity < 1 || l.product != p {
			t.Fatalf("line %+v under %s", l, p)
		}
		got[p] = l.quantity
	}
	if !maps.Equal(got, s.units) {
		t.Fatalf("the cart has %v, want %v", got, s.units)
	}
}

// C2, C3, K9: whatever happens in whatever order, nothing appears and nothing is lost.
func TestWhateverHappensToACartItAddsUp(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := newShopper()
		t.Repeat(map[string]func(*rapid.T){"add": s.add, "set": s.set, "freeze": s.freeze, "thaw": s.thaw, "": s.agree})
	})
}

// Changes wait for the database twice, to look and to save, also those of a cart that is new.
func TestChangesOfCartsAreTwoRoundTrips(t *testing.T) {
	t.Parallel()
	namespace := testenv.Namespace(t)
	testenv.Database(t, namespace, schema.Carts)
	db, proxy := testenv.OpenProxied(t, namespace+schema.Carts)
	c := newCarts(db, nil, groupcommit.NewMetrics(prometheus.NewRegistry()))
	takes := &freezeChange{hold{checkout: ids.New(), client: "ann"}, map[string]*product{"tea": {id: "tea", name: "Tea", price: 150, currency: "EUR", active: true}}, 1}
	for n, batch := range [][]change{
		{adds("ann", "tea"), adds("bob", "tea")},
		{adds("ann", "tea"), adds("cyd", "tea")},
		{takes, adds("bob", "tea")},
	} {
		before := proxy.Trips()
		results, err := c.commit(t.Context(), batch)
		if err != nil || results[0].Err != nil || results[1].Err != nil {
			t.Fatalf("batch %d: %v, %v", n, results, err)
		}
		if trips := proxy.Trips() - before; trips != 2 {
			t.Errorf("batch %d: %d round trips", n, trips)
		}
	}
}

func adds(client, product string) *jobChange {
	return &jobChange{id: ids.New(), job: &jobspb.AddToCart{ClientId: client, ProductId: product, Quantity: 1}, offer: offer{left: stock{infinite: true}}}
}
