package checkoutmanager

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"cartwright/internal/messaging"
	"cartwright/jobs"
	"cartwright/proto/jobspb"
)

// This file lets two processes work on several orders at once, in random histories on a clock of their
// own: the real worker, saga, guard and rescue, against a network that loses, doubles, delays and
// reorders, a broker that delivers again, a listener of events, and processes that die at any point.
// Where histories_test.go tries everything on one checkout, this tries much on many, and time passes.

// simRequest is one request on the network, on its way to books.
type simRequest struct {
	task      string // of the goroutine that asked
	number    int    // of that task's requests: with task, what makes a history repeatable
	refusable bool
	delayed   error // what is heard of it when it is late
	arrive    func() error
	answer    chan error // nil when nobody waits for it any more
}

var errSimCrash = fmt.Errorf("the process died")

type simJob struct {
	order int
	in    string // the task that has it in hand; empty on the queue
}

type simulation struct {
	books    *simBooks
	choices  []byte // what happens, one after the other
	procs    [2]*simProcess
	jobs     []*simJob
	placedBy map[int]bool // orders that were asked for

	mu       sync.Mutex
	requests []*simRequest
	numbers  map[string]int
	tasks    int
	ended    []simEnd
}

type simEnd struct {
	task string
	err  error
}

// simProcess is one checkoutmanager. When it dies, its successor is another value.
type simProcess struct {
	sim    *simulation
	worker *worker
	rescue *rescue
	dead   chan struct{}
}

type simTask struct{}

func (s *simulation) start(at int) {
	p := &simProcess{sim: s, dead: make(chan struct{})}
	steps := checkoutSteps()
	if s.books.rules.releaseFirst {
		steps[1].undo, steps[2].undo = steps[2].undo, steps[1].undo
	}
	log := slog.New(slog.DiscardHandler)
	walker := &saga{steps: steps, carts: p, stock: p, cash: p, book: p, patience: simPatience, now: time.Now}
	p.worker = &worker{saga: walker, orders: p, answers: p, log: log}
	p.rescue = &rescue{orders: p, log: log, walk: walker.walk}
	s.procs[at] = p
}

// ask puts a request on the network and waits until somebody lets it be answered.
func (p *simProcess) ask(ctx context.Context, order string, refusable bool, arrive func() error) error {
	return p.askFor(ctx, order, refusable, silence, arrive)
}

func (p *simProcess) askFor(ctx context.Context, order string, refusable bool, delayed error, arrive func() error) error {
	task := fmt.Sprint(ctx.Value(simTask{}), " ", order)
	s := p.sim
	s.mu.Lock()
	s.numbers[task]++
	r := &simRequest{task: task, number: s.numbers[task], refusable: refusable, delayed: delayed, arrive: arrive, answer: make(chan error, 1)}
	s.requests = append(s.requests, r)
	s.mu.Unlock()
	select {
	case err := <-r.answer:
		return err
	case <-p.dead:
		runtime.Goexit()
	case <-ctx.Done():
	}
	return silence
}

// The answers that customers get must be true for ever.

func (p *simProcess) Done(_ context.Context, m messaging.Message, _ bool) error {
	return p.told(m.ID, placed)
}
func (p *simProcess) Failed(_ context.Context, m messaging.Message, _ error, _ bool) error {
	return p.told(m.ID, failed)
}
func (p *simProcess) Pending(context.Context, messaging.Message) error { return nil }

func (p *simProcess) told(order string, is state) error {
	p.sim.mu.Lock()
	defer p.sim.mu.Unlock()
	if saved := p.sim.books.rows[p.sim.books.ids[order]].state; saved != is {
		p.sim.books.broken = fmt.Sprintf("a customer was told %s of an order that is %s", is, saved)
	}
	return nil
}

// next is the next choice from 0 to n-1; without any left, always the first.
func (s *simulation) next(n int) int {
	if len(s.choices) == 0 {
		return 0
	}
	b := int(s.choices[0])
	s.choices = s.choices[1:]
	return b % n
}

// run does something in a goroutine of its own that knows its task.
func (s *simulation) run(do func(context.Context) error) (task string) {
	s.tasks++
	task = fmt.Sprintf("%04d", s.tasks)
	go func() {
		err := errSimCrash
		defer func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.ended = append(s.ended, simEnd{task, err})
		}()
		ctx, cancel := context.WithTimeout(context.WithValue(context.Background(), simTask{}, task), 30*time.Second) // as the consumer does
		defer cancel()
		err = do(ctx)
	}()
	return task
}

