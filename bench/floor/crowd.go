package floor

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
	"golang.org/x/sync/errgroup"

	"cartwright/internal/ids"
)

const checkOutPath = "/checkOutCart"

const (
	// connectLimit is for a process on the same machine that is known to listen.
	connectLimit = 5 * time.Second

	// answerLimit is how long a buyer waits: far more than the slowest answer takes while all is well.
	answerLimit = 20 * time.Second
)

// crowd is the buyers.
type crowd struct {
	buyers int
	client *fasthttp.HostClient
	url    string
}

func newCrowd(gateway string, buyers int) *crowd {
	// The client's own dialler remembers addresses in a goroutine that never ends.
	dial := func(address string) (net.Conn, error) { return net.DialTimeout("tcp", address, connectLimit) }
	client := &fasthttp.HostClient{Addr: gateway, Dial: dial, MaxConns: buyers, ReadTimeout: answerLimit}
	return &crowd{buyers, client, "http://" + gateway + checkOutPath}
}

// leave closes the buyers' connections.
func (c *crowd) leave() { c.client.CloseIdleConnections() }

// purchases are the checkouts that were answered.
type purchases struct {
	took    []time.Duration
	elapsed time.Duration // until the last answer
}

// buy has every buyer check out, and again as soon as there is an answer, for some time.
func (c *crowd) buy(ctx context.Context, length time.Duration) (all purchases, err error) {
	var mu sync.Mutex
	hands, ctx := errgroup.WithContext(ctx)
	began := time.Now()
	for range c.buyers {
		hands.Go(func() error {
			took, err := c.buyUntil(ctx, began.Add(length))
			mu.Lock()
			defer mu.Unlock()
			all.took = append(all.took, took...)
			return err
		})
	}
	err = hands.Wait()
	all.elapsed = time.Since(began)
	return all, err
}

// buyUntil is one buyer.
func (c *crowd) buyUntil(ctx context.Context, end time.Time) (took []time.Duration, err error) {
	request, response := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(request)
	defer fasthttp.ReleaseResponse(response)
	request.SetRequestURI(c.url)
	request.Header.SetMethod(http.MethodPost)
	request.Header.SetContentType("application/json")
	for began := time.Now(); began.Before(end); began = time.Now() {
		if ctx.Err() != nil {
			return took, context.Cause(ctx)
		}
		request.SetBodyString(`{"clientID":"` + ids.New() + `"}`)
		if err := c.client.Do(request, response); err != nil {
			return took, fmt.Errorf("buyer: %w", err)
		}
		if response.StatusCode() != http.StatusOK {
			return took, fmt.Errorf("buyer: the gateway answers %d: %s", response.StatusCode(), response.Body())
		}
		took = append(took, time.Since(began))
	}
	return took, nil
}

// result says how fast it was.
func (p purchases) result(load Load) Result {
	r := Result{Buyers: load.Buyers, Products: load.Products, Checkouts: len(p.took)}
	if r.Checkouts == 0 {
		return r
	}
	slices.Sort(p.took)
	r.PerSecond = float64(r.Checkouts) / p.elapsed.Seconds()
	r.P50, r.P99 = p.took[r.Checkouts/2], p.took[r.Checkouts*99/100]
	return r
}
