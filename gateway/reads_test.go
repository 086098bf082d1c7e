package gateway

import (
	"net/http"
	"strings"
	"testing"

	"cartwright/internal/ids"
	"cartwright/proto/cataloguepb"
	"cartwright/proto/inventorypb"
)

// C6, O4: what services know, as clients read it. The whole body counts.
func TestReadsShowWhatTheServicesKnow(t *testing.T) {
	t.Parallel()
	s := openShop(t, nil)
	const (
		order = `{"orderID":"order-paid","clientID":"jo","status":"PAID","items":[{"productID":"tea","name":"Green tea","quantity":2,"price":{"amount":350,"currency":"EUR"}}],` +
			`"total":{"amount":700,"currency":"EUR"},"createdAt":"2025-10-09T08:53:20.123456Z","updatedAt":"2025-10-09T08:53:21.123456Z"}`
		cup  = `{"productID":"cup","name":"Cup","price":{"amount":300,"currency":"EUR"},"active":true,"stock":{"kind":"finite","onHand":10,"reserved":2,"available":8}}`
		song = `{"productID":"song","name":"Song","price":{"amount":400,"currency":"EUR"},"active":true,"stock":{"kind":"infinite","onHand":0,"reserved":0,"available":0}}`
	)
	for path, want := range map[string]string{
		"/v1/carts/jo": `{"clientID":"jo","items":[{"productID":"tea","name":"Green tea","quantity":2,"price":{"amount":300,"currency":"EUR"}},` +
			`{"productID":"nobody-knows","name":"","quantity":1,"price":null},{"productID":"cup","name":"Cup","quantity":3,"price":{"amount":300,"currency":"EUR"}}],` +
			`"total":{"amount":1500,"currency":"EUR"},"updatedAt":"2025-10-09T08:53:20.123456Z"}`,
		"/v1/carts/empty":                      `{"clientID":"empty","items":[],"total":null,"updatedAt":null}`,
		"/v1/carts/a%3Ab":                      "", // an encoded colon is a colon
		"/v1/orders/order-paid":                order,
		"/v1/orders/order-cancelled":           `{"orderID":"order-cancelled","clientID":"jo","status":"CANCELLED","reason":"the card was declined","items":[],"total":null,"createdAt":"2025-10-09T08:53:20.123456Z","updatedAt":"2025-10-09T08:53:20.123456Z"}`,
		"/v1/orders?clientID=jo&limit=100":     `{"orders":[` + order + `],"nextCursor":"second"}`,
		"/v1/orders?clientID=jo&cursor=second": `{"orders":[]}`,
		"/v1/jobs/job-done":                    `{"jobID":"job-done","status":"Success"}`,
		"/v1/jobs/job-refused":                 `{"jobID":"job-refused","status":"Failed","error":"only 3 of tea left"}`,
		"/v1/products/cup":                     cup,
		"/v1/products/cup/":                    cup,
		"/v1/products/song":                    song,
		"/v1/products/new":                     `{"productID":"new","name":"Never stocked","price":{"amount":300,"currency":"EUR"},"active":true,"stock":{"kind":"finite","onHand":0,"reserved":0,"available":0}}`,
		"/v1/products?limit=2":                 `{"products":[` + cup + `,` + song + `],"nextCursor":"song"}`,
	} {
		r := s.ask(t, "GET", path, "")
		if r.status != http.StatusOK || want != "" && r.body != want {
			t.Errorf("%s: got %d\n%s, want\n%s", path, r.status, r.body, want)
		}
	}
}

