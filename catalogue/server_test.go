package catalogue

import (
	"context"
	"database/sql"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"cartwright/internal/fault"
	"cartwright/internal/identity"
	"cartwright/internal/outbox"
	"cartwright/internal/rpc"
	"cartwright/internal/store"
	"cartwright/internal/testenv"
	"cartwright/proto/cataloguepb"
	schema "cartwright/sql"
)

const limit = 20 * time.Second

// shop is the service behind a real gRPC connection, without a broker.
type shop struct {
	t      *testing.T
	db     *sql.DB
	client cataloguepb.CatalogueClient
}

func open(t *testing.T) shop {
	t.Helper()
	db := testenv.Database(t, testenv.Namespace(t), schema.Catalogue)
	own := newServer(db, prometheus.NewRegistry())
	addr := loopback(9140)
	background(t, rpc.Server{Addr: addr, Identity: identity.Insecure(), Log: testenv.Log(t), Register: func(r grpc.ServiceRegistrar) {
		cataloguepb.RegisterCatalogueServer(r, own)
	}}.Run)
	return shop{t, db, dial(t, addr)}
}

// loopback is an address that nobody else uses: Linux gives all of 127.0.0.0/8 to this machine.
func loopback(port int) string {
	return fmt.Sprintf("127.%d.%d.%d:%d", 1+rand.IntN(250), 1+rand.IntN(250), 1+rand.IntN(250), port)
}

