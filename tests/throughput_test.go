package tests

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cartwright/internal/ids"
)

const (
	// atATime is how many shoppers check out side by side.
	atATime = 64
	// rounds of the idle shop's questions, and the most that their median may take. On two quiet
	// cores it is under 30 ms; the bound only catches a timer that has crept in.
	rounds    = 50
	idleBound = 250 * time.Millisecond
)

// B2: checkouts a second with 64 shoppers at a time, one process of each service, all on this
// machine. Run it alone: go test -run '^$' -bench Checkouts -benchtime 10000x ./tests/
func BenchmarkCheckouts64AtATime(b *testing.B) {
	f := newFleet(b, options{})
	f.product("tea", 100, int64(b.N))
	all := f.crowd("c", b.N, "")
	f.fillAll(all, "tea")
	took := make([]time.Duration, b.N)
	var turn, late atomic.Int64
	var hands sync.WaitGroup
	b.ResetTimer()
	for range min(atATime, b.N) {
		hands.Go(func() {
			for i := turn.Add(1) - 1; i < int64(b.N); i = turn.Add(1) - 1 {
				began := time.Now()
				a, err := f.checkOut(all[i].client, "", all[i].key)
				took[i] = time.Since(began)
				if err != nil || a.code/100 != 2 {
					b.Errorf("check out: %d %s %v", a.code, a.raw, err)
				}
				if a.code == http.StatusAccepted {
					late.Add(1)
				}
			}
		})
	}
	hands.Wait()
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "checkouts/s")
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(late.Load()), "late")
	f.agrees()
	if n := f.countOrders("placed"); n != b.N {
		b.Errorf("%d placed orders, want %d", n, b.N)
	}
}

// An idle shop answers one shopper quickly: nothing on the way waits for company.
func TestTheShopAnswersFastWhenIdle(t *testing.T) {
	f := newFleet(t, options{})
	f.product("tea", 100, 2*rounds)
	ctx, cancel := context.WithTimeout(t.Context(), readyLimit)
	defer cancel()
	one := f.crowd("idle", rounds, "")
	adds, checkouts := make([]time.Duration, rounds), make([]time.Duration, rounds)
	for i, b := range one {
		began := time.Now()
		if err := b.add(ctx, "tea", ids.New()); err != nil {
			t.Fatal(err)
		}
		added := time.Now()
		if err := b.checkOut(ctx); err != nil || b.code != http.StatusOK {
			t.Fatalf("check out: %d %v", b.code, err)
		}
		adds[i], checkouts[i] = added.Sub(began), time.Since(added)
	}
	for what, took := range map[string][]time.Duration{"add": adds, "check out": checkouts} {
		slices.Sort(took)
		median := took[rounds/2]
		t.Logf("%s: median %s, slowest %s", what, median, took[rounds-1])
		if median > idleBound {
			t.Errorf("%s: the median is %s, more than %s", what, median, idleBound)
		}
	}
}
