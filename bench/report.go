package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// Report is what a run found out.
type Report struct {
	Scenario string    `json:"scenario"`
	Does     string    `json:"does"`
	Command  string    `json:"command"` // makes the run again
	Run      string    `json:"run"`     // begins the names of all that the run made
	Began    time.Time `json:"began"`
	Machine  Machine   `json:"machine"`
	Phases   []Phase   `json:"phases"`
	Facts    []Fact    `json:"facts,omitempty"`
	Books    Books     `json:"books"`
	Notes    []string  `json:"notes,omitempty"`

	limit time.Duration // of the p99, for a ladder
}

// Phase is one load of a run, with what it cost the shop where that can be seen.
type Phase struct {
	Measure
	Costs   []Cost  `json:"costs,omitempty"`
	Batches []Batch `json:"batches,omitempty"`
}

// Fact is a figure that only this scenario has.
type Fact struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit,omitempty"`
}

func (f Fact) String() string {
	value := fmt.Sprintf("%.3f", f.Value)
	if strings.Contains(value, ".") {
		value = strings.TrimSuffix(strings.TrimRight(value, "0"), ".")
	}
	return strings.TrimSpace(value + " " + f.Unit)
}

func (r *Report) fact(name string, value float64, unit string) {
	r.Facts = append(r.Facts, Fact{name, value, unit})
}

func (r *Report) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

// phase is the phase of that name; one that there is not has no figures.
func (r *Report) phase(name string) Phase {
	for _, p := range r.Phases {
		if p.Name == name {
			return p
		}
	}
	return Phase{}
}

// wrong is ErrWrong, with what is wrong, or nil.
func (r *Report) wrong() error {
	if r.Books.right() {
		return nil
	}
	return fmt.Errorf("bench %s: %w: %d units oversold, %d duplicates, %d lost, %d other differences",
		r.Scenario, ErrWrong, r.Books.Oversold, r.Books.Duplicates, r.Books.Lost, len(r.Books.Differences))
}

func (r *Report) json(out io.Writer) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

// A table has a head and rows.
type table struct {
	head []string
	rows [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// text writes the report for a terminal.
func (r *Report) text(out io.Writer) error {
	var w strings.Builder
	fmt.Fprintf(&w, "%s: %s\n%s\n\n", r.Scenario, r.Does, r.Command)
	for _, t := range []table{r.measures(), r.answers(), r.costs(), r.batches()} {
		t.text(&w)
	}
	for _, f := range r.Facts {
		fmt.Fprintf(&w, "%s: %s\n", f.Name, f)
	}
	fmt.Fprintf(&w, "%s\n", r.Books.words())
	for _, d := range r.Books.Differences {
		fmt.Fprintf(&w, "  %s\n", d)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&w, "%s\n", n)
	}
	_, err := io.WriteString(out, w.String())
	return err
}

func (t table) text(w io.Writer) {
	if len(t.rows) == 0 {
		return
	}
	tabs := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{t.head}, t.rows...) {
		fmt.Fprintln(tabs, strings.Join(row, "\t"))
	}
	tabs.Flush()    //nolint:errcheck // it writes to memory
	fmt.Fprintln(w) //nolint:errcheck // it writes to memory
}

// words are the books in one or two lines.
func (b Books) words() string {
	agree := "all balances agree"
	if len(b.Differences) > 0 {
		agree = "these do not agree:"
	}
	return fmt.Sprintf("told: %d paid, %d accepted, %d refused, %d otherwise; orders: %d paid, %d cancelled\noversold: %d, duplicates: %d, lost: %d; %s",
		b.ToldPaid, b.ToldLater, b.ToldNo, b.ToldElse, b.Paid, b.Cancelled, b.Oversold, b.Duplicates, b.Lost, agree)
}

// measures is the table of rates and latencies.
func (r *Report) measures() table {
	t := table{head: []string{"load", "requests", "seconds", "per second", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms"}}
	for _, p := range r.Phases {
		t.add(p.Name, fmt.Sprint(p.Requests), fmt.Sprintf("%.2f", p.Seconds), fmt.Sprintf("%.0f", p.Rate),
			digits3(p.P50), digits3(p.P90), digits3(p.P99), digits3(p.P999), digits3(p.Max))
	}
	return t
}

// digits3 writes milliseconds with three digits or so.
func digits3(v float64) string {
	switch {
	case v < 10:
		return fmt.Sprintf("%.2f", v)
	case v < 100:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

func (r *Report) answers() table {
	t := table{head: []string{"load", "answers"}}
	for _, p := range r.Phases {
		t.add(p.Name, p.answered())
	}
	return t
}

// costs is the table of what each process spent, by load.
func (r *Report) costs() table {
	t, sum, watched := table{head: []string{"CPU s for 1,000"}}, []string{"all but the " + generatorName}, 0
	for _, p := range r.Phases {
		if len(p.Costs) == 0 {
			continue
		}
		all := 0.0
		for i, c := range p.Costs {
			if watched == 0 {
				t.add(c.Process)
			}
			t.rows[i] = append(t.rows[i], fmt.Sprintf("%.3f", c.PerThousand))
			if c.Process != generatorName {
				all += c.PerThousand
			}
		}
		watched++
		t.head, sum = append(t.head, p.Name), append(sum, fmt.Sprintf("%.3f", all))
	}
	if watched == 0 {
		return table{}
	}
	t.head = append(t.head, "peak MB")
	for i := range t.rows {
		t.rows[i] = append(t.rows[i], fmt.Sprintf("%.0f", r.peak(i)))
	}
	t.add(append(sum, "")...)
	return t
}

// peak is the most memory that the i-th of the processes had under any load.
func (r *Report) peak(i int) (most float64) {
	for _, p := range r.Phases {
		if i < len(p.Costs) {
			most = max(most, p.Costs[i].PeakMB)
		}
	}
	return most
}

func (r *Report) batches() table {
	t := table{head: []string{"load", "service", "group", "flushes", "calls", "calls a flush"}}
	for _, p := range r.Phases {
		for _, b := range p.Batches {
			t.add(p.Name, b.Service, b.Group, fmt.Sprint(b.Flushes), fmt.Sprint(b.Calls), fmt.Sprintf("%.1f", b.Mean))
		}
	}
	return t
}
