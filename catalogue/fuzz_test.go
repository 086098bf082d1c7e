package catalogue

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"cartwright/internal/testenv"
	"cartwright/proto/cataloguepb"
)

// X5: whatever is asked of the service, it says what is wrong with it.
func FuzzService(f *testing.F) {
	s := newServer(testenv.NoDatabase(f), prometheus.NewRegistry())
	f.Cleanup(s.reads.Wait)
	testenv.FuzzService(f, testenv.Calls{Desc: &cataloguepb.Catalogue_ServiceDesc, Service: s},
		&cataloguepb.GetProductsRequest{ProductIds: []string{"tea", "cup"}},
		&cataloguepb.ListProductsRequest{Limit: limitMax},
		&cataloguepb.ListProductsRequest{Limit: 1, Cursor: toCursor("tea")},
		&cataloguepb.PutProductRequest{Product: &cataloguepb.Product{ProductId: "tea", Name: "Grüner Tee", PriceMinor: priceMax, Currency: "EUR", Active: true}})
}
