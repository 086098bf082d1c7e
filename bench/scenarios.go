package bench

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/valyala/fasthttp"
)

// scenario is one way to load a shop.
type scenario struct {
	name, does, tells string
	example           string
	flags             []string // names of the numbers that it takes, and limit
	defaults, small   options
	needs             []string // settings that the others do without, without the prefix
	run               func(ctx context.Context, b *bench) error
}

// scenarios is the table of all of them, in the order of the page.
var scenarios = []scenario{
	{
		name: "spread", does: "many products, one in each cart: what a shop is like on most days",
		tells:    "Carts are filled, which is measured as adds, and then checked out. Each buyer asks again when\nanswered; with --rate, checkouts are due at fixed times instead.",
		example:  "--buyers 64 --checkouts 5000",
		flags:    []string{"buyers", "rate", "checkouts", "seconds", "warmup", "products", "floor"},
		defaults: options{buyers: 256, checkouts: 20_000, warmup: 2, products: 10_000},
		small:    options{buyers: 8, checkouts: 40, products: 10},
		run:      func(ctx context.Context, b *bench) error { return b.sale(ctx, "", b.products) },
	},
	{
		name: "hot", does: "everybody buys the same product",
		tells:    "As spread, with every cart wanting the one row of stock.",
		example:  "--rate 500 --seconds 30",
		flags:    []string{"buyers", "rate", "checkouts", "seconds", "warmup", "floor"},
		defaults: options{buyers: 256, checkouts: 20_000, warmup: 2, products: 1},
		small:    options{buyers: 8, checkouts: 40, products: 1},
		run:      func(ctx context.Context, b *bench) error { return b.sale(ctx, "", 1) },
	},
	{
		name: "flash", does: "a flash sale: far more buyers than units of one product",
		tells:    "Tells how many were sold, how long it took to sell out, and how quickly the others were told no.",
		example:  "--stock 100 --checkouts 2000",
		flags:    []string{"buyers", "checkouts", "stock"},
		defaults: options{buyers: 256, checkouts: 20_000, stock: 1000},
		small:    options{buyers: 8, checkouts: 60, stock: 20},
		run:      flash,
	},
	{
		name: "mixed", does: "ten adds for each checkout, carts of 1 to 5 lines, one in ten refused",
		tells:    "Of twenty checkouts, one is declined by the payment provider and one finds a product sold out.",
		example:  "--checkouts 5000",
		flags:    []string{"buyers", "rate", "checkouts", "seconds", "warmup", "products"},
		defaults: options{buyers: 256, checkouts: 5000, warmup: 2, products: 1000},
		small:    options{buyers: 8, checkouts: 40, products: 20},
		run:      mixed,
	},
	{
		name: "ladder", does: "a rate that is raised until the shop cannot follow: where its knee is",
		tells:    "An open loop: requests are due at fixed times, and the next step begins when the shop has finished the last.",
		example:  "--rate 1000 --step 250 --limit 60ms",
		flags:    []string{"rate", "step", "seconds", "warmup", "products", "limit"},
		defaults: options{buyers: fillHands, rate: 250, step: 250, seconds: 10, warmup: 2, products: 10_000, limit: 60 * time.Millisecond},
		small:    options{buyers: 8, rate: 20, step: 20, seconds: 1, products: 10, limit: 5 * time.Second},
		run:      ladder,
	},
	{
		name: "growth", does: "the same load before and after millions of finished orders are put into the databases",
		tells:    "The orders stay, so use a shop that can be thrown away. Five million take about ten minutes and 10 GB.",
		example:  "--rows 100000",
		flags:    []string{"buyers", "rate", "checkouts", "seconds", "warmup", "products", "rows"},
		defaults: options{buyers: 256, checkouts: 20_000, warmup: 2, products: 10_000, rows: 5_000_000},
		small:    options{buyers: 8, checkouts: 40, products: 10, rows: 3000},
		needs:    []string{"ADMIN_DSN"},
		run:      growth,
	},
	{
		name: "backlog", does: "checkouts are queued while the workers are paused, and worked off",
		tells:    "Tells how deep the queue was and how long it took to drain.",
		example:  "--jobs 5000",
		flags:    []string{"buyers", "jobs", "products"},
		defaults: options{buyers: 256, jobs: 200_000, products: 10_000},
		small:    options{buyers: 8, jobs: 60, products: 10},
		needs:    []string{"ADMIN_DSN", "AMQP_URL"},
		run:      backlog,
	},
}

