package cartmanager

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"cartwright/internal/fault"
	"cartwright/internal/groupcommit"
	"cartwright/internal/ids"
	"cartwright/internal/outbox"
	"cartwright/internal/testenv"
	"cartwright/jobs"
	"cartwright/proto/cartpb"
	"cartwright/proto/jobspb"
	schema "cartwright/sql"
)

// table is carts on a database of their own, without a broker.
type table struct {
	t     testing.TB
	db    *sql.DB
	goods *goods
	*Carts
}

func setTable(t testing.TB) *table {
	t.Helper()
	tb := &table{t: t, db: testenv.Database(t, testenv.Namespace(t), schema.Carts), goods: openGoods(t)}
	tb.Carts = tb.replica()
	return tb
}

// replica makes another process' view of the same carts.
func (tb *table) replica() *Carts {
	sizes := groupcommit.NewMetrics(prometheus.NewRegistry())
	c := newCarts(tb.db, newShop(dial(tb.t, tb.goods.addr), dial(tb.t, tb.goods.addr), sizes), sizes)
	tb.t.Cleanup(c.wait)
	return c
}

func (tb *table) put(client, product string, quantity int64) {
	tb.t.Helper()
	if _, err := tb.perform(tb.t.Context(), ids.New(), add(client, product, quantity)); err != nil {
		tb.t.Fatal(err)
	}
}

// has checks what a cart holds.
func (tb *table) has(client, want string) {
	tb.t.Helper()
	v, err := tb.view(tb.t.Context(), client)
	if err != nil {
		tb.t.Fatal(err)
	}
	if got := spell(v.lines); got != want {
		tb.t.Errorf("the cart of %s has %q, want %q", client, got, want)
	}
}

// froze checks what a freeze gives: "2 tea at 450 EUR, …".
func (tb *table) froze(checkout, client, want string) {
	tb.t.Helper()
	lines, err := freezeOne(tb.t.Context(), tb.Carts, hold{checkout: checkout, client: client})
	if err != nil {
		tb.t.Fatal(err)
	}
	words := make([]string, len(lines))
	for i, l := range lines {
		words[i] = fmt.Sprintf("%d %s (%s) at %d %s", l.Quantity, l.Product, l.Name, l.Price, l.Currency)
	}
	if got := strings.Join(words, ", "); got != want {
		tb.t.Errorf("frozen %q, want %q", got, want)
	}
}

// refuses checks that an error is a definite no with a code.
func (tb *table) refuses(err error, kind fault.Kind, code string) {
	tb.t.Helper()
	if err == nil || fault.KindOf(err) != kind || fault.As(err).Code != code {
		tb.t.Errorf("got %v, want %s %s", err, kind, code)
	}
}

func (tb *table) rows(tableName string) (n int) {
	tb.t.Helper()
	if err := tb.db.QueryRowContext(tb.t.Context(), "SELECT COUNT(*) FROM "+tableName).Scan(&n); err != nil {
		tb.t.Fatal(err)
	}
	return n
}

// told counts the events of a type and subject that wait, or all of them when the type is empty.
func (tb *table) told(kind, subject string) (n int) {
	tb.t.Helper()
	_, events, err := outbox.Waiting(tb.t.Context(), tb.db, 1000)
	if err != nil {
		tb.t.Fatal(err)
	}
	for _, e := range events {
		if kind == "" || e.Type == kind && e.Subject == subject {
			n++
		}
	}
	return n
}

func (tb *table) must(err error) {
	tb.t.Helper()
	if err != nil {
		tb.t.Error(err)
	}
}

func (tb *table) tryFreeze(checkout, client string) error {
	_, err := freezeOne(tb.t.Context(), tb.Carts, hold{checkout: checkout, client: client})
	return err
}

func freezeOne(ctx context.Context, c *Carts, h hold) ([]frozenLine, error) {
	r := c.freeze(ctx, []hold{h})[0]
	return r.Value.lines, r.Err
}

func thawOne(ctx context.Context, c *Carts, h hold) error { return c.thaw(ctx, []hold{h})[0].Err }

