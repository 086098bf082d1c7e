package tests

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"cartwright/internal/ids"

	"cartwright/internal/lifecycle"
)

const (
	// answerLimit is the gateway's own, by default: no client waits longer for an answer.
	answerLimit = 5 * time.Second
	// slack is for many shops in one process with the race detector on, all on two cores, and
	// fleetSlack for one shop in processes of its own.
	slack      = 5 * time.Second
	fleetSlack = 2 * time.Second
	// askAgainAfter is how long the shoppers of these tests wait before they ask again. They are
	// less patient than Retry-After asks of them.
	askAgainAfter = 200 * time.Millisecond
	// crowdAtOnce bounds how many fill their carts at a time while a test gets ready.
	crowdAtOnce = 64
)

// shopper buys one cart, once, and asks again under the same key until told how that ended.
type shopper struct {
	s            *shop
	client, key  string
	method       string
	order        string
	accepted     bool // was told 200 or 202 at least once
	code         int  // of the last answer
	tries        int
	longest      time.Duration
	transportErr int
	mayBreak     bool          // the gateway may go away too
	patience     time.Duration // before asking again, when it is longer than askAgainAfter
}

func (s *shop) crowd(prefix string, n int, method string) []*shopper {
	all := make([]*shopper, n)
	for i := range all {
		all[i] = &shopper{s: s, client: fmt.Sprint(prefix, i), key: ids.New(), method: method}
	}
	return all
}

// fillAll puts one unit into the cart of each shopper.
func (s *shop) fillAll(all []*shopper, product string) {
	s.t.Helper()
	var hands sync.WaitGroup
	work := make(chan *shopper)
	for range crowdAtOnce {
		hands.Go(func() {
			for b := range work {
				if err := b.add(s.t.Context(), product, ids.New()); err != nil {
					s.t.Error(err)
				}
			}
		})
	}
	for _, b := range all {
		work <- b
	}
	close(work)
	hands.Wait()
	if s.t.Failed() {
		s.t.FailNow()
	}
}

// add puts one unit into the cart, asking under one key until the answer is final.
func (b *shopper) add(ctx context.Context, product, key string) error {
	body := map[string]any{"clientID": b.client, "productID": product, "quantity": 1}
	a, err := b.insist(ctx, "/addToCart", key, body)
	if err == nil && a.code != http.StatusOK {
		err = fmt.Errorf("add %s for %s: %d %s", product, b.client, a.code, a.raw)
	}
	return err
}

// checkOut asks under one key until the answer is final, and holds every answer on the way to
// what the gateway promises.
func (b *shopper) checkOut(ctx context.Context) error {
	body := map[string]any{"clientID": b.client}
	if b.method != "" {
		body["paymentMethod"] = b.method
	}
	a, err := b.insist(ctx, "/checkOutCart", b.key, body)
	b.code = a.code
	return err
}

// insist asks until the answer is neither "later" nor "try again".
func (b *shopper) insist(ctx context.Context, path, key string, body any) (answer, error) {
	for {
		began := time.Now()
		a, err := b.s.ask(http.MethodPost, path, key, body)
		took := time.Since(began)
		b.tries, b.longest = b.tries+1, max(b.longest, took)
		switch {
		case err != nil && b.mayBreak:
			b.transportErr++
		case err != nil:
			return a, fmt.Errorf("%s for %s: %w", path, b.client, err)
		case took > answerLimit+b.s.slack:
			return a, fmt.Errorf("%s for %s: answered %d after %s", path, b.client, a.code, took)
		case a.code == http.StatusServiceUnavailable && a.header.Get("Retry-After") == "":
			return a, fmt.Errorf("%s for %s: 503 without Retry-After: %s", path, b.client, a.raw)
		case a.code == http.StatusServiceUnavailable, a.code == http.StatusAccepted:
			err = b.remember(a)
		default:
			return a, b.remember(a)
		}
		if err != nil && !b.mayBreak {
			return a, err
		}
		if !lifecycle.Pause(ctx, max(askAgainAfter, b.patience)) {
			return a, fmt.Errorf("%s for %s: no end of it: last %d %s", path, b.client, a.code, a.raw)
		}
	}
}

// remember notes the order's ID: the same key must always mean the same order.
func (b *shopper) remember(a answer) error {
	if a.Order == "" {
		return nil
	}
	if b.order != "" && b.order != a.Order {
		return fmt.Errorf("%s: one key meant order %s, then %s", b.client, b.order, a.Order)
	}
	b.order = a.Order
	b.accepted = b.accepted || a.code != http.StatusServiceUnavailable
	return nil
}

// checkOutAll lets all shoppers check out at the same time, and returns when all have an end.
func checkOutAll(t testing.TB, ctx context.Context, all []*shopper) {
	t.Helper()
	var hands sync.WaitGroup
	for _, b := range all {
		hands.Go(func() {
			if err := b.checkOut(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	hands.Wait()
}

// report sums up what a crowd went through, for the log.
func report(t testing.TB, all []*shopper) {
	t.Helper()
	codes, tries, broken, longest := map[int]int{}, 0, 0, time.Duration(0)
	for _, b := range all {
		codes[b.code]++
		tries, broken, longest = tries+b.tries, broken+b.transportErr, max(longest, b.longest)
	}
	t.Logf("%d shoppers: last answers %v, %d requests, %d of them without an answer, the longest took %s", len(all), codes, tries, broken, longest.Round(time.Millisecond))
}