func simOrderID(order int) string {
	return jobs.ID(jobs.StartCheckout, fmt.Sprint("client", order), "key")
}

func (s *simulation) submit(order int) {
	s.placedBy[order] = true
	s.jobs = append(s.jobs, &simJob{order: order})
}

// deliver gives a job from the queue to a process.
func (s *simulation) deliver(which, to int) {
	var waiting []*simJob
	for _, j := range s.jobs {
		if j.in == "" {
			waiting = append(waiting, j)
		}
	}
	if len(waiting) == 0 {
		return
	}
	j, p := waiting[which%len(waiting)], s.procs[to]
	body, err := jobs.Encode(&jobspb.StartCheckout{ClientId: fmt.Sprint("client", j.order)})
	if err != nil {
		panic(err)
	}
	m := messaging.Message{ID: simOrderID(j.order), Kind: jobs.StartCheckout, Body: body}
	j.in = s.run(func(ctx context.Context) error { return p.worker.handle(ctx, m) })
	if s.books.rules.ackEarly {
		s.jobs = slices.DeleteFunc(s.jobs, func(other *simJob) bool { return other == j })
	}
}

// settle is the broker: what a worker has seen through leaves the queue, and all else goes back to it.
func (s *simulation) settle() {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.ended {
		s.jobs = slices.DeleteFunc(s.jobs, func(j *simJob) bool { return j.in == e.task && e.err == nil })
		for _, j := range s.jobs {
			if j.in == e.task {
				j.in = ""
			}
		}
	}
	s.ended = nil
	slices.SortFunc(s.requests, func(a, b *simRequest) int {
		return cmp.Or(cmp.Compare(a.task, b.task), cmp.Compare(a.number, b.number))
	})
}

// pass decides what becomes of one request.
func (s *simulation) pass(which, fate int) {
	if len(s.requests) == 0 {
		return
	}
	at := which % len(s.requests)
	r := s.requests[at]
	const lost, unheard, late, no = 4, 5, 6, 7 // below: it arrives and is answered
	if fate == late && r.answer != nil {
		answer := r.answer
		r.answer = nil // it stays on the network
		answer <- r.delayed
		return
	}
	s.requests = slices.Delete(s.requests, at, at+1) // first: whoever is answered asks the next thing at once
	switch {
	case fate == no && r.refusable:
		s.answer(r, refused)
	case fate == lost:
		s.answer(r, silence)
	case fate == unheard:
		r.arrive() //nolint:errcheck // nobody hears it
		s.answer(r, silence)
	default:
		s.answer(r, r.arrive())
	}
}

func (s *simulation) answer(r *simRequest, err error) {
	if r.answer != nil {
		r.answer <- err // has room for it
	}
}

// crash ends a process at the point where it is; its requests stay on the network.
func (s *simulation) crash(at int) {
	close(s.procs[at].dead)
	s.start(at)
}

// relay moves the oldest event, in two steps, between which it may die.
func (s *simulation) relay(dies bool) {
	b := s.books
	if len(b.outbox) == 0 {
		return
	}
	e := b.outbox[0]
	if b.rules.deletesFirst {
		if b.outbox = b.outbox[1:]; !dies {
			b.published = append(b.published, e)
		}
		return
	}
	if b.published = append(b.published, e); !dies {
		b.outbox = b.outbox[1:]
	}
}

// listen lets the listener hear an event, perhaps not for the last time.
func (s *simulation) listen(which int, again bool) {
	b := s.books
	if len(b.published) == 0 {
		return
	}
	at := which % len(b.published)
	b.hear(b.published[at])
	if !again {
		b.published = slices.Delete(b.published, at, at+1)
	}
}

func (s *simulation) lookForLost(at int) {
	if due := s.books.lookFor(); len(due) > 0 && !s.books.rules.forgetsRescue {
		p := s.procs[at]
		s.run(func(ctx context.Context) error { p.rescue.walkAll(ctx, due); return nil })
	}
}

