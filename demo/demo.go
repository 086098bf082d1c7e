// Package demo puts a few products on the shelves of a running shop and places one order, over
// the HTTP API, as a storefront would.
package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"cartwright/internal/ids"
	"cartwright/internal/logging"
)

const (
	requestTimeout = 10 * time.Second
	orderTimeout   = 60 * time.Second // also on a machine that has just started everything
	pollEvery      = 200 * time.Millisecond
	answerMax      = 1 << 20
)

// Settings of the demo.
type Settings struct {
	logging.Settings
	URL      string `env:"URL" envDefault:"http://127.0.0.1:5003" help:"where the shop's gateway is, for demo and bench"`
	StaffKey string `env:"STAFF_KEY,required" help:"opens the staff routes: at least 16 characters; without it they are off"`
}

// product is one article of the demo's assortment; prices are in the smallest unit.
type product struct {
	id, name string
	minor    int64
	stock    int64 // 0 is infinite: a download
}

var assortment = []product{
	{"tea", "Darjeeling first flush, 100 g", 1290, 500},
	{"pot", "Teapot, cast iron", 4726, 40},
	{"cup", "Cup, stoneware", 950, 200},
	{"guide", "How to brew tea (download)", 300, 0},
}

// Run seeds the shop and places an order. It prints each step and returns when the order is paid.
func Run(ctx context.Context, out io.Writer, s Settings) error {
	shop := shop{s.URL, s.StaffKey, &http.Client{Timeout: requestTimeout}}
	for _, p := range assortment {
		if err := shop.stock(ctx, p); err != nil {
			return fmt.Errorf("product %s: %w", p.id, err)
		}
	}
	fmt.Fprintf(out, "%d products are on the shelves\n", len(assortment))
	client := "demo-" + ids.New()
	for _, p := range assortment[:2] {
		added := map[string]any{"clientID": client, "productID": p.id, "quantity": 2}
		if err := shop.call(ctx, http.MethodPost, "/addToCart", client+p.id, added, nil); err != nil {
			return fmt.Errorf("add %s: %w", p.id, err)
		}
		fmt.Fprintf(out, "2 × %s are in the cart of %s\n", p.id, client)
	}
	var answer struct {
		OrderID string `json:"orderID"`
	}
	if err := shop.call(ctx, http.MethodPost, "/checkOutCart", client, map[string]any{"clientID": client}, &answer); err != nil {
		return fmt.Errorf("check out: %w", err)
	}
	order, err := shop.ended(ctx, answer.OrderID)
	if err != nil {
		return fmt.Errorf("order %s: %w", answer.OrderID, err)
	}
	fmt.Fprintf(out, "order %s is %s:\n", answer.OrderID, order["status"])
	pretty, err := json.MarshalIndent(order, "  ", "  ")
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "  %s\n", pretty)
	if order["status"] != "PAID" {
		return fmt.Errorf("order %s is %s, want PAID", answer.OrderID, order["status"])
	}
	return nil
}

// shop is the running shop, seen from outside.
type shop struct {
	url, staffKey string
	client        *http.Client
}

// stock makes a product and fills its shelf. The keys are fixed, so a second run adds nothing.
func (s shop) stock(ctx context.Context, p product) error {
	price := map[string]any{"amount": p.minor, "currency": "EUR"}
	if err := s.call(ctx, http.MethodPut, "/v1/products/"+p.id, "", map[string]any{"name": p.name, "price": price, "active": true}, nil); err != nil {
		return err
	}
	receipt := map[string]any{"delta": p.stock, "kind": "finite"}
	if p.stock == 0 {
		receipt["kind"] = "infinite"
	}
	return s.call(ctx, http.MethodPost, "/v1/products/"+p.id+"/stock", "demo-stock-"+p.id, receipt, nil)
}

// ended waits until an order is no longer PENDING.
func (s shop) ended(ctx context.Context, id string) (order map[string]any, err error) {
	ctx, cancel := context.WithTimeout(ctx, orderTimeout)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if err := s.call(ctx, http.MethodGet, "/v1/orders/"+id, "", nil, &order); err != nil {
			return nil, err
		}
		if order["status"] != "PENDING" {
			return order, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// call makes one request; answers outside 200 to 299 are errors that quote the body.
func (s shop) call(ctx context.Context, method, path, key string, body, answer any) error {
	var sent io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return err
		}
		sent = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, s.url+path, sent)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+s.staffKey) // shoppers' routes do not look at it
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, answerMax))
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, raw)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(raw, answer)
}
