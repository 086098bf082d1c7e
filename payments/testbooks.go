package payments

import (
	"cmp"
	"context"
	"database/sql"
	"slices"

	"cartwright/internal/groupcommit"
	"cartwright/internal/money"
	"cartwright/internal/store"
)

// testCharge is a line in the books of the test provider.
type testCharge struct {
	key      string
	amount   money.Amount
	method   string
	outcome  Status // empty when there is no such line; never Unknown
	refunded int64
}

// testBooks is the table test_provider_charges. It belongs to the company that the test provider
// plays: it has its own transactions, and never shares one with our ledger.
type testBooks struct {
	db    *sql.DB
	group *groupcommit.Group[testEntry, testCharge]
}

// testEntry looks at one line, and returns it as it shall be.
type testEntry struct {
	key    string
	isNew  bool // most likely: then the row is not looked for, and a key that is taken tells otherwise
	decide func(testCharge) testCharge
}

func newTestBooks(db *sql.DB, m *metrics) *testBooks {
	b := &testBooks{db: db}
	b.group = groupcommit.New(b.flush, groupcommit.Options[testEntry]{Observe: m.sizes.Of("test provider")})
	return b
}

func (b *testBooks) look(ctx context.Context, key string) (testCharge, error) {
	return b.group.Do(ctx, testEntry{key, false, func(c testCharge) testCharge { return c }})
}

// charge decides a key, unless it was decided before.
func (b *testBooks) charge(ctx context.Context, want Charge) (testCharge, error) {
	return b.group.Do(ctx, testEntry{want.Key, true, func(c testCharge) testCharge {
		if c.outcome != "" {
			return c
		}
		c = testCharge{key: want.Key, amount: want.Amount, method: want.Method, outcome: Declined}
		switch want.Method {
		case "", tokOK, tokSlow, tokSilent, tokRefundFails:
			c.outcome = Charged
		}
		return c
	}})
}

// cancel keeps a key from ever being charged, unless it was decided before.
func (b *testBooks) cancel(ctx context.Context, key string) (testCharge, error) {
	return b.group.Do(ctx, testEntry{key, false, func(c testCharge) testCharge {
		if c.outcome == "" {
			c = testCharge{key: key, outcome: Cancelled}
		}
		return c
	}})
}

// refund gives a charge back if it may.
func (b *testBooks) refund(ctx context.Context, key string, amount money.Amount) (testCharge, error) {
	return b.group.Do(ctx, testEntry{key, false, func(c testCharge) testCharge {
		if c.outcome == Charged && c.amount == amount && c.method != tokRefundFails {
			c.refunded = amount.Minor
		}
		return c
	}})
}

// flush decides a batch in memory, in the order of arrival, and writes once.
func (b *testBooks) flush(ctx context.Context, batch []testEntry) ([]groupcommit.Result[testCharge], error) {
	results := make([]groupcommit.Result[testCharge], len(batch))
	look := keysOf(batch, false)
	err := store.InTx(ctx, b.db, func(ctx context.Context, tx *store.Tx) error {
		before, err := lockTestCharges(ctx, tx, look)
		look = keysOf(batch, true) // should this be run again
		if err != nil {
			return err
		}
		after := map[string]testCharge{}
		for i, e := range batch {
			now, seen := after[e.key]
			if !seen {
				now = before[e.key]
			}
			after[e.key] = e.decide(now)
			results[i].Value = after[e.key]
		}
		return writeTestCharges(ctx, tx, before, after)
	})
	return results, err
}

// keysOf lists the keys of a batch in order, each once: all of them, or those most likely known.
func keysOf(batch []testEntry, all bool) []string {
	var keys []string
	for _, e := range batch {
		if all || !e.isNew {
			keys = append(keys, e.key)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

func lockTestCharges(ctx context.Context, tx *store.Tx, keys []string) (map[string]testCharge, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	rows, err := tx.QueryContext(ctx, `
		SELECT   idempotency_key, amount_minor, currency, method, outcome, refunded_minor
		FROM     test_provider_charges FORCE INDEX (PRIMARY)
		WHERE    idempotency_key IN `+store.In(len(keys))+`
		ORDER BY idempotency_key
		FOR      UPDATE`, store.Args(keys)...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	locked := map[string]testCharge{}
	for rows.Next() {
		var c testCharge
		if err := rows.Scan(&c.key, &c.amount.Minor, &c.amount.Currency, &c.method, &c.outcome, &c.refunded); err != nil {
			return nil, err
		}
		locked[c.key] = c
	}
	return locked, rows.Err()
}

// writeTestCharges adds the lines that are new, all in one statement. A known line changes only
// when it is refunded, which is rare enough for a statement each.
func writeTestCharges(ctx context.Context, tx *store.Tx, before, after map[string]testCharge) error {
	var fresh []testCharge
	for key, c := range after {
		old, known := before[key]
		if !known && c.outcome != "" {
			fresh = append(fresh, c)
		}
		if !known || c == old {
			continue
		}
		if err := tx.Write(ctx, `
			UPDATE test_provider_charges
			SET    refunded_minor = ?
			WHERE  idempotency_key = ?`, c.refunded, key); err != nil {
			return err
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	slices.SortFunc(fresh, func(a, b testCharge) int { return cmp.Compare(a.key, b.key) })
	args := make([]any, 0, 6*len(fresh))
	for _, c := range fresh {
		args = append(args, c.key, c.amount.Minor, c.amount.Currency, c.method, string(c.outcome), c.refunded)
	}
	err := tx.Write(ctx, `
		INSERT INTO test_provider_charges (idempotency_key, amount_minor, currency, method, outcome, refunded_minor)
		VALUES `+store.Tuples(len(fresh), "(?, ?, ?, ?, ?, ?)"), args...)
	if store.IsDuplicate(err) {
		return store.ErrRaced
	}
	return err
}
