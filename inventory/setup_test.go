package inventory

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"cartwright/internal/fault"
	"cartwright/internal/ids"
	"cartwright/internal/testenv"
	"cartwright/proto/inventorypb"
	schema "cartwright/sql"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// shop is the service on a database of its own, without gRPC around it.
type shop struct {
	*server
	books
	t testing.TB
}

// setup makes a shop whose reservations are good for ttl.
func setup(t testing.TB, ttl time.Duration) shop {
	t.Helper()
	namespace := testenv.Namespace(t)
	return on(t, testenv.Database(t, namespace, schema.Inventory), ttl)
}

// on makes another replica on a database.
func on(t testing.TB, db *sql.DB, ttl time.Duration) shop {
	b := books{db: db, ttl: ttl}
	s := shop{newServer(b, newMetrics(prometheus.NewRegistry())), b, t}
	t.Cleanup(func() { s.writes.Wait(); s.reads.Wait() })
	return s
}

// stocked makes a shop with units of one finite product, tea.
func stocked(t testing.TB, units int64) shop {
	t.Helper()
	s := setup(t, time.Hour)
	s.receive("tea", units)
	return s
}

func (s shop) receive(product string, units int64) {
	s.t.Helper()
	if _, err := s.Adjust(s.t.Context(), &inventorypb.AdjustRequest{AdjustmentId: ids.New(), ProductId: product, Delta: units}); err != nil {
		s.t.Fatal(err)
	}
}

// reserve asks for units of one product.
func (s shop) reserve(id, product string, units int64) error {
	_, err := s.Reserve(s.t.Context(), reserveRequest(id, product, units))
	return err
}

func (s shop) commit(id string) error {
	_, err := s.Commit(s.t.Context(), &inventorypb.CommitRequest{ReservationId: id})
	return err
}

func (s shop) rollback(id string) error {
	_, err := s.Rollback(s.t.Context(), &inventorypb.RollbackRequest{ReservationId: id})
	return err
}

func reserveRequest(id, product string, units int64) *inventorypb.ReserveRequest {
	return &inventorypb.ReserveRequest{ReservationId: id, Lines: []*inventorypb.Line{{ProductId: product, Quantity: units}}}
}

// wantStock checks a product's numbers as a client sees them.
func (s shop) wantStock(product string, onHand, reserved int64) {
	s.t.Helper()
	resp, err := s.GetAvailability(s.t.Context(), &inventorypb.GetAvailabilityRequest{ProductIds: []string{product}})
	if err != nil {
		s.t.Fatal(err)
	}
	got := resp.GetStock()[0]
	if got.GetOnHand() != onHand || got.GetReserved() != reserved || got.GetAvailable() != onHand-reserved {
		s.t.Fatalf("%s: %d on hand, %d reserved, %d available; want %d, %d, %d",
			product, got.GetOnHand(), got.GetReserved(), got.GetAvailable(), onHand, reserved, onHand-reserved)
	}
}

// want checks an error's kind and code; code "" wants no error.
func want(t testing.TB, err error, kind fault.Kind, code string) *fault.Error {
	t.Helper()
	if code == "" {
		if err != nil {
			t.Fatalf("got %v, want no error", err)
		}
		return nil
	}
	if err == nil {
		t.Fatalf("got no error, want %s (%s)", code, kind)
	}
	e := fault.As(err)
	if e.Kind != kind || e.Code != code {
		t.Fatalf("got %s (%s): %v, want %s (%s)", e.Code, e.Kind, err, code, kind)
	}
	return e
}

func ok(t testing.TB, err error) {
	t.Helper()
	want(t, err, fault.Internal, "")
}

// linesOfReservations are all lines l of all reservations r.
const linesOfReservations = `
	reservations r JOIN JSON_TABLE(CONVERT(r.contents USING utf8mb4), '$[*]' COLUMNS (
		product_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin PATH '$.product', counted BIGINT PATH '$.counted')) l ON TRUE`

// wantBalanced proves the books against the ledger in the database itself: what is on hand is the
// sum of all movements, what is reserved is what held reservations took, and nothing is negative.
func (s shop) wantBalanced() {
	s.t.Helper()
	for what, query := range map[string]string{
		"on_hand is not the sum of the movements": `
			SELECT COUNT(*) FROM stock s
			WHERE s.on_hand <> (SELECT COALESCE(SUM(m.delta), 0) FROM stock_movements m WHERE m.product_id = s.product_id)`,
		"reserved is not what is held": `
			SELECT COUNT(*) FROM stock s
			WHERE s.reserved <> (SELECT COALESCE(SUM(l.counted), 0) FROM ` + linesOfReservations + `
			                     WHERE l.product_id = s.product_id AND r.state = 'held')`,
		"negative": "SELECT COUNT(*) FROM stock WHERE on_hand < 0 OR reserved < 0 OR reserved > on_hand",
		"sold without its movements": `
			SELECT COUNT(*) FROM ` + linesOfReservations + `
			LEFT JOIN stock_movements m ON m.reference = r.reservation_id AND m.product_id = l.product_id AND m.kind = 'sold'
			WHERE r.state = 'sold' AND l.counted > 0 AND NOT COALESCE(m.delta = -l.counted, FALSE)`,
	} {
		if n := s.count(query); n != 0 {
			s.t.Errorf("%d rows: %s", n, what)
		}
	}
}

func (s shop) count(query string, args ...any) (n int64) {
	s.t.Helper()
	if err := s.db.QueryRowContext(context.Background(), query, args...).Scan(&n); err != nil {
		s.t.Fatal(err)
	}
	return n
}