// takes tells whether a scenario has a flag.
func (s scenario) takes(flag string) bool { return slices.Contains(s.flags, flag) }

func (s scenario) numbers() (all []number) {
	for _, n := range numbers {
		if s.takes(n.name) {
			all = append(all, n)
		}
	}
	return all
}

// missing is a setting that a scenario needs and was not given.
func (s scenario) missing(set Settings, o options) string {
	given := map[string]string{"ADMIN_DSN": set.AdminDSN, "AMQP_URL": set.AMQPURL}
	needs := s.needs
	if o.floor {
		needs = []string{"ADMIN_DSN", "AMQP_URL"}
	}
	for _, name := range needs {
		if given[name] == "" {
			return name
		}
	}
	return ""
}

// sale shelves products, fills carts with one unit each, and checks them out. when tells several
// sales of one run apart.
func (b *bench) sale(ctx context.Context, when string, products int) error {
	if len(b.received) == 0 {
		if err := b.shelve(ctx, products, plenty); err != nil {
			return err
		}
	}
	warm, n := b.warmCarts(), b.checkouts
	from := b.newCarts(warm + n)
	lines := make([]line, warm+n)
	for i := range lines {
		lines[i] = line{from + i, (from + i) % products}
	}
	if _, err := b.fill(ctx, "carts to warm up with", lines[:warm], b.buyers); err != nil {
		return err
	}
	_, err := b.phase(ctx, "adds"+when, func() (Measure, error) {
		r, err := b.fill(ctx, "adds", lines[warm:], b.buyers)
		return b.gen.answers.measure("adds"+when, r.samples, r.took), err
	})
	if err != nil {
		return err
	}
	if err := b.warmUp(ctx, from, warm); err != nil {
		return err
	}
	_, err = b.phase(ctx, "checkouts"+when, func() (Measure, error) {
		r, err := b.buy(ctx, b.timed(load{what: "checkouts", n: n}), from+warm)
		return b.offered(b.gen.answers.measure("checkouts"+when, r.samples, r.took)), err
	})
	return err
}

// timed gives a load of checkouts the run's buyers or rate, and its end.
func (b *bench) timed(l load) load {
	l.hands, l.rate, l.until = b.buyers, b.rate, time.Duration(b.seconds)*time.Second
	if b.rate > 0 {
		l.hands = handsMax
	}
	return l
}

func (b *bench) offered(m Measure) Measure {
	m.Offered = b.rate
	return m
}

// warmUp checks out the carts that do not count, for as long as was asked for.
func (b *bench) warmUp(ctx context.Context, from, n int) error {
	l := b.timed(load{what: "warming up", n: n})
	l.until = time.Duration(b.warmup) * time.Second
	if _, err := b.buy(ctx, l, from); err != nil {
		return err
	}
	return b.quiet(ctx)
}

// phase watches the shop's processes while something is measured and until the shop has finished
// what that left it to do, and adds it to the report.
func (b *bench) phase(ctx context.Context, name string, do func() (Measure, error)) (Measure, error) {
	w, err := b.inside.watch(ctx)
	if err != nil {
		return Measure{}, err
	}
	defer w.close()
	m, err := do()
	if err != nil {
		return m, err
	}
	if err := b.quiet(ctx); err != nil {
		return m, err
	}
	costs, batches, err := w.end(ctx, m.Requests)
	if err != nil {
		return m, fmt.Errorf("%s: %w", name, err)
	}
	b.report.Phases = append(b.report.Phases, Phase{m, costs, batches})
	return m, nil
}

