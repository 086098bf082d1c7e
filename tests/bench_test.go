package tests

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cartwright/bench"
	"cartwright/internal/settings"
	schema "cartwright/sql"
	"cartwright/stage"
)

// benchOn is the bench as a command, told of a fleet and its processes.
func benchOn(f *fleet, out io.Writer) bench.Command {
	environ := []string{"URL=" + f.url, "STAFF_KEY=" + staffKey, "MYSQL_DSN=" + f.adminDSN, "ADMIN_DSN=" + f.adminDSN, "AMQP_URL=" + f.brokerURL, "NAMESPACE=" + f.namespace}
	for i := range environ {
		environ[i] = settings.Prefix + environ[i]
	}
	return bench.Command{Out: out, Err: io.Discard, Environ: environ, Processes: func() (all []stage.Process, err error) {
		for service := range runs {
			upper := strings.ToUpper(service)
			all = append(all, stage.Process{
				Service: service, PID: f.running[fmt.Sprint(service, "-0")].PID(),
				Listen: f.env[upper+"_LISTEN_0"], Debug: f.env[upper+"_DEBUG_LISTEN_0"],
			})
		}
		return all, nil
	}}
}

// B9: every scenario, in its small form, buys what it should, is told what the books say, and
// reports figures that can be; and one command writes the page of all of them. It is not run beside
// the others, who would be measured with it.
func TestTheBenchMeasuresAndLooksIntoTheBooks(t *testing.T) {
	f := newFleet(t, options{})
	f.benchScenarios(t)
	t.Run("floor", f.benchFloor)
	t.Run("page", f.benchPage)
	f.agrees()
	t.Run("wrong books", f.benchWrongBooks)
	t.Run("wrong key", f.benchWrongKey)
}

// B9: the floor of this machine, and which part of it the shop has reached, come out of one run.
func (f *fleet) benchFloor(t *testing.T) {
	r := f.benchUndisturbed(t, "spread", "--small", "--floor", "--json")
	facts := map[string]float64{}
	for _, fact := range r.Facts {
		facts[fact.Name] = fact.Value
	}
	before, after, part := facts["floor before"], facts["floor after"], facts["checkouts, as a part of the floor"]
	if before <= 0 || after <= 0 || math.Abs(part*(before+after)/2-r.Phases[1].Rate) > r.Phases[1].Rate/100 {
		t.Errorf("floor %f and %f, part %f, checkouts %f", before, after, part, r.Phases[1].Rate)
	}
}

func (f *fleet) benchScenarios(t *testing.T) {
	for _, c := range []struct {
		scenario              string
		phases                []string
		paid, cancelled, told int
		checks                func(t *testing.T, r bench.Report)
	}{
		{"spread", []string{"adds", "checkouts"}, 40, 0, 40, f.sawInside},
		{"hot", []string{"adds", "checkouts"}, 40, 0, 40, nil},
		{"flash", []string{"adds", "checkouts", "checkouts after the sell-out"}, 20, 40, 20, soldOut},
		{"mixed", []string{"adds", "checkouts"}, 36, 4, 36, mixedAnswers},
		{"ladder", []string{"20 checkouts/s", "40 checkouts/s"}, 60, 0, 60, knee},
		{"growth", []string{"adds before", "checkouts before", "adds after", "checkouts after"}, 80, 0, 80, f.grew},
		{"backlog", []string{"jobs queued"}, 60, 0, 0, allWaited},
	} {
		t.Run(c.scenario, func(t *testing.T) {
			plots := t.TempDir()
			r := f.benchUndisturbed(t, c.scenario, "--small", "--json", "--plot", plots)
			var names []string
			for _, p := range r.Phases {
				names = append(names, p.Name)
				if p.Requests == 0 || p.Rate <= 0 || p.P50 <= 0 || p.P50 > p.P99 || p.P99 > p.Max*1.01 || p.Max > 1000*p.Seconds+1 {
					t.Errorf("%s: figures that cannot be: %+v", p.Name, p.Measure)
				}
			}
			if fmt.Sprint(names) != fmt.Sprint(c.phases) {
				t.Errorf("phases %q, want %q", names, c.phases)
			}
			if r.Books.Paid != c.paid || r.Books.Cancelled != c.cancelled || r.Books.ToldPaid != c.told {
				t.Errorf("books %+v, want %d paid, %d cancelled, %d told so", r.Books, c.paid, c.cancelled, c.told)
			}
			if drawn, err := filepath.Glob(plots + "/*.svg"); err != nil || len(drawn) == 0 {
				t.Errorf("%d plots, error %v", len(drawn), err)
			}
			if c.checks != nil {
				c.checks(t, r)
			}
		})
	}
}

// benchUndisturbed runs the bench until every answer was a plain one: tests of other packages use the
// same broker, and for a moment it may have been too busy.
func (f *fleet) benchUndisturbed(t *testing.T, args ...string) (r bench.Report) {
	t.Helper()
	for range 3 {
		var out strings.Builder
		if err := benchOn(f, &out).Run(t.Context(), args); err != nil {
			t.Fatalf("%v\n%s", err, out.String())
		}
		r = bench.Report{}
		if err := json.Unmarshal([]byte(out.String()), &r); err != nil {
			t.Fatal(err)
		}
		if r.Books.ToldElse == 0 {
			break
		}
	}
	return r
}

