package cartmanager

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"cartwright/internal/fault"
	"cartwright/internal/groupcommit"
	"cartwright/internal/store"
	"cartwright/jobs"
)

const (
	// freezeTriesMax: a shopper who adds a product between question and freeze costs one try.
	freezeTriesMax = 3
	// linesUnknown is the weight of a change that may move lines nobody has counted yet.
	linesUnknown = 8
)

// Carts changes and reads carts. All changes of all carts go through one group: what is asked at
// the same time becomes one transaction.
type Carts struct {
	db      *sql.DB
	shop    *shop
	changes *groupcommit.Group[change, outcome]
	views   *groupcommit.Group[string, view] // by client
}

func newCarts(db *sql.DB, s *shop, sizes *groupcommit.Metrics) *Carts {
	c := &Carts{db: db, shop: s}
	c.changes = groupcommit.New(c.commit, groupcommit.Options[change]{Weight: rowsMoved, Observe: sizes.Of("changes")})
	c.views = groupcommit.New(c.look, groupcommit.Options[string]{Observe: sizes.Of("views")})
	return c
}

// rowsMoved guesses how many rows a change writes.
func rowsMoved(ch change) int {
	switch ch := ch.(type) {
	case *freezeChange:
		return 1 + ch.lines
	case *thawChange:
		return linesUnknown
	}
	return 1
}

// wait returns when nothing is on its way any more.
func (c *Carts) wait() {
	c.changes.Wait()
	c.views.Wait()
	c.shop.wait()
}

// commit makes a batch of changes in one transaction: lock and read, decide in memory in the
// order of arrival, write once. Jobs and freezes are nearly always new, so at first they are not
// looked for. A key that is taken says otherwise, and a freeze that is refused may have been made
// before; then the second run looks.
func (c *Carts) commit(ctx context.Context, batch []change) ([]groupcommit.Result[outcome], error) {
	var results []groupcommit.Result[outcome]
	look := false
	err := store.InTx(ctx, c.db, func(ctx context.Context, tx *store.Tx) error {
		b, err := load(ctx, tx, batch, look)
		if err != nil {
			return err
		}
		results = decideAll(b, batch)
		hoped := !look
		look = true
		if hoped && refusesFreezes(batch, results) {
			return store.ErrRaced
		}
		return save(ctx, tx, b)
	})
	return results, err
}

func refusesFreezes(batch []change, results []groupcommit.Result[outcome]) bool {
	for i, ch := range batch {
		if _, isFreeze := ch.(*freezeChange); isFreeze && results[i].Err != nil {
			return true
		}
	}
	return false
}

func decideAll(b *books, batch []change) []groupcommit.Result[outcome] {
	results := make([]groupcommit.Result[outcome], len(batch))
	for i, ch := range batch {
		results[i].Value, results[i].Err = ch.decide(b)
	}
	return results
}

// perform does a job, once by its ID however often it is asked for. replayed says that it was
// done before. A refusal is kept like a success, and is the answer from then on.
func (c *Carts) perform(ctx context.Context, id string, job jobs.Job) (replayed bool, err error) {
	ch := &jobChange{id: id, job: job}
	if ch.fingerprint, err = jobs.Fingerprint(job); err != nil {
		return false, fmt.Errorf("job %s: %w", id, err)
	}
	if product := jobs.PutsIn(job); product != "" {
		if ch.offer, err = c.shop.offers.Do(ctx, product); err != nil { // the freeze looks again
			return false, fmt.Errorf("product %s: %w", product, err)
		}
	}
	out, err := c.changes.Do(ctx, ch)
	return out.replayed, err
}

// freeze takes the lines out of carts for checkouts, and answers for each apart. The catalogue is
// asked outside of the transaction, so a cart may have grown when the answer is there: then it is
// asked again.
func (c *Carts) freeze(ctx context.Context, holds []hold) []groupcommit.Result[outcome] {
	results := make([]groupcommit.Result[outcome], len(holds))
	open := make([]int, len(holds)) // those without a result
	for i := range open {
		open[i] = i
	}
	for range freezeTriesMax {
		asked := make([]hold, len(open))
		for n, i := range open {
			asked[n] = holds[i]
		}
		var again []int
		for n, r := range c.freezeOnce(ctx, asked) {
			if i := open[n]; errors.Is(r.Err, errUnseen) {
				results[i].Err = fault.Away("the cart", errUnseen)
				again = append(again, i)
			} else {
				results[i] = r
			}
		}
		if open = again; len(open) == 0 {
			break
		}
	}
	return results
}

// freezeOnce looks into the carts, asks the catalogue about everything in them, and freezes those
// whose products could be looked up. errUnseen is the answer for a cart that has grown meanwhile.
func (c *Carts) freezeOnce(ctx context.Context, holds []hold) []groupcommit.Result[outcome] {
	results := make([]groupcommit.Result[outcome], len(holds))
	clients, checkouts := make([]string, len(holds)), make([]string, len(holds))
	for i, h := range holds {
		clients[i], checkouts[i] = h.client, h.checkout
	}
	views := c.views.DoAll(ctx, clients)
	offers, lookErr := c.shop.pricesOf(ctx, productsIn(views))
	var heard map[string]bool
	if lookErr != nil { // a freeze that is asked for once more needs no prices
		heard, _ = c.heardOf(ctx, checkouts) //nolint:errcheck // then all of them are asked for again
	}
	var changes []change
	var of []int // whose change each is
	for i, v := range views {
		switch {
		case v.Err != nil:
			results[i].Err = fmt.Errorf("cart: %w", v.Err)
		case lookErr != nil && !heard[checkouts[i]]:
			results[i].Err = fmt.Errorf("products: %w", lookErr)
		default:
			changes, of = append(changes, &freezeChange{holds[i], offers, len(v.Value.lines)}), append(of, i)
		}
	}
	for n, r := range c.changes.DoAll(ctx, changes) {
		results[of[n]] = r
	}
	return results
}

func productsIn(views []groupcommit.Result[view]) (ids []string) {
	for _, v := range views {
		for _, l := range v.Value.lines {
			ids = append(ids, l.product)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

func (c *Carts) thaw(ctx context.Context, holds []hold) []groupcommit.Result[outcome] {
	changes := make([]change, len(holds))
	for i, h := range holds {
		changes[i] = &thawChange{h}
	}
	return c.changes.DoAll(ctx, changes)
}