const (
	addsEach    = 10 // adds for each checkout
	linesMax    = 5  // of a cart
	twenty      = 20 // of so many checkouts, one is declined and one finds something sold out
	theDeclined = 7  // which of the twenty
	theSoldOut  = 13
)

// mixed lets browsers fill carts that nobody buys, while others check theirs out.
func mixed(ctx context.Context, b *bench) error {
	if err := b.shelve(ctx, b.products+1, plenty); err != nil {
		return err
	}
	warm := b.warmCarts()
	from := b.newCarts(warm + b.checkouts)
	var lines []line
	for cart := from; cart < from+warm+b.checkouts; cart++ {
		for k := range min(1+cart%linesMax, b.products) {
			lines = append(lines, line{cart, (cart*linesMax + k) % b.products})
		}
		if cart%twenty == theSoldOut {
			lines = append(lines, line{cart, b.products})
		}
	}
	if _, err := b.fill(ctx, "carts", lines, b.buyers); err != nil {
		return err
	}
	if err := b.sellOut(b.products); err != nil {
		return err
	}
	if _, err := b.mix(ctx, "warming up", from, warm, time.Duration(b.warmup)*time.Second); err != nil {
		return err
	}
	var adds Measure
	checkouts, err := b.phase(ctx, "checkouts", func() (Measure, error) {
		r, err := b.mix(ctx, "adds and checkouts", from+warm, b.checkouts, time.Duration(b.seconds)*time.Second)
		a, c := unmix(r.samples)
		adds = b.gen.answers.measure("adds", a, r.took)
		return b.offered(b.gen.answers.measure("checkouts", c, r.took)), err
	})
	b.report.note("What a checkout cost here includes its %d adds.", addsEach)
	b.report.fact("adds for each checkout", float64(adds.Requests)/float64(max(1, checkouts.Requests)), "")
	b.report.Phases = append([]Phase{{Measure: adds}}, b.report.Phases...)
	return err
}

// sellOut takes all of a product off the shelf.
func (b *bench) sellOut(p int) error {
	product := b.product(p)
	body := fmt.Appendf(nil, `{"delta":%d}`, -b.received[product])
	code, said, err := b.gen.one(func(r *fasthttp.Request) {
		b.staff(r, "POST", "/v1/products/"+product+"/stock", "sold-out", body)
	})
	if err == nil && code != fasthttp.StatusOK {
		err = fmt.Errorf("stock: answered %d %s", code, said)
	}
	b.received[product] = 0
	return err
}

// mix checks n carts out, from number from on, with addsEach adds before each checkout.
func (b *bench) mix(ctx context.Context, what string, from, n int, until time.Duration) (result, error) {
	l := b.timed(load{what: what, n: n * (addsEach + 1), ask: func(i int, r *fasthttp.Request) {
		cart, turn := from+i/(addsEach+1), i%(addsEach+1)
		if turn < addsEach {
			browser := fmt.Sprintf("%s-b%d-%d", b.run, cart, turn/linesMax)
			b.add(r, browser, b.product((cart+turn)%b.products))
			return
		}
		method := ""
		if cart%twenty == theDeclined {
			method = "tok_declined"
		}
		b.checkOut(r, cart, method)
	}})
	l.rate, l.until = l.rate*(addsEach+1), until
	r, err := b.gen.run(ctx, l)
	_, checkouts := unmix(r.samples)
	for i, s := range checkouts {
		b.told[from+i] = s.answer
	}
	return r, err
}

func unmix(samples []sample) (adds, checkouts []sample) {
	for i, s := range samples {
		if i%(addsEach+1) == addsEach {
			checkouts = append(checkouts, s)
		} else {
			adds = append(adds, s)
		}
	}
	return adds, checkouts
}