// act lets one thing happen.
func (s *simulation) act() {
	switch what := s.next(20); {
	case what < 8:
		s.pass(s.next(16), s.next(8))
	case what < 11:
		s.deliver(s.next(4), s.next(2))
	case what == 11:
		s.submit(s.next(simOrders)) // for the first time or again, under the same key
	case what == 12 && len(s.jobs) > 0:
		s.jobs = append(s.jobs, &simJob{order: s.jobs[s.next(len(s.jobs))].order}) // delivered twice
	case what == 13:
		s.crash(s.next(2))
	case what == 14:
		time.Sleep([]time.Duration{time.Second, 6 * time.Second, 31 * time.Second, 11 * time.Minute}[s.next(4)])
	case what == 15:
		s.lookForLost(s.next(2))
	case what == 16:
		s.books.expire()
	case what == 17:
		s.relay(s.next(2) == 1)
	case what == 18:
		s.listen(s.next(4), s.next(2) == 1)
	}
}

// healMax is far more than a healed shop needs to come to rest.
const healMax = 2000

// heal lets nothing go wrong any more until nothing is left to do; false when that never comes.
func (s *simulation) heal() bool {
	for range healMax {
		s.settle()
		queued := slices.ContainsFunc(s.jobs, func(j *simJob) bool { return j.in == "" })
		switch b := s.books; {
		case len(s.requests) > 0:
			s.pass(0, 0)
		case queued:
			s.deliver(0, 0)
		case len(b.outbox) > 0:
			s.relay(false)
		case len(b.published) > 0:
			s.listen(0, false)
		case len(b.due) > 0:
			time.Sleep(graceSeconds * time.Second)
			s.books.expire()
			s.lookForLost(0)
		default:
			return true
		}
		if s.books.check() != "" {
			return true
		}
	}
	return false
}

// simulate plays one history and says what went wrong; empty when nothing did.
func simulate(t *testing.T, rules simRules, choices []byte) (wrong string) {
	synctest.Test(t, func(*testing.T) {
		s := &simulation{books: newSimBooks(rules), choices: choices, placedBy: map[int]bool{}, numbers: map[string]int{}}
		s.start(0)
		s.start(1)
		for order := range simOrders {
			s.submit(order)
		}
		defer func() { // whatever happened, nobody stays behind
			s.crash(0)
			s.crash(1)
			synctest.Wait()
		}()
		for wrong == "" && len(s.choices) > 0 {
			s.act()
			s.settle()
			wrong = s.books.check()
		}
		switch {
		case wrong != "":
		case !s.heal():
			wrong = "it does not come to rest"
		case s.books.check() != "":
			wrong = s.books.check()
		case len(s.books.rows) != len(s.placedBy):
			wrong = fmt.Sprintf("%d orders were accepted, and %d are known", len(s.placedBy), len(s.books.rows))
		default:
			wrong = s.books.end()
		}
	})
	return wrong
}

// simHistories and simActions are how many histories a run plays, and how long each is at most, in
// choices; an action takes one to three.
const (
	simHistories = 20_000
	simActions   = 160
)

// K8, B1, E1: whatever happens in between, each order ends whole, is charged at most once, is answered
// truly, and is told of once. What is found is shrunk to the shortest history that shows it.
func TestEveryOrderOfARandomHistoryEndsWhole(t *testing.T) {
	t.Parallel()
	const each = 100 // histories of one Check, by default
	for range simHistories / each {
		rapid.Check(t, func(r *rapid.T) {
			choices := rapid.SliceOfN(rapid.Byte(), 0, simActions).Draw(r, "choices")
			if wrong := simulate(t, simRules{}, choices); wrong != "" {
				r.Fatal(wrong)
			}
		})
		if t.Failed() {
			return
		}
	}
}

// The simulation finds each of these mistakes, so it would find ours.
func TestTheSimulationFindsMistakes(t *testing.T) {
	t.Parallel()
	const enough = 5_000
	for name, rules := range map[string]simRules{
		"stock goes back before the money": {releaseFirst: true}, "no tombstones": {noTombstones: true}, "unguarded saves": {unguarded: true},
		"a provider that charges twice": {chargesTwice: true}, "acknowledged early": {ackEarly: true}, "deleted before published": {deletesFirst: true},
		"no inbox": {noInbox: true}, "no rescue": {forgetsRescue: true},
	} {
		random := rand.New(rand.NewPCG(1, 2))
		found, histories := "", 0
		for ; found == "" && histories < enough; histories++ {
			choices := make([]byte, random.IntN(simActions))
			for i := range choices {
				choices[i] = byte(random.Uint32())
			}
			found = simulate(t, rules, choices)
		}
		t.Logf("%s: %q after %d histories", name, found, histories)
		if found == "" {
			t.Errorf("%s: not found in %d histories", name, histories)
		}
	}
}