func TestReadsThatCannotBeAnsweredSaySo(t *testing.T) {
	t.Parallel()
	s := openShop(t, nil)
	for _, path := range []string{"/v1/carts/WHO", "/v1/orders/WHO", "/v1/orders?clientID=WHO", "/v1/jobs/WHO", "/v1/products/WHO", "/v1/products?cursor=WHO"} {
		r := s.ask(t, "GET", strings.Replace(path, "WHO", "away", 1), "")
		if r.status != http.StatusServiceUnavailable || r.header.Get("Retry-After") == "" {
			t.Errorf("%s: the database is away: got %d %s", path, r.status, r.body)
		}
		r = s.ask(t, "GET", strings.Replace(path, "WHO", "broken", 1), "")
		if r.status != http.StatusInternalServerError || strings.Contains(r.body, "secret") {
			t.Errorf("%s: a fault of ours: got %d %s", path, r.status, r.body)
		}
	}
	if r := s.ask(t, "GET", "/v1/products/nobody-knows", ""); r.status != http.StatusNotFound || r.text("code") != "unknown_product" {
		t.Errorf("an unknown product: got %d %s", r.status, r.body)
	}
}

// C7
func TestCartsAreChangedByJobs(t *testing.T) {
	t.Parallel()
	s := openShop(t, nil)
	for _, c := range []struct{ method, path, body, kind string }{
		{"PUT", "/v1/carts/jo/items/tea", `{"quantity":0}`, "cart.set"},
		{"DELETE", "/v1/carts/jo/items/tea", "", "cart.remove"},
		{"DELETE", "/v1/carts/jo", "", "cart.clear"},
	} {
		r := s.ask(t, c.method, c.path, c.body)
		if r.status != http.StatusOK || r.text("status") != success || !ids.Valid(r.text("jobID")) {
			t.Errorf("%s %s: got %d %s", c.method, c.path, r.status, r.body)
		}
		seen := s.worker.seen()
		if last := seen[len(seen)-1]; last.Kind != c.kind || last.ID != r.text("jobID") {
			t.Errorf("%s %s: travelled as %s %s", c.method, c.path, last.Kind, last.ID)
		}
	}
}

func TestStaffKeepProductsAndStock(t *testing.T) {
	t.Parallel()
	s := openShop(t, nil)
	r := s.ask(t, "PUT", "/v1/products/tea", `{"name":"Tea ☕","price":{"amount":350,"currency":"EUR"},"active":false}`, asStaff)
	if want := `{"productID":"tea","name":"Tea ☕","price":{"amount":350,"currency":"EUR"},"active":false}`; r.status != http.StatusOK || r.body != want {
		t.Errorf("got %d %s, want %s", r.status, r.body, want)
	}
	r = s.ask(t, "POST", "/v1/products/tea/stock", `{"delta":5,"kind":"finite"}`, asStaff, "Idempotency-Key: delivery 7")
	if want := `{"productID":"tea","kind":"finite","onHand":15,"reserved":2,"available":13}`; r.status != http.StatusOK || r.body != want {
		t.Errorf("got %d %s, want %s", r.status, r.body, want)
	}
	r = s.ask(t, "POST", "/v1/products/tea/stock", `{"delta":6}`, asStaff, "Idempotency-Key: delivery 7")
	if r.status != http.StatusUnprocessableEntity {
		t.Errorf("another delivery under the same key: got %d %s", r.status, r.body)
	}
	r = s.ask(t, "POST", "/v1/products/tea/stock", `{"delta":-9}`, asStaff)
	if r.status != http.StatusConflict || r.text("code") != "reserved" {
		t.Errorf("below what is reserved: got %d %s", r.status, r.body)
	}
	r = s.ask(t, "POST", "/v1/products/nobody-knows/stock", `{"delta":1}`, asStaff)
	if r.status != http.StatusNotFound {
		t.Errorf("stock of an unknown product: got %d %s", r.status, r.body)
	}
	s.services.mu.Lock()
	defer s.services.mu.Unlock()
	if got := s.services.adjusted; len(got) != 1 || got[0].GetAdjustmentId() != ids.Derive("stock", "tea", "delivery 7") || got[0].GetKind() != inventorypb.Kind_KIND_FINITE {
		t.Errorf("the inventory was asked %v", got)
	}
	if got := s.services.put; len(got) != 1 || got[0].GetPriceMinor() != 350 {
		t.Errorf("the catalogue was given %v", []*cataloguepb.Product(got))
	}
}

