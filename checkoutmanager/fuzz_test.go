package checkoutmanager

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"cartwright/internal/fault"
	"cartwright/internal/groupcommit"
	"cartwright/internal/testenv"
	"cartwright/jobs"
	"cartwright/proto/checkoutpb"
	"cartwright/proto/jobspb"
)

// X5: whatever is asked of the service, it says what is wrong with it.
func FuzzService(f *testing.F) {
	db := testenv.NoDatabase(f)
	book := newOrders(db, groupcommit.NewMetrics(prometheus.NewRegistry()).Of)
	f.Cleanup(func() { book.opens.Wait(); book.refusals.Wait(); book.ends.Wait() })
	job, err := jobs.Encode(&jobspb.StartCheckout{ClientId: "ann", PaymentMethod: "tok_ok", Email: "ann@example.org"})
	if err != nil {
		f.Fatal(err)
	}
	last := listed{Order: &checkoutpb.Order{CreatedAtUs: 1_760_000_000_123_456}, checkoutID: "c"}
	testenv.FuzzService(f, testenv.Calls{Desc: &checkoutpb.Orders_ServiceDesc, Service: &server{db: db, orders: book}},
		&checkoutpb.GetOrderRequest{OrderId: "o"},
		&checkoutpb.ListOrdersRequest{ClientId: "ann", Limit: pageMax},
		&checkoutpb.ListOrdersRequest{ClientId: "ann", Limit: 1, Cursor: writeCursor(last)},
		&checkoutpb.RefuseBatchRequest{Requests: []*checkoutpb.RefuseRequest{{OrderId: "o", ProductId: "tea", Job: job}, {OrderId: "o", ProductId: "tea"}}})
}

// A cursor is read as it was written, and every other is refused by name.
func FuzzCursor(f *testing.F) {
	f.Add(writeCursor(listed{Order: &checkoutpb.Order{CreatedAtUs: 1_760_000_000_123_456}, checkoutID: "c"}))
	f.Add("LTkyMjMzNzIwMzY4NTQ3NzU4MDggYw") // the least number there is
	f.Add("")
	f.Fuzz(func(t *testing.T, cursor string) {
		at, id, err := readCursor(cursor)
		if err != nil {
			if !fault.Is(err, fault.Invalid) || fault.As(err).Field != "cursor" {
				t.Fatal(err)
			}
			return
		}
		again, sameID, err := readCursor(writeCursor(listed{Order: &checkoutpb.Order{CreatedAtUs: at.UnixMicro()}, checkoutID: id}))
		if err != nil || !again.Equal(at) || sameID != id {
			t.Fatalf("%s of %s became %s of %s, %v", at, id, again, sameID, err)
		}
		if year := at.Year(); year < 1970 || year > 9999 {
			t.Fatalf("%s is no time that a database takes", at.Format(time.RFC3339))
		}
	})
}
