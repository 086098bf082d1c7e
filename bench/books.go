package bench

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"
	"time"

	"cartwright/internal/lifecycle"
	"cartwright/internal/store"
	schema "cartwright/sql"
	"cartwright/verify"
)

const (
	// quietLimit is how long a shop may take to finish what it has accepted: far longer than any
	// load takes to be worked off, shorter than a person waits for a shop that is stuck.
	quietLimit = 5 * time.Minute
	quietEvery = 200 * time.Millisecond
	// lostLimit is how long an accepted job may be on its way before it counts as lost.
	lostLimit = 30 * time.Second
	// foundMax is how many of one kind of fault are named.
	foundMax = 20
)

// Books is what the shop's own databases say of a run. The first three must be 0, and Differences
// empty.
type Books struct {
	Oversold    int64    `json:"oversold"`    // units sold beyond what was on the shelf
	Duplicates  int      `json:"duplicates"`  // orders and charges beyond one a checkout
	Lost        int      `json:"lost"`        // checkouts that were confirmed or accepted, and have no order that says so
	Differences []string `json:"differences"` // whatever else does not agree, in words

	Paid      int `json:"paid"`      // orders
	Cancelled int `json:"cancelled"` // orders
	ToldPaid  int `json:"toldPaid"`  // checkouts that were answered 200
	ToldLater int `json:"toldLater"` // 202
	ToldNo    int `json:"toldNo"`    // 4xx
	ToldElse  int `json:"toldElse"`  // not asked, not answered, or told to ask again

	onItsWay bool // a job that was accepted has no order yet
}

// right tells whether nothing is wrong.
func (b Books) right() bool {
	return b.Oversold == 0 && b.Duplicates == 0 && b.Lost == 0 && len(b.Differences) == 0
}

// differ notes a difference, as long as there are not too many.
func (b *Books) differ(format string, args ...any) {
	if len(b.Differences) < foundMax {
		b.Differences = append(b.Differences, fmt.Sprintf(format, args...))
	}
}

// Verdict is a sort of answer to a checkout.
type Verdict int

// The verdicts. The zero value says that nothing was asked.
const (
	NotAsked Verdict = iota
	Paid             // 200
	Later            // 202
	Refused          // 4xx
	Unclear          // no answer, or one that says to ask again
)

// Told is what the buyer of one cart was answered.
type Told struct {
	Verdict Verdict
	Words   string
}

// Audit holds a shop's own books to what the clients of one run were told. The run's clients are
// called <run>-c<cart>, each with one cart and one checkout, and its products <run>-p…
type Audit struct {
	DB        *sql.DB // reads all databases
	DSN       string  // of the same account
	Namespace string
	Run       string
	Told      []Told           // by cart
	Received  map[string]int64 // units put on the shelf, by product
	Patience  time.Duration    // how long the shop may take to finish its work
}

// audit looks into the books of this run.
func (b *bench) audit(ctx context.Context) error {
	b.progress.Say("looking into the books")
	audit := b.auditor()
	for _, a := range b.told {
		audit.Told = append(audit.Told, b.gen.answers.told(a))
	}
	var err error
	b.report.Books, err = audit.Look(ctx)
	return err
}

func (b *bench) auditor() *Audit {
	return &Audit{DB: b.db, DSN: b.set.DSN, Namespace: b.set.Namespace, Run: b.run, Received: b.received, Patience: quietLimit}
}

// quiet waits until the shop has nothing left to do.
func (b *bench) quiet(ctx context.Context) error { return b.auditor().Quiet(ctx) }

// sql puts the names of the databases into a query.
func (b *bench) sql(query string) string { return schema.InNamespace(query, b.set.Namespace) }

// Look compares what clients were told with the orders, the orders with the stock and the money,
// and recomputes every balance, once the shop is quiet.
func (a *Audit) Look(ctx context.Context) (Books, error) {
	var books Books
	for began := time.Now(); ; {
		if err := a.Quiet(ctx); err != nil {
			return books, err
		}
		books = Books{}
		if err := a.compareOrders(ctx, &books); err != nil {
			return books, err
		}
		if !books.onItsWay || time.Since(began) > lostLimit || !lifecycle.Pause(ctx, quietEvery) {
			break
		}
	}
	if err := a.compareCharges(ctx, &books); err != nil {
		return books, err
	}
	if err := a.compareStock(ctx, &books); err != nil {
		return books, err
	}
	findings, err := verify.Check(ctx, a.DSN, a.Namespace)
	if err != nil {
		return books, err
	}
	for _, f := range findings {
		books.differ("%s: %s", f.Check, strings.Join(f.Rows, "; "))
	}
	return books, nil
}

func (a *Audit) client(cart int) string { return a.Run + "-c" + strconv.Itoa(cart) }

func (a *Audit) sql(query string) string { return schema.InNamespace(query, a.Namespace) }

