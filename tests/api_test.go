package tests

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"cartwright/internal/ids"
	"cartwright/internal/testenv"
)

// answer is what the gateway said.
type answer struct {
	code   int
	header http.Header
	raw    string
	Status string `json:"status"`
	Error  string `json:"error"`
	JobID  string `json:"jobID"`
	Order  string `json:"orderID"`
}

// ask makes one request. key may be empty.
func (s *shop) ask(method, path, key string, body any) (answer, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return answer{}, err
	}
	req, err := http.NewRequest(method, s.url+path, bytes.NewReader(raw))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	if strings.HasPrefix(path, "/v1/products") && method != http.MethodGet {
		req.Header.Set("Authorization", "Bearer "+staffKey)
	}
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, err
	}
	a := answer{code: resp.StatusCode, header: resp.Header, raw: string(said)}
	json.Unmarshal(said, &a) //nolint:errcheck // not every answer is of this shape
	return a, nil
}

// must is ask for requests that have to be answered.
func (s *shop) must(method, path, key string, body any) answer {
	s.t.Helper()
	a, err := s.ask(method, path, key, body)
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

// product makes a product with stock.
func (s *shop) product(id string, minor, units int64) {
	s.t.Helper()
	s.price(id, minor)
	stock := s.must(http.MethodPost, "/v1/products/"+id+"/stock", ids.New(), map[string]any{"delta": units, "kind": "finite"})
	if stock.code/100 != 2 {
		s.t.Fatalf("stock of %s: %d %s", id, stock.code, stock.raw)
	}
}

// price makes a product, or gives it another price.
func (s *shop) price(id string, minor int64) {
	s.t.Helper()
	put := s.must(http.MethodPut, "/v1/products/"+id, "", map[string]any{"name": "The " + id, "price": map[string]any{"amount": minor, "currency": "EUR"}, "active": true})
	if put.code/100 != 2 {
		s.t.Fatalf("product %s: %d %s", id, put.code, put.raw)
	}
}

func (s *shop) add(client, product string, quantity int64) answer {
	s.t.Helper()
	return s.must(http.MethodPost, "/addToCart", "", map[string]any{"clientID": client, "productID": product, "quantity": quantity})
}

// fill adds and insists.
func (s *shop) fill(client, product string, quantity int64) {
	s.t.Helper()
	if a := s.add(client, product, quantity); a.code != http.StatusOK {
		s.t.Fatalf("add %d of %s for %s: %d %s", quantity, product, client, a.code, a.raw)
	}
}

func (s *shop) checkOut(client, method, key string) (answer, error) {
	body := map[string]any{"clientID": client}
	if method != "" {
		body["paymentMethod"] = method
	}
	return s.ask(http.MethodPost, "/checkOutCart", key, body)
}

func (s *shop) mustCheckOut(client, method, key string) answer {
	s.t.Helper()
	a, err := s.checkOut(client, method, key)
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

// amount is money as the API writes it.
type amount struct {
	Amount   int64  `json:"amount"`
	Currency string `json:"currency"`
}

type item struct {
	ProductID string  `json:"productID"`
	Name      string  `json:"name"`
	Quantity  int64   `json:"quantity"`
	Price     *amount `json:"price"`
}

type cart struct {
	ClientID string  `json:"clientID"`
	Items    []item  `json:"items"`
	Total    *amount `json:"total"`
}

type order struct {
	OrderID  string  `json:"orderID"`
	ClientID string  `json:"clientID"`
	Status   string  `json:"status"`
	Reason   string  `json:"reason"`
	Items    []item  `json:"items"`
	Total    *amount `json:"total"`
}

type stock struct {
	OnHand, Reserved, Available int64
}

func read[T any](s *shop, path string) (value T) {
	s.t.Helper()
	a := s.must(http.MethodGet, path, "", nil)
	if a.code != http.StatusOK {
		s.t.Fatalf("GET %s: %d %s", path, a.code, a.raw)
	}
	if err := json.Unmarshal([]byte(a.raw), &value); err != nil {
		s.t.Fatalf("GET %s: %v in %s", path, err, a.raw)
	}
	return value
}

func (s *shop) cart(client string) cart { s.t.Helper(); return read[cart](s, "/v1/carts/"+client) }
func (s *shop) order(id string) order   { s.t.Helper(); return read[order](s, "/v1/orders/"+id) }
func (s *shop) stock(product string) stock {
	s.t.Helper()
	return read[struct{ Stock stock }](s, "/v1/products/"+product).Stock
}

// ends waits until an order is no longer PENDING.
func (s *shop) ends(id string) (o order) {
	s.t.Helper()
	testenv.Eventually(s.t, readyLimit, "order "+id+" has ended", func() bool {
		a, err := s.ask(http.MethodGet, "/v1/orders/"+id, "", nil)
		return err == nil && a.code == http.StatusOK && json.Unmarshal([]byte(a.raw), &o) == nil && o.Status != "PENDING"
	})
	return o
}
