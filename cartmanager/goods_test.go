package cartmanager

import (
	"context"
	"maps"
	"net"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"cartwright/internal/identity"
	"cartwright/internal/rpc"
	"cartwright/proto/cataloguepb"
	"cartwright/proto/inventorypb"
)

// goods is the catalogue and the inventory of a test, over gRPC like the real ones.
type goods struct {
	cataloguepb.UnimplementedCatalogueServer
	inventorypb.UnimplementedInventoryServer
	addr string

	mu       sync.Mutex
	products map[string]*cataloguepb.Product
	stock    map[string]int64
	onAsk    func() // runs while somebody waits for products
}

// openGoods starts a shop with tea, cups and a book; ten, hundred and plenty of them.
func openGoods(t testing.TB) *goods {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &goods{addr: listener.Addr().String(), products: map[string]*cataloguepb.Product{}, stock: map[string]int64{}}
	g.put("tea", "Green tea", 450, "EUR", 10)
	g.put("cup", "Cup", 1250, "EUR", 100)
	g.put("book", "A book", 2000, "EUR", 1_000_000)
	server := grpc.NewServer()
	cataloguepb.RegisterCatalogueServer(server, g)
	inventorypb.RegisterInventoryServer(server, g)
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return g
}

func (g *goods) put(id, name string, priceMinor int64, currency string, available int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.products[id] = &cataloguepb.Product{ProductId: id, Name: name, PriceMinor: priceMinor, Currency: currency, Active: true}
	g.stock[id] = available
}

func (g *goods) withdraw(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.products[id] = &cataloguepb.Product{ProductId: id, Name: id, Currency: "EUR"}
}

func (g *goods) whileAsking(do func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.onAsk = do
}

func (g *goods) GetProducts(_ context.Context, req *cataloguepb.GetProductsRequest) (*cataloguepb.GetProductsResponse, error) {
	g.mu.Lock()
	onAsk, products := g.onAsk, maps.Clone(g.products)
	g.mu.Unlock()
	if onAsk != nil {
		onAsk()
	}
	resp := &cataloguepb.GetProductsResponse{}
	for _, id := range req.GetProductIds() {
		if p := products[id]; p != nil {
			resp.Products = append(resp.Products, p)
		}
	}
	return resp, nil
}

func (g *goods) GetAvailability(_ context.Context, req *inventorypb.GetAvailabilityRequest) (*inventorypb.GetAvailabilityResponse, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	resp := &inventorypb.GetAvailabilityResponse{}
	for _, id := range req.GetProductIds() {
		if n, known := g.stock[id]; known {
			resp.Stock = append(resp.Stock, &inventorypb.Stock{ProductId: id, OnHand: n, Available: n})
		}
	}
	return resp, nil
}

// dial makes a client that ends with the test.
func dial(t testing.TB, addr string) *grpc.ClientConn {
	t.Helper()
	conn, err := rpc.Dial(addr, identity.Insecure().Client(name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}