// K1, O1: the lines leave the cart with the catalogue's names and prices, and asking twice is
// asking once, also when a price has changed meanwhile.
func TestAFreezeGivesTheSameLinesAgain(t *testing.T) {
	t.Parallel()
	tb := setTable(t)
	tb.put("ann", "tea", 2)
	tb.put("ann", "cup", 1)
	want := "1 cup (Cup) at 1250 EUR, 2 tea (Green tea) at 450 EUR"
	tb.froze("order-1", "ann", want)
	tb.has("ann", "")
	tb.goods.put("tea", "Dear tea", 900, "EUR", 10)
	tb.froze("order-1", "ann", want)
	tb.refuses(tb.tryFreeze("order-2", "ann"), fault.Refused, "empty_cart")
}

// K2, K9
func TestAThawMergesWithWhatWasAddedMeanwhile(t *testing.T) {
	t.Parallel()
	tb := setTable(t)
	tb.put("ann", "tea", 2)
	tb.froze("order-1", "ann", "2 tea (Green tea) at 450 EUR")
	tb.put("ann", "cup", 1)
	tb.put("ann", "tea", 3)
	for range 2 {
		tb.must(thawOne(t.Context(), tb.Carts, hold{"order-1", "ann", "o-1"}))
		tb.has("ann", "1 cup, 5 tea")
	}
	if frozen, events := tb.rows("freezes WHERE contents <> '[]'"), tb.told("cart.thawed", "ann"); frozen != 0 || events != 1 {
		t.Errorf("%d freezes have lines and %d events are left, want 0 and 1", frozen, events)
	}
	tb.refuses(tb.tryFreeze("order-1", "ann"), fault.Refused, "checkout_undone")
	tb.has("ann", "1 cup, 5 tea")
}

// K9
func TestWhatWasAddedDuringACheckoutStays(t *testing.T) {
	t.Parallel()
	tb := setTable(t)
	tb.put("ann", "tea", 2)
	tb.froze("order-1", "ann", "2 tea (Green tea) at 450 EUR")
	tb.put("ann", "cup", 1)
	tb.has("ann", "1 cup")
	tb.froze("order-1", "ann", "2 tea (Green tea) at 450 EUR")
	tb.has("ann", "1 cup")
}

func TestAThawThatComesFirstRefusesTheFreeze(t *testing.T) {
	t.Parallel()
	tb := setTable(t)
	tb.put("ann", "tea", 2)
	tb.must(thawOne(t.Context(), tb.Carts, hold{"order-1", "ann", "o-1"}))
	tb.refuses(tb.tryFreeze("order-1", "ann"), fault.Refused, "checkout_undone")
	tb.has("ann", "2 tea")
	if n := tb.told("", ""); n != 0 {
		t.Errorf("a tombstone told the world %d things", n)
	}
}

// K4, P18, L6
func TestACartThatCannotBeBoughtStaysAsItWas(t *testing.T) {
	t.Parallel()
	tb := setTable(t)
	tb.goods.put("sake", "Sake", 3000, "JPY", 5)
	tb.refuses(tb.tryFreeze("empty", "ann"), fault.Refused, "empty_cart")

	tb.put("ann", "tea", 1)
	tb.put("ann", "sake", 1)
	tb.refuses(tb.tryFreeze("mixed", "ann"), fault.Refused, "mixed_currencies")

	tb.put("bob", "tea", 1)
	tb.put("bob", "cup", 1)
	tb.goods.withdraw("cup")
	err := tb.tryFreeze("withdrawn", "bob")
	tb.refuses(err, fault.Refused, "not_for_sale")
	if fault.As(err).Details["product"] != "cup" {
		t.Errorf("%v does not name the product", err)
	}
	tb.has("ann", "1 tea, 1 sake")
	tb.has("bob", "1 tea, 1 cup")
	if n := tb.rows("freezes"); n != 0 {
		t.Errorf("%d freezes were written", n)
	}
	tb.goods.put("cup", "Cup", 1250, "EUR", 5)
	tb.froze("withdrawn", "bob", "1 cup (Cup) at 1250 EUR, 1 tea (Green tea) at 450 EUR")
}