// sawInside holds a report to what can be seen of a shop's processes.
func (f *fleet) sawInside(t *testing.T, r bench.Report) {
	checkouts := r.Phases[1]
	seen := map[string]bool{}
	for _, c := range checkouts.Costs {
		seen[c.Process] = c.PeakMB > 1 && c.CPUSeconds >= 0
	}
	for service := range runs {
		if !seen[service] {
			t.Errorf("%s is not among the costs: %+v", service, checkouts.Costs)
		}
	}
	groups := map[string]int{}
	for _, b := range checkouts.Batches {
		groups[b.Service] = max(groups[b.Service], b.Calls)
	}
	for _, service := range []string{"checkoutmanager", "inventory", "payments", "cartmanager"} {
		if groups[service] < checkouts.Requests {
			t.Errorf("%s gathered %d calls, want at least %d: %+v", service, groups[service], checkouts.Requests, checkouts.Batches)
		}
	}
	if !strings.Contains(r.Machine.Database, ".") || !strings.HasPrefix(r.Machine.Broker, "RabbitMQ ") {
		t.Errorf("ran on %+v", r.Machine)
	}
}

func soldOut(t *testing.T, r bench.Report) {
	if facts := fmt.Sprint(r.Facts); !strings.Contains(facts, "20 units") || !strings.Contains(facts, " s") {
		t.Errorf("facts: %s", facts)
	}
	late := r.Phases[2]
	if len(late.Answers) != 1 || late.Answers["409 … is sold out"] != late.Requests {
		t.Errorf("after the sell-out: %v", late.Answers)
	}
}

// allWaited: while a queue is paused, all of its jobs are on it.
func allWaited(t *testing.T, r bench.Report) {
	for _, f := range r.Facts {
		if strings.HasPrefix(f.Name, "of them on the queue") && f.Value == 60 {
			return
		}
	}
	t.Errorf("not all 60 jobs waited on the queue: %v", r.Facts)
}

func mixedAnswers(t *testing.T, r bench.Report) {
	adds, checkouts := r.Phases[0], r.Phases[1]
	if adds.Requests != 10*checkouts.Requests || adds.Answers["200"] != adds.Requests {
		t.Errorf("adds %v for checkouts %v", adds.Answers, checkouts.Answers)
	}
	var declined, refused int
	for answer, n := range checkouts.Answers {
		switch answer[:3] {
		case "402":
			declined += n
		case "409":
			refused += n
		}
	}
	if declined != 2 || refused != 2 {
		t.Errorf("checkouts: %v", checkouts.Answers)
	}
}

func knee(t *testing.T, r bench.Report) {
	if len(r.Facts) != 1 || r.Facts[0].Value != 40 || r.Phases[1].Offered != 40 {
		t.Errorf("facts %v of steps %+v", r.Facts, r.Phases)
	}
}

// grew holds the databases to the history that was put into them.
func (f *fleet) grew(t *testing.T, r bench.Report) {
	const rows = 3000
	for table, database := range map[string]string{
		"orders": schema.Checkouts, "order_lines": schema.Checkouts, "reservations": schema.Inventory,
		"payments": schema.Payments, "freezes": schema.Carts,
	} {
		var n int
		if err := f.database(database).QueryRow("SELECT COUNT(*) FROM " + table).Scan(&n); err != nil || n < rows+80 {
			t.Errorf("%s: %d rows, error %v", table, n, err)
		}
	}
	var spread, young int
	if err := f.database(schema.Checkouts).QueryRow(`
		SELECT COUNT(DISTINCT LEFT(order_id, 1)),
		       SUM(NOT checkout_id RLIKE '^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}$' OR checkout_id > (SELECT MIN(checkout_id) FROM orders WHERE client_id NOT LIKE ?))
		FROM   orders WHERE client_id LIKE ?`, r.Run+"-h%", r.Run+"-h%").Scan(&spread, &young); err != nil || spread != 16 || young != 0 {
		t.Errorf("the IDs of old orders begin with %d of 16 digits, and those of %d checkouts are not of the past, error %v", spread, young, err)
	}
}

// benchWrongBooks shows that a shop whose books are wrong makes the bench fail, and that the report
// says what is wrong.
func (f *fleet) benchWrongBooks(t *testing.T) {
	f.product("tea", 100, 10)
	if _, err := f.database(schema.Inventory).Exec("UPDATE stock SET on_hand = on_hand + 1 WHERE product_id = 'tea'"); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	err := benchOn(f, &out).Run(t.Context(), []string{"hot", "--small"})
	if !errors.Is(err, bench.ErrWrong) || !strings.Contains(out.String(), "product tea: on hand 11, movements add up to 10") {
		t.Errorf("error %v, report:\n%s", err, out.String())
	}
}

func (f *fleet) benchWrongKey(t *testing.T) {
	command := benchOn(f, io.Discard)
	command.Environ = append(command.Environ, settings.Prefix+"STAFF_KEY=another-key-of-the-tests")
	if err := command.Run(t.Context(), []string{"hot", "--small"}); err == nil || !strings.Contains(err.Error(), "does not take CARTWRIGHT_STAFF_KEY") {
		t.Errorf("with another key: %v", err)
	}
}

func (f *fleet) benchPage(t *testing.T) {
	page := filepath.Join(t.TempDir(), "figures.md")
	if err := benchOn(f, io.Discard).Run(t.Context(), []string{"--document", page, "--small"}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, scenario := range []string{"spread", "hot", "flash", "mixed", "ladder", "growth", "backlog"} {
		if !strings.Contains(string(text), "\n## "+scenario+"\n") || !strings.Contains(string(text), "./setup.sh bench "+scenario+" --small") {
			t.Errorf("the page has no %s:\n%s", scenario, text)
		}
		if drawn, err := filepath.Glob(filepath.Join(filepath.Dir(page), "figures", scenario+"*.svg")); err != nil || len(drawn) == 0 {
			t.Errorf("%s: %d plots, error %v", scenario, len(drawn), err)
		}
	}
	if n := strings.Count(string(text), "oversold: 0, duplicates: 0, lost: 0; all balances agree"); n != 7 {
		t.Errorf("%d of 7 runs are right", n)
	}
}
