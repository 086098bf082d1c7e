package payments

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"cartwright/internal/testenv"
	"cartwright/proto/paymentspb"
	schema "cartwright/sql"
)

// BenchmarkCharge takes payments from 512 shoppers at a time, through all three saves: the row, the
// provider's books, and the outcome with its event.
func BenchmarkCharge(b *testing.B) {
	db := testenv.Database(b, testenv.Namespace(b), schema.Payments)
	m := newMetrics(prometheus.NewRegistry())
	test := newTestProvider(db, 0, m)
	s := newServer(db, timed{test, m.provider}, providerTest, m)
	b.SetParallelism(256)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			resp, err := s.Charge(b.Context(), euros(newID(), tokOK))
			if err != nil || resp.GetState() != paymentspb.State_STATE_CHARGED {
				b.Errorf("%v, %v", resp, err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "charges/s")
	s.charges.land()
	s.ledger.group.Wait()
	test.books.group.Wait()
}
