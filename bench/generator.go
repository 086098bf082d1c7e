package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"cartwright/internal/progress"
)

const (
	// handsMax is how many requests may be in hand at a time, and how many are in an open loop if the
	// shop is slow. A request that finds no hand free is sent late, and counts from when it was due.
	handsMax = 4096
	// answerTimeout is far above the gateway's own limit, after which it answers 202.
	answerTimeout = 30 * time.Second
	connectLimit  = 5 * time.Second
	// answersMax bounds the kinds of answer that are told apart.
	answersMax = 64
)

// A load is a list of requests, and how they are to be sent.
type load struct {
	what  string
	n     int
	ask   func(i int, r *fasthttp.Request) // writes the i-th request
	hands int                              // how many send, each its next request when its last is answered
	rate  int                              // open loop: request i is due after i/rate seconds; 0 is a closed loop
	until time.Duration                    // when no more are sent; 0 is never
}

// sample is what became of one request. Its latency counts from the time it was due.
type sample struct {
	due, took time.Duration // due since the load began
	answer    answer
}

// answer is the number of a kind of answer; the zero value says that nothing was asked.
type answer uint8

const (
	notAsked answer = iota
	success         // 200
	accepted        // 202
)

// result is what became of a load, request by request in their order.
type result struct {
	samples []sample
	began   time.Time
	took    time.Duration // until the last answer
}

// generator sends requests. Nothing is shared between its hands but a counter, so that it costs
// the machine little.
type generator struct {
	client   *fasthttp.HostClient
	base     string // scheme and host
	progress progress.View
	answers  *answers
}

func newGenerator(address, run string, p progress.View) (*generator, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("CARTWRIGHT_URL is %q, want http://host:port", address)
	}
	host, secure := u.Host, u.Scheme == "https"
	if u.Port() == "" {
		host = net.JoinHostPort(u.Hostname(), map[bool]string{false: "80", true: "443"}[secure])
	}
	client := &fasthttp.HostClient{
		Addr: host, IsTLS: secure, MaxConns: 2 * handsMax, ReadTimeout: answerTimeout, WriteTimeout: answerTimeout,
		MaxIdemponentCallAttempts: 1, // what is asked twice is ours to count
		Dial:                      func(addr string) (net.Conn, error) { return net.DialTimeout("tcp", addr, connectLimit) },
	}
	return &generator{client, u.Scheme + "://" + u.Host, p, newAnswers(run)}, nil
}

func (g *generator) close() { g.client.CloseIdleConnections() }

// run sends a load and returns when all of it is answered. When ctx ends, nothing more is sent.
func (g *generator) run(ctx context.Context, l load) (result, error) {
	r := result{samples: make([]sample, l.n), began: time.Now()}
	var turn atomic.Int64
	stop := g.progress.Follow(progress.Always(l.what), l.n, func() int { return min(int(turn.Load()), l.n) })
	var working sync.WaitGroup
	for range min(l.hands, l.n) {
		working.Go(func() { g.work(ctx, l, r, &turn) })
	}
	working.Wait()
	stop()
	for _, s := range r.samples {
		r.took = max(r.took, s.due+s.took)
	}
	return r, ctx.Err()
}

// work is one hand: it takes the next request, waits until that is due, and sends it.
func (g *generator) work(ctx context.Context, l load, r result, turn *atomic.Int64) {
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for i := int(turn.Add(1)) - 1; i < l.n && ctx.Err() == nil; i = int(turn.Add(1)) - 1 {
		due := time.Since(r.began)
		if l.rate > 0 {
			due = time.Duration(i) * time.Second / time.Duration(l.rate)
			if !waitUntil(ctx, timer, r.began.Add(due)) {
				return
			}
		}
		if l.until > 0 && due > l.until {
			return
		}
		req.Reset()
		l.ask(i, req)
		err := g.client.Do(req, resp)
		r.samples[i] = sample{due, time.Since(r.began) - due, g.answers.of(resp, err)}
	}
}

func waitUntil(ctx context.Context, timer *time.Timer, at time.Time) bool {
	wait := time.Until(at)
	if wait <= 0 {
		return true
	}
	timer.Reset(wait)
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// one sends a single request and returns the answer's code and body.
func (g *generator) one(ask func(*fasthttp.Request)) (code int, body []byte, err error) {
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	ask(req)
	if err := g.client.Do(req, resp); err != nil {
		return 0, nil, fmt.Errorf("the shop at %s does not answer: %w", g.base, err)
	}
	return resp.StatusCode(), append(body, resp.Body()...), nil
}

// answers gives each kind of answer a number, so that a sample is small.
type answers struct {
	run string // names that begin with it are left out of what is told

	mu    sync.Mutex
	names []string
	codes []int
	known map[string]answer
}

func newAnswers(run string) *answers {
	return &answers{run: run, names: []string{"not asked", "200", "202"}, codes: []int{0, 200, 202}, known: map[string]answer{}}
}

func (a *answers) of(resp *fasthttp.Response, err error) answer {
	switch {
	case err != nil && (errors.Is(err, fasthttp.ErrTimeout) || isTimeout(err)):
		return a.number(0, "no answer in time")
	case err != nil:
		return a.number(0, "connection broken")
	case resp.StatusCode() == fasthttp.StatusOK:
		return success
	case resp.StatusCode() == fasthttp.StatusAccepted:
		return accepted
	}
	return a.number(resp.StatusCode(), a.words(resp))
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

func (a *answers) number(code int, name string) answer {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n, is := a.known[name]; is {
		return n
	}
	if len(a.names) >= answersMax {
		name, code = "others", 0
		if n, is := a.known[name]; is {
			return n
		}
	}
	n := answer(len(a.names))
	a.names, a.codes, a.known[name] = append(a.names, name), append(a.codes, code), n
	return n
}

func (a *answers) name(n answer) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.names[n]
}

// refused tells whether an answer is a definite no.
func (a *answers) refused(n answer) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.codes[n]/100 == 4
}

// told is an answer as the books are held to it.
func (a *answers) told(n answer) Told {
	said := Told{Verdict: Unclear, Words: a.name(n)}
	switch {
	case n == notAsked:
		said.Verdict = NotAsked
	case n == success:
		said.Verdict = Paid
	case n == accepted:
		said.Verdict = Later
	case a.refused(n):
		said.Verdict = Refused
	}
	return said
}

var digits = regexp.MustCompile(`[0-9]+`)

// words are an answer's code and error, without the names and numbers in which answers of one
// kind differ.
func (a *answers) words(resp *fasthttp.Response) string {
	var said struct{ Error, Detail, Code string }
	text := ""
	if json.Unmarshal(resp.Body(), &said) == nil {
		text = said.Error + said.Detail
	}
	if said.Code != "" {
		text = said.Code
	}
	words := strings.Fields(text)
	for i, w := range words {
		if strings.Contains(w, a.run) {
			w = "…"
		}
		words[i] = digits.ReplaceAllString(w, "n")
	}
	return strings.TrimSpace(strconv.Itoa(resp.StatusCode()) + " " + strings.Join(words, " "))
}