// Quiet waits until every checkout has ended and all events have left. Errors: that it has not come to
// that within the patience.
func (a *Audit) Quiet(ctx context.Context) error {
	query := a.sql(`
		SELECT EXISTS(SELECT 1 FROM {checkouts}.orders WHERE due_at IS NOT NULL)
		    OR EXISTS(SELECT 1 FROM {checkouts}.outbox) OR EXISTS(SELECT 1 FROM {inventory}.outbox) OR EXISTS(SELECT 1 FROM {payments}.outbox)
		    OR EXISTS(SELECT 1 FROM {carts}.outbox) OR EXISTS(SELECT 1 FROM {catalogue}.outbox)`)
	limit := time.Now().Add(a.Patience)
	for {
		var busy bool
		if err := a.DB.QueryRowContext(ctx, query).Scan(&busy); err != nil {
			return store.Classify(err)
		}
		if !busy {
			return nil
		}
		if time.Now().After(limit) {
			return fmt.Errorf("the shop has not finished its work within %s; cartwright queues shows what waits", a.Patience)
		}
		if !lifecycle.Pause(ctx, quietEvery) {
			return ctx.Err()
		}
	}
}

// orderRow is an order of this run.
type orderRow struct {
	client, state string
}

// compareOrders holds the orders to what each client was told.
func (a *Audit) compareOrders(ctx context.Context, books *Books) error {
	rows, err := a.DB.QueryContext(ctx, a.sql("SELECT client_id, state FROM {checkouts}.orders WHERE client_id LIKE ?"), a.Run+"-c%")
	states := make([]string, len(a.Told))
	err = store.Each(rows, err, func(scan func(...any) error) error {
		var o orderRow
		if err := scan(&o.client, &o.state); err != nil {
			return err
		}
		cart, err := strconv.Atoi(strings.TrimPrefix(o.client, a.Run+"-c"))
		switch {
		case err != nil || cart >= len(states):
			books.differ("there is an order of client %s, who bought nothing", o.client)
		case states[cart] != "":
			books.Duplicates++
		default:
			states[cart] = o.state
		}
		return nil
	})
	for cart, state := range states {
		a.compareOrder(books, cart, state)
	}
	return err
}

// compareOrder holds one cart's order, in that state or "" for none, to what its buyer was told.
func (a *Audit) compareOrder(books *Books, cart int, state string) {
	told := a.Told[cart]
	paid := state == "placed"
	switch state {
	case "placed":
		books.Paid++
	case "failed":
		books.Cancelled++
	case "":
	default:
		books.differ("the order of client %s is still %s", a.client(cart), state)
	}
	switch {
	case told.Verdict == Paid:
		books.ToldPaid++
		if !paid {
			books.Lost++
		}
	case told.Verdict == Later:
		books.ToldLater++
		if state == "" {
			books.Lost++
			books.onItsWay = true
		}
	case told.Verdict == Refused:
		books.ToldNo++
		if paid {
			books.differ("client %s was refused with %s, and has a paid order", a.client(cart), told.Words)
		}
	default:
		books.ToldElse++
		if told.Verdict == NotAsked && state != "" {
			books.differ("client %s asked for nothing, and has an order", a.client(cart))
		}
	}
}

// compareCharges looks for money that was taken twice for one checkout.
func (a *Audit) compareCharges(ctx context.Context, books *Books) error {
	var twice sql.NullInt64
	err := a.DB.QueryRowContext(ctx, a.sql(`
		SELECT SUM(charges - 1)
		FROM  (SELECT   COUNT(*) AS charges
		       FROM     {checkouts}.orders o
		       JOIN     {payments}.payments p ON p.payment_id = o.checkout_id AND p.state = 'charged'
		       WHERE    o.client_id LIKE ?
		       GROUP BY o.client_id
		       HAVING   COUNT(*) > 1) of_one_client`), a.Run+"-c%").Scan(&twice)
	books.Duplicates += int(twice.Int64)
	return store.Classify(err)
}

// compareStock holds what was sold to what was on the shelves.
func (a *Audit) compareStock(ctx context.Context, books *Books) error {
	bought, err := a.units(ctx, `
		SELECT   l.product_id, SUM(l.quantity)
		FROM     {checkouts}.orders o
		JOIN     {checkouts}.order_lines l ON l.checkout_id = o.checkout_id
		WHERE    o.client_id LIKE ? AND o.state = 'placed'
		GROUP BY l.product_id`, a.Run+"-c%")
	if err != nil {
		return err
	}
	left, err := a.units(ctx, "SELECT product_id, on_hand FROM {inventory}.stock WHERE product_id LIKE ?", a.Run+"-p%")
	if err != nil {
		return err
	}
	for product, received := range a.Received {
		books.Oversold += max(0, bought[product]-received)
		if received-bought[product] != left[product] {
			books.differ("product %s: %d came in, %d were bought, %d are left", product, received, bought[product], left[product])
		}
	}
	return nil
}

// units reads a number for each product.
func (a *Audit) units(ctx context.Context, query, like string) (map[string]int64, error) {
	all := map[string]int64{}
	rows, err := a.DB.QueryContext(ctx, a.sql(query), like)
	return all, store.Each(rows, err, func(scan func(...any) error) error {
		var product string
		var n int64
		if err := scan(&product, &n); err != nil {
			return err
		}
		all[product] = n
		return nil
	})
}