func TestACheckoutBelongsToOneClient(t *testing.T) {
	t.Parallel()
	tb := setTable(t)
	tb.put("ann", "tea", 1)
	tb.put("eve", "tea", 1)
	tb.froze("order-1", "ann", "1 tea (Green tea) at 450 EUR")
	for _, err := range []error{tb.tryFreeze("order-1", "eve"), thawOne(t.Context(), tb.Carts, hold{"order-1", "eve", "o-1"})} {
		tb.refuses(err, fault.Mismatch, "checkout_mismatch")
	}
	tb.has("eve", "1 tea")
	tb.must(thawOne(t.Context(), tb.Carts, hold{"order-1", "ann", "o-1"}))
	tb.has("ann", "1 tea")
}

func TestALineThatComesWhileProductsAreLookedUpIsFrozenToo(t *testing.T) {
	t.Parallel()
	tb := setTable(t)
	tb.put("ann", "tea", 1)
	other := tb.replica()
	tb.goods.whileAsking(sync.OnceFunc(func() {
		tb.goods.whileAsking(nil)
		_, err := other.perform(t.Context(), ids.New(), add("ann", "cup", 1))
		tb.must(err)
	}))
	tb.froze("order-1", "ann", "1 cup (Cup) at 1250 EUR, 1 tea (Green tea) at 450 EUR")
	tb.has("ann", "")
}

func TestACartThatNeverStandsStillIsAskedForAgainLater(t *testing.T) {
	t.Parallel()
	tb := setTable(t)
	tb.put("ann", "tea", 1)
	grown := 0
	tb.goods.whileAsking(func() { // straight into the table: the group that asks is busy with us
		grown++
		tb.goods.put(fmt.Sprint("new-", grown), "New", 1, "EUR", 1)
		_, err := tb.db.ExecContext(t.Context(), "INSERT INTO cart_lines (client_id, product_id, quantity, position) VALUES ('ann', ?, 1, 9)", fmt.Sprint("new-", grown))
		tb.must(err)
	})
	err := tb.tryFreeze("order-1", "ann")
	if !fault.Is(err, fault.Unavailable) || !errors.Is(err, errUnseen) || grown != freezeTriesMax {
		t.Errorf("%v after %d tries", err, grown)
	}
}

// A cart that was merged beyond its limits keeps everything, and says what to do.
func TestAMergedCartMayBeTooLongToBuy(t *testing.T) {
	t.Parallel()
	tb := setTable(t)
	tb.put("ann", "book", jobs.QuantityMax)
	tb.froze("order-1", "ann", "10000 book (A book) at 2000 EUR")
	tb.put("ann", "book", 1)
	tb.must(thawOne(t.Context(), tb.Carts, hold{"order-1", "ann", "o-1"}))
	tb.has("ann", "10001 book")
	tb.refuses(tb.tryFreeze("order-2", "ann"), fault.Refused, "line_full")
	_, err := tb.perform(t.Context(), ids.New(), set("ann", "book", 10))
	tb.must(err)
	tb.froze("order-2", "ann", "10 book (A book) at 2000 EUR")
}

// Two processes change, freeze and thaw the same carts at once, each thing asked for twice. What
// was put in is in the carts or sold, to the unit.
func TestNothingIsLostBetweenTwoReplicas(t *testing.T) {
	t.Parallel()
	tb := setTable(t)
	replicas := []*Carts{tb.Carts, tb.replica()}
	var shoppers sync.WaitGroup
	var mu sync.Mutex
	sold := map[string]int64{}
	for i := range 24 {
		shoppers.Go(func() {
			client, ctx := fmt.Sprint("client-", i%4), t.Context()
			for round := range 6 {
				h, job := hold{checkout: fmt.Sprintf("order-%d-%d", i, round), client: client}, ids.New()
				bought := map[string]int64{}
				twice(replicas, func(c *Carts) {
					_, err := c.perform(ctx, job, add(client, "book", 1))
					tb.must(err)
				})
				twice(replicas, func(c *Carts) {
					lines, err := freezeOne(ctx, c, h)
					mu.Lock()
					defer mu.Unlock()
					if err != nil && fault.As(err).Code != "empty_cart" {
						t.Error(err)
					}
					for _, l := range lines {
						bought[l.Product] = l.Quantity
					}
				})
				if round%2 == 0 {
					twice(replicas, func(c *Carts) { tb.must(thawOne(ctx, c, h)) })
					continue
				}
				mu.Lock()
				sold[client] += bought["book"]
				mu.Unlock()
			}
		})
	}
	shoppers.Wait()
	for c := range 4 {
		client := fmt.Sprint("client-", c)
		v, err := tb.view(t.Context(), client)
		tb.must(err)
		left := int64(0)
		for _, l := range v.lines {
			left += l.quantity
		}
		if left+sold[client] != 6*6 {
			t.Errorf("%s put in 36: %d sold, %d left", client, sold[client], left)
		}
	}
}