// background runs something until the test ends.
func background(t *testing.T, run func(context.Context) error) {
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func dial(t *testing.T, addr string) cataloguepb.CatalogueClient {
	t.Helper()
	conn, err := rpc.Dial(addr, identity.Insecure().Client("catalogue"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	client := cataloguepb.NewCatalogueClient(conn)
	testenv.Eventually(t, limit, "serving", func() bool {
		_, err := client.ListProducts(t.Context(), &cataloguepb.ListProductsRequest{Limit: 1})
		return err == nil
	})
	return client
}

func tea() *cataloguepb.Product {
	return &cataloguepb.Product{ProductId: "tea", Name: "Tee „Grün“ 茶 🍵", PriceMinor: 499, Currency: "EUR", Active: true}
}

func (s shop) put(p *cataloguepb.Product) *cataloguepb.Product {
	s.t.Helper()
	resp, err := s.client.PutProduct(s.t.Context(), &cataloguepb.PutProductRequest{Product: p})
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.GetProduct()
}

func (s shop) get(productIDs ...string) []*cataloguepb.Product {
	s.t.Helper()
	resp, err := s.client.GetProducts(s.t.Context(), &cataloguepb.GetProductsRequest{ProductIds: productIDs})
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.GetProducts()
}

func (s shop) events() (n int) {
	s.t.Helper()
	_, events, err := outbox.Waiting(s.t.Context(), s.db, 1000)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range events {
		if e.Type == "product.updated" {
			n++
		}
	}
	return n
}

func wantField(t *testing.T, err error, field string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one of field %s", field)
	}
	if got := fault.As(err); got.Kind != fault.Invalid || got.Field != field {
		t.Fatalf("%v %q (%v), want invalid field %s", got.Kind, got.Field, err, field)
	}
}

func TestPutThenGet(t *testing.T) {
	t.Parallel()
	s := open(t)
	want := tea()
	want.Version = 1
	if got := s.put(tea()); !proto.Equal(got, want) {
		t.Errorf("put answers %v, want %v", got, want)
	}
	got := s.get("tea", "tea", "no-such-product")
	if len(got) != 1 || !proto.Equal(got[0], want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestOnlyAChangeMakesAVersionAndAnEvent(t *testing.T) {
	t.Parallel()
	s := open(t)
	for range 3 {
		if got := s.put(tea()); got.GetVersion() != 1 {
			t.Fatalf("version %d of an unchanged product", got.GetVersion())
		}
	}
	if n := s.events(); n != 1 {
		t.Fatalf("%d events for one change", n)
	}
	changes := []func(*cataloguepb.Product){
		func(p *cataloguepb.Product) { p.Name = "Tea" }, func(p *cataloguepb.Product) { p.PriceMinor++ },
		func(p *cataloguepb.Product) { p.Currency = "USD" }, func(p *cataloguepb.Product) { p.Active = false },
	}
	p := tea()
	p.Version = 77 // what a caller says of it does not count
	for i, change := range changes {
		change(p)
		if got := s.put(p); got.GetVersion() != int64(i+2) {
			t.Errorf("version %d after change %d", got.GetVersion(), i+1)
		}
	}
	if n := s.events(); n != 1+len(changes) {
		t.Errorf("%d events for %d changes", n, 1+len(changes))
	}
}

func TestPutsAtOnceGetEachTheirVersion(t *testing.T) {
	t.Parallel()
	s := open(t)
	var all sync.WaitGroup
	const puts = 40
	for i := range puts {
		all.Go(func() {
			p := tea()
			p.PriceMinor = int64(1000 + i)
			if _, err := s.client.PutProduct(t.Context(), &cataloguepb.PutProductRequest{Product: p}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := s.get("tea"); len(got) != 1 || got[0].GetVersion() != puts {
		t.Errorf("%v, want version %d", got, puts)
	}
	if n := s.events(); n != puts {
		t.Errorf("%d events, want %d", n, puts)
	}
}

func TestQuestionsAtOnceGetEachTheirOwnAnswer(t *testing.T) {
	t.Parallel()
	s := open(t)
	const products = 50
	for i := range products {
		p := tea()
		p.ProductId = fmt.Sprintf("p%02d", i)
		s.put(p)
	}
	var all sync.WaitGroup
	for i := range 500 {
		all.Go(func() {
			a, b := fmt.Sprintf("p%02d", i%products), fmt.Sprintf("p%02d", (i+1)%products)
			resp, err := s.client.GetProducts(t.Context(), &cataloguepb.GetProductsRequest{ProductIds: []string{a, b, "none"}})
			if err != nil {
				t.Error(err)
				return
			}
			got := map[string]bool{}
			for _, p := range resp.GetProducts() {
				got[p.GetProductId()] = true
			}
			if len(got) != 2 || !got[a] || !got[b] {
				t.Errorf("asked for %s and %s, got %v", a, b, got)
			}
		})
	}
	all.Wait()
}

func TestTenThousandProductsInOneQuestion(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.put(tea())
	asked := []string{"tea"}
	for i := range idsMax - 1 {
		asked = append(asked, fmt.Sprintf("unknown-%d", i))
	}
	if got := s.get(asked...); len(got) != 1 {
		t.Errorf("%d products, want 1", len(got))
	}
}

func TestPagesShowEveryProductOnce(t *testing.T) {
	t.Parallel()
	s := open(t)
	want := []string{"A", "B", "a", "b", "b.1", "c"} // in the order of bytes
	for _, id := range []string{"b.1", "a", "B", "c", "A", "b"} {
		p := tea()
		p.ProductId = id
		s.put(p)
	}
	for size := 1; size <= len(want)+1; size++ {
		var got []string
		cursor := ""
		for pages := 0; ; pages++ {
			resp, err := s.client.ListProducts(t.Context(), &cataloguepb.ListProductsRequest{Limit: int32(size), Cursor: cursor})
			if err != nil {
				t.Fatal(err)
			}
			if len(resp.GetProducts()) > size || pages > len(want) {
				t.Fatalf("page %d has %d of at most %d", pages, len(resp.GetProducts()), size)
			}
			for _, p := range resp.GetProducts() {
				got = append(got, p.GetProductId())
			}
			if cursor = resp.GetNextCursor(); cursor == "" {
				break
			}
		}
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("pages of %d: %v, want %v", size, got, want)
		}
	}
}

func TestWrongProductsNameTheField(t *testing.T) { // X5
	t.Parallel()
	s := open(t)
	for name, c := range map[string]struct {
		field string
		spoil func(*cataloguepb.Product)
	}{
		"SQL as ID":        {"product.product_id", func(p *cataloguepb.Product) { p.ProductId = "x' OR '1'='1" }},
		"no name":          {"product.name", func(p *cataloguepb.Product) { p.Name = "" }},
		"blank name":       {"product.name", func(p *cataloguepb.Product) { p.Name = " \u00a0" }},
		"long name":        {"product.name", func(p *cataloguepb.Product) { p.Name = strings.Repeat("茶", nameMax+1) }},
		"line break":       {"product.name", func(p *cataloguepb.Product) { p.Name = "tea\ncoffee" }},
		"negative price":   {"product.price_minor", func(p *cataloguepb.Product) { p.PriceMinor = -1 }},
		"price too high":   {"product.price_minor", func(p *cataloguepb.Product) { p.PriceMinor = priceMax + 1 }},
		"currency in word": {"product.currency", func(p *cataloguepb.Product) { p.Currency = "euro" }},
	} {
		t.Run(name, func(t *testing.T) {
			p := tea()
			c.spoil(p)
			_, err := s.client.PutProduct(t.Context(), &cataloguepb.PutProductRequest{Product: p})
			wantField(t, err, c.field)
		})
	}
	_, err := s.client.PutProduct(t.Context(), &cataloguepb.PutProductRequest{})
	wantField(t, err, "product.product_id")
	if n := s.events(); n != 0 {
		t.Errorf("%d events of nothing", n)
	}
	widest := tea()
	widest.ProductId, widest.Name, widest.PriceMinor = strings.Repeat("p", 64), strings.Repeat("🍵", nameMax), priceMax
	if got := s.put(widest); got.GetName() != widest.GetName() || got.GetPriceMinor() != priceMax {
		t.Errorf("%v", got)
	}
}

func TestWrongQuestionsNameTheField(t *testing.T) { // X5
	t.Parallel()
	s := open(t)
	for field, asked := range map[string][]string{
		"product_ids":    nil,
		"product_ids ":   make([]string, idsMax+1),
		"product_ids[1]": {"tea", "x' OR '1'='1"},
	} {
		_, err := s.client.GetProducts(t.Context(), &cataloguepb.GetProductsRequest{ProductIds: asked})
		wantField(t, err, strings.TrimSpace(field))
	}
	for _, limit := range []int32{-1, 0, limitMax + 1} {
		_, err := s.client.ListProducts(t.Context(), &cataloguepb.ListProductsRequest{Limit: limit})
		wantField(t, err, "limit")
	}
	for _, cursor := range []string{"%%%", base64.RawURLEncoding.EncodeToString([]byte("x' OR '1'='1"))} {
		_, err := s.client.ListProducts(t.Context(), &cataloguepb.ListProductsRequest{Limit: 1, Cursor: cursor})
		wantField(t, err, "cursor")
	}
}

func TestDatabaseAwayIsUnavailable(t *testing.T) {
	t.Parallel()
	db, err := store.Open("nobody@tcp("+loopback(3306)+")/", "catalogue", 1)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	own := newServer(db, prometheus.NewRegistry())
	_, get := own.GetProducts(t.Context(), &cataloguepb.GetProductsRequest{ProductIds: []string{"tea"}})
	_, list := own.ListProducts(t.Context(), &cataloguepb.ListProductsRequest{Limit: 1})
	_, put := own.PutProduct(t.Context(), &cataloguepb.PutProductRequest{Product: tea()})
	for _, err := range []error{get, list, put} {
		if !fault.Is(err, fault.Unavailable) {
			t.Errorf("%v, want unavailable", err)
		}
	}
}

func FuzzCursor(f *testing.F) {
	f.Add("")
	f.Add("dGVh")
	f.Add("%%%")
	f.Fuzz(func(t *testing.T, cursor string) {
		id, err := fromCursor(cursor)
		if err == nil && id != "" {
			if back, err := fromCursor(toCursor(id)); err != nil || back != id {
				t.Errorf("%q reads %q, written and read again %q, %v", cursor, id, back, err)
			}
		}
	})
}
