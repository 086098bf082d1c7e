package tests

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"cartwright/internal/ids"
	"cartwright/proto/inventorypb"
	schema "cartwright/sql"
)

// sqlStrings are what people type who hope for a query made of words.
var sqlStrings = []string{
	"x' OR '1'='1", `x" OR "1"="1`, "x'; DROP TABLE stock; --", "tea'--", "tea' UNION SELECT 1,2,3#", `tea\' OR 1=1 -- `,
	"tea/**/OR/**/1=1", "1;UPDATE stock SET on_hand=0", "%", "tea%", "tea\x00", "＇ OR 1=1",
}

// X5: SQL in any string, over HTTP and over gRPC, is just a string that names nothing, and
// changes nothing.
func TestSQLInAStringIsJustAString(t *testing.T) {
	t.Parallel()
	s := newShop(t, options{})
	s.product("tea", 100, 10)
	s.fill("ann", "tea", 2)
	before := s.everything()
	for _, evil := range sqlStrings {
		path := url.PathEscape(evil)
		s.isRefused(http.MethodPost, "/addToCart", "", map[string]any{"clientID": "ann", "productID": evil, "quantity": 1})
		s.isRefused(http.MethodPost, "/addToCart", "", map[string]any{"clientID": evil, "productID": "tea", "quantity": 1})
		s.isRefused(http.MethodPost, "/checkOutCart", "", map[string]any{"clientID": evil})
		s.isRefused(http.MethodPost, "/checkOutCart", "", map[string]any{"clientID": "ann", "paymentMethod": evil})
		s.isRefused(http.MethodPost, "/checkOutCart", "", map[string]any{"clientID": "ann", "email": evil})
		s.isRefused(http.MethodGet, "/v1/carts/"+path, "", nil)
		s.isRefused(http.MethodPut, "/v1/carts/ann/items/"+path, "", map[string]any{"quantity": 1})
		s.isRefused(http.MethodDelete, "/v1/carts/"+path, "", nil)
		s.isRefused(http.MethodGet, "/v1/orders/"+path, "", nil)
		s.isRefused(http.MethodGet, "/v1/orders?clientID="+url.QueryEscape(evil), "", nil)
		s.isRefused(http.MethodGet, "/v1/jobs/"+path, "", nil)
		s.isRefused(http.MethodGet, "/v1/products/"+path, "", nil)
		s.isRefused(http.MethodPut, "/v1/products/"+path, "", map[string]any{"name": "x", "price": map[string]any{"amount": 1, "currency": "EUR"}, "active": true})
		s.isRefused(http.MethodPost, "/v1/products/"+path+"/stock", "", map[string]any{"delta": 1})
	}
	s.isRefusedByInventory()
	if after := s.everything(); after != before {
		t.Errorf("the databases were\n%s\nand are\n%s", before, after)
	}
	// A key is no identifier: any printable words will do, and stay words.
	if a := s.must(http.MethodPost, "/addToCart", sqlStrings[0], map[string]any{"clientID": "ann", "productID": "tea", "quantity": 1}); a.code != http.StatusOK {
		t.Errorf("with such a key: %d %s", a.code, a.raw)
	}
	if n := s.cart("ann").Items[0].Quantity; n != 3 {
		t.Errorf("%d teas in the cart, want 3", n)
	}
	s.agrees()
}

func (s *shop) isRefused(method, path, key string, body any) {
	s.t.Helper()
	a, err := s.ask(method, path, key, body)
	if err != nil {
		s.t.Errorf("%s %s: %v", method, path, err)
		return
	}
	if a.code != http.StatusBadRequest && a.code != http.StatusNotFound || strings.Contains(strings.ToLower(a.raw), "sql") && !strings.Contains(path, "SQL") {
		s.t.Errorf("%s %s %v: %d %s", method, path, body, a.code, a.raw)
	}
}

// isRefusedByInventory asks the service itself, past the gateway's checks.
func (s *shop) isRefusedByInventory() {
	s.t.Helper()
	stock := inventorypb.NewInventoryClient(s.dial("operator", "inventory", s.inventory))
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	for _, evil := range sqlStrings {
		line := []*inventorypb.Line{{ProductId: evil, Quantity: 1}}
		good := []*inventorypb.Line{{ProductId: "tea", Quantity: 1}}
		calls := map[string]func() error{
			"GetAvailability": func() error {
				_, err := stock.GetAvailability(ctx, &inventorypb.GetAvailabilityRequest{ProductIds: []string{evil}})
				return err
			},
			"Reserve": func() error {
				_, err := stock.Reserve(ctx, &inventorypb.ReserveRequest{ReservationId: ids.New(), Lines: line})
				return err
			},
			"Reserve under such an ID": func() error {
				_, err := stock.Reserve(ctx, &inventorypb.ReserveRequest{ReservationId: evil, Lines: good})
				return err
			},
			"Commit": func() error { _, err := stock.Commit(ctx, &inventorypb.CommitRequest{ReservationId: evil}); return err },
			"Rollback": func() error {
				_, err := stock.Rollback(ctx, &inventorypb.RollbackRequest{ReservationId: evil})
				return err
			},
			"Adjust": func() error {
				_, err := stock.Adjust(ctx, &inventorypb.AdjustRequest{AdjustmentId: ids.New(), ProductId: evil, Delta: -1})
				return err
			},
		}
		for name, call := range calls {
			if code := status.Code(call()); code != codes.InvalidArgument && code != codes.NotFound {
				s.t.Errorf("%s of %q: %s", name, evil, code)
			}
		}
	}
}

// everything sums up what all databases hold, except for notes about jobs.
func (s *shop) everything() string {
	s.t.Helper()
	var all []string
	for database, tables := range map[string][]string{
		schema.Inventory: {"stock", "reservations", "stock_movements"},
		schema.Carts:     {"carts", "cart_lines", "freezes"},
		schema.Checkouts: {"orders", "order_lines"},
		schema.Payments:  {"payments", "test_provider_charges"},
		schema.Catalogue: {"products"},
	} {
		for _, table := range tables {
			var name string
			var sum uint64
			if err := s.database(database).QueryRow("CHECKSUM TABLE "+table).Scan(&name, &sum); err != nil {
				s.t.Fatal(err)
			}
			all = append(all, fmt.Sprint(table, " ", sum))
		}
	}
	return sorted(all)
}

func sorted(all []string) string {
	slices.Sort(all)
	return strings.Join(all, "\n")
}
