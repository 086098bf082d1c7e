package inventory

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"cartwright/internal/ids"
	"cartwright/proto/inventorypb"
)

// B2: many buyers at a time, all of the same product: the worst case for a row in a database.
func BenchmarkReserveOneHotProduct(b *testing.B) {
	for _, buyers := range []int{1, 64, 256, 1024} {
		b.Run(fmt.Sprintf("buyers=%d", buyers), func(b *testing.B) {
			s := hot(b)
			crowd(b, buyers, func() error { return s.reserve(ids.New(), "tea", 1) })
		})
	}
}

// The same, as batches that another service has gathered already.
func BenchmarkReserveBatchOfOneHotProduct(b *testing.B) {
	s := hot(b)
	for b.Loop() {
		req := &inventorypb.ReserveBatchRequest{}
		for range batchMax {
			req.Requests = append(req.Requests, reserveRequest(ids.New(), "tea", 1))
		}
		if _, err := s.ReserveBatch(b.Context(), req); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*batchMax)/b.Elapsed().Seconds(), "reservations/s")
}

// What a checkout asks of the service: reserve, then commit.
func BenchmarkReserveAndCommitOneHotProduct(b *testing.B) {
	s := hot(b)
	crowd(b, 256, func() error {
		id := ids.New()
		if err := s.reserve(id, "tea", 1); err != nil {
			return err
		}
		return s.commit(id)
	})
}

// hot is a shop with more of one product than any benchmark can sell.
func hot(b *testing.B) shop {
	return stocked(b, deltaMax)
}

// crowd lets some buyers at a time do b.N things together.
func crowd(b *testing.B, buyers int, buy func() error) {
	var turns atomic.Int64
	var all sync.WaitGroup
	b.ResetTimer()
	for range buyers {
		all.Go(func() {
			for turns.Add(1) <= int64(b.N) {
				if err := buy(); err != nil {
					b.Error(err)
				}
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
}