func twice(replicas []*Carts, do func(*Carts)) {
	var both sync.WaitGroup
	for _, c := range replicas {
		both.Go(func() { do(c) })
	}
	both.Wait()
}

func TestABatchAnswersForEachItem(t *testing.T) {
	t.Parallel()
	tb := setTable(t)
	s := &server{carts: tb.Carts}
	tb.put("ann", "tea", 1)
	freezes, err := s.FreezeBatch(t.Context(), &cartpb.FreezeBatchRequest{Requests: []*cartpb.FreezeRequest{
		{CheckoutId: "order-1", ClientId: "ann"}, {CheckoutId: "order-2", ClientId: "bob"}, {CheckoutId: "no ID", ClientId: "ann"}, {CheckoutId: "order-3"}}})
	tb.must(err)
	var codes []string
	for _, r := range freezes.GetResults() {
		codes = append(codes, r.GetFault().GetCode()+r.GetFault().GetField())
	}
	if got := strings.Join(codes, " "); got != " empty_cart invalid_fieldcheckout_id invalid_fieldclient_id" {
		t.Errorf("faults %q", got)
	}
	thaws, err := s.ThawBatch(t.Context(), &cartpb.ThawBatchRequest{Requests: []*cartpb.ThawRequest{
		{CheckoutId: "order-2", ClientId: "bob"}, {CheckoutId: "order-1", ClientId: "ann", OrderId: "o-1"}, {CheckoutId: "order-3", ClientId: "ann", OrderId: "no ID"}}})
	tb.must(err)
	if r := thaws.GetResults(); r[0].GetFault() != nil || r[1].GetFault() != nil || r[2].GetFault().GetField() != "order_id" {
		t.Errorf("thawed %v", thaws)
	}
	tb.has("ann", "1 tea")
	for _, n := range []int{0, batchMax + 1} {
		if _, err := s.ThawBatch(t.Context(), &cartpb.ThawBatchRequest{Requests: make([]*cartpb.ThawRequest, n)}); !fault.Is(err, fault.Invalid) {
			t.Errorf("a batch of %d: %v", n, err)
		}
	}
}

func TestAnUnknownJobIsNotFound(t *testing.T) {
	t.Parallel()
	tb := setTable(t)
	s := &server{carts: tb.Carts}
	id := ids.New()
	_, err := s.GetJob(t.Context(), &cartpb.GetJobRequest{JobId: id})
	tb.refuses(err, fault.NotFound, "unknown_job")
	_, err = tb.perform(t.Context(), id, &jobspb.ClearCart{ClientId: "ann"})
	tb.must(err)
	resp, err := s.GetJob(t.Context(), &cartpb.GetJobRequest{JobId: id})
	tb.must(err)
	if resp.GetFault() != nil {
		t.Errorf("a job that was done: %v", resp)
	}
	cart, err := s.GetCart(t.Context(), &cartpb.GetCartRequest{ClientId: "ann"})
	tb.must(err)
	if cart.GetUpdatedAtUs() != 0 {
		t.Errorf("a cart that never had anything: %v", cart)
	}
}

func TestOldAnswersAreForgotten(t *testing.T) {
	t.Parallel()
	tb := setTable(t)
	tb.put("ann", "tea", 1)
	for range 3 {
		_, err := tb.db.ExecContext(t.Context(), `
			INSERT INTO processed_jobs (job_id, request_hash, done_at)
			WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 800)
			SELECT UUID(), REPEAT('x', 32), '2020-01-01' FROM n`)
		tb.must(err)
	}
	tb.must(pruner{tb.db, testenv.Log(t)}.prune(t.Context(), time.Now().Add(-answersKept)))
	if n := tb.rows("processed_jobs"); n != 1 {
		t.Errorf("%d answers are kept, want 1", n)
	}
}