func TestWrongProductsAndStockAreRefusedByField(t *testing.T) {
	t.Parallel()
	s := openShop(t, nil)
	product := func(name, price, active string) string {
		return `{"name":` + name + `,"price":` + price + `,"active":` + active + `}`
	}
	const eur = `{"amount":1,"currency":"EUR"}`
	for _, c := range []struct{ method, path, body, field string }{
		{"PUT", "/v1/products/tea", `{}`, "name"},
		{"PUT", "/v1/products/tea", product(`""`, eur, `true`), "name"},
		{"PUT", "/v1/products/tea", product(`"`+strings.Repeat("é", 201)+`"`, eur, `true`), "name"},
		{"PUT", "/v1/products/tea", product(`"Tea"`, `7`, `true`), "price"},
		{"PUT", "/v1/products/tea", product(`"Tea"`, `null`, `true`), "price"},
		{"PUT", "/v1/products/tea", product(`"Tea"`, `{}`, `true`), "price.amount"},
		{"PUT", "/v1/products/tea", product(`"Tea"`, `{"amount":-1,"currency":"EUR"}`, `true`), "price.amount"},
		{"PUT", "/v1/products/tea", product(`"Tea"`, `{"amount":100000000001,"currency":"EUR"}`, `true`), "price.amount"},
		{"PUT", "/v1/products/tea", product(`"Tea"`, `{"amount":1,"currency":"eur"}`, `true`), "price.currency"},
		{"PUT", "/v1/products/tea", product(`"Tea"`, `{"amount":1,"currency":"EUR","tax":1}`, `true`), "price.tax"},
		{"PUT", "/v1/products/tea", product(`"Tea"`, eur, `1`), "active"},
		{"POST", "/v1/products/tea/stock", `{}`, "delta"},
		{"POST", "/v1/products/tea/stock", `{"delta":1000000001}`, "delta"},
		{"POST", "/v1/products/tea/stock", `{"delta":1,"kind":"endless"}`, "kind"},
		{"POST", "/v1/products/tea/stock", `{"delta":1,"kind":null}`, "kind"},
	} {
		r := s.ask(t, c.method, c.path, c.body, asStaff)
		if r.status != http.StatusBadRequest || r.text("field") != c.field || !strings.HasPrefix(r.text("detail"), c.field+": ") {
			t.Errorf("%s %.100s: got %d %s, want an error about %s", c.path, c.body, r.status, r.body, c.field)
		}
	}
}

// X6
func TestStaffRoutesNeedTheKey(t *testing.T) {
	t.Parallel()
	s := openShop(t, nil)
	const path, body = "/v1/products/tea/stock", `{"delta":1}`
	for _, header := range []string{"X-None: 1", "Authorization: Bearer wrong", "Authorization: Bearer", "Authorization: Basic " + testStaffKey, "Authorization: " + testStaffKey, "Authorization: Bearer " + testStaffKey + "x"} {
		r := s.ask(t, "POST", path, body, header)
		if r.status != http.StatusUnauthorized || !strings.HasPrefix(r.header.Get("WWW-Authenticate"), "Bearer") {
			t.Errorf("%s: got %d %s", header, r.status, r.body)
		}
	}
	if r := s.ask(t, "POST", path, body, "Authorization: bearer "+testStaffKey); r.status != http.StatusOK {
		t.Errorf("the right key: got %d %s", r.status, r.body)
	}
}

func TestWithoutAConfiguredKeyThereAreNoStaffRoutes(t *testing.T) {
	t.Parallel()
	s := openShop(t, func(s *Settings) { s.StaffKey = "" })
	for _, header := range []string{"X-None: 1", "Authorization: Bearer ", asStaff} {
		if r := s.ask(t, "PUT", "/v1/products/tea", `{}`, header); r.status != http.StatusNotFound {
			t.Errorf("%s: got %d %s", header, r.status, r.body)
		}
	}
}
