package bench

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"cartwright/internal/lifecycle"
	"cartwright/internal/progress"
)

// stub is a shop that answers as told, for the generator alone.
func stub(t *testing.T, answer http.HandlerFunc) *generator {
	t.Helper()
	server := httptest.NewServer(answer)
	g, err := newGenerator(server.URL, "bench-run", progress.New(io.Discard))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.close(); server.Close() })
	return g
}

func asking(g *generator) func(i int, r *fasthttp.Request) {
	return func(i int, r *fasthttp.Request) { g.write(r, "POST", "/ask", fmt.Sprint(i), []byte("{}")) }
}

// B9: in an open loop a stall is felt by all who were due meanwhile, also by those who could be
// asked only afterwards.
func TestLatencyCountsFromWhenARequestWasDue(t *testing.T) {
	t.Parallel()
	const stall, rate, requests = 400 * time.Millisecond, 100, 60
	var asked atomic.Int64
	g := stub(t, func(http.ResponseWriter, *http.Request) {
		if asked.Add(1) == 1 {
			lifecycle.Pause(t.Context(), stall)
		}
	})
	r, err := g.run(t.Context(), load{what: "ask", n: requests, hands: 1, rate: rate, ask: asking(g)})
	if err != nil {
		t.Fatal(err)
	}
	felt := 0
	for i, s := range r.samples {
		if want := time.Duration(i) * time.Second / rate; s.due != want {
			t.Errorf("request %d was due after %s, want %s", i, s.due, want)
		}
		if s.took > stall/4 {
			felt++
		}
	}
	if most := int(stall.Seconds() * rate); felt < most/2 || felt > most+10 {
		t.Errorf("%d requests felt the stall, want about %d", felt, most*3/4)
	}
}

// In a closed loop nobody asks before the last answer, so at most so many requests are in hand.
func TestAClosedLoopHasOneRequestInEachHand(t *testing.T) {
	t.Parallel()
	const hands, requests = 5, 100
	var now, most atomic.Int64
	g := stub(t, func(http.ResponseWriter, *http.Request) {
		for n := now.Add(1); n > most.Load(); {
			most.Store(n)
		}
		lifecycle.Pause(t.Context(), time.Millisecond)
		now.Add(-1)
	})
	r, err := g.run(t.Context(), load{what: "ask", n: requests, hands: hands, ask: asking(g)})
	if err != nil {
		t.Fatal(err)
	}
	if m := g.answers.measure("ask", r.samples, r.took); m.Requests != requests || !m.allOK() {
		t.Errorf("%d requests: %s", m.Requests, m.answered())
	}
	if most.Load() > hands || most.Load() < 2 {
		t.Errorf("%d requests were in hand at a time, want up to %d", most.Load(), hands)
	}
}

// When the time is over nothing more is asked, and what was not asked does not count.
func TestALoadEndsWhenItsTimeIsOver(t *testing.T) {
	t.Parallel()
	g := stub(t, func(http.ResponseWriter, *http.Request) { lifecycle.Pause(t.Context(), 5*time.Millisecond) })
	r, err := g.run(t.Context(), load{what: "ask", n: 2000, hands: 2, until: 100 * time.Millisecond, ask: asking(g)})
	if err != nil {
		t.Fatal(err)
	}
	if m := g.answers.measure("ask", r.samples, r.took); m.Requests < 2 || m.Requests > 60 || m.Seconds > 5 || !m.allOK() {
		t.Errorf("%d requests in %.1f s: %s", m.Requests, m.Seconds, m.answered())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r, err := g.run(ctx, load{what: "ask", n: 10, hands: 2, rate: 1, ask: asking(g)}); err == nil || g.answers.measure("", r.samples, r.took).Requests > 0 {
		t.Errorf("cancelled: asked %s, error %v", g.answers.count(r.samples), err)
	}
}

// Answers are told apart by code and error, and not by the names and numbers in them.
func TestAnswersAreToldApartByWhatTheySay(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	g := stub(t, func(w http.ResponseWriter, r *http.Request) {
		switch n := asked.Add(1); n {
		case 1, 2:
			w.WriteHeader(http.StatusConflict)
			fmt.Fprintf(w, `{"status":"Failed","error":"only %d of bench-run-p%d left"}`, n, n)
		case 3:
			w.WriteHeader(http.StatusAccepted)
		case 4:
			w.WriteHeader(http.StatusServiceUnavailable)
			io.WriteString(w, `{"detail":"the broker is away","code":"unavailable"}`) //nolint:errcheck // the test would see
		case 5:
			panic(http.ErrAbortHandler)
		}
	})
	r, err := g.run(t.Context(), load{what: "ask", n: 6, hands: 1, ask: asking(g)})
	if err != nil {
		t.Fatal(err)
	}
	const want = "2 × 409 only n of … left, 1 × 200, 1 × 202, 1 × 503 unavailable, 1 × connection broken"
	if said := g.answers.measure("ask", r.samples, r.took).answered(); said != want {
		t.Errorf("answers are %s\nwant %s", said, want)
	}
	for i, refused := range []bool{true, true, false, false, false, false} {
		if g.answers.refused(r.samples[i].answer) != refused {
			t.Errorf("answer %d: refused is %t", i, !refused)
		}
	}
}

// What was not done is asked again under the same key, and the figures are of the first time.
func TestWhatWasNotDoneIsAskedAgain(t *testing.T) {
	t.Parallel()
	tries := [4]atomic.Int64{}
	g := stub(t, func(w http.ResponseWriter, r *http.Request) {
		var i int
		fmt.Sscan(r.Header.Get("Idempotency-Key"), &i) //nolint:errcheck // then it is 0
		if tries[i].Add(1) == 1 && i%2 == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	b := &bench{gen: g}
	r, err := b.insist(t.Context(), load{what: "ask", n: len(tries), hands: 2, ask: asking(g)})
	if err != nil {
		t.Fatal(err)
	}
	if said := g.answers.count(r.samples); said != "2 × 200, 2 × 503" {
		t.Errorf("the first time: %s", said)
	}
	for i := range tries {
		if n := tries[i].Load(); n != int64(1+i%2) {
			t.Errorf("request %d was asked %d times", i, n)
		}
	}
}
