package chaos

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"cartwright/bench"
)

// Report is what a run found out.
type Report struct {
	Seed       uint64         `json:"seed"`
	Minutes    float64        `json:"minutes"`
	Command    string         `json:"command"` // makes the run again
	Began      time.Time      `json:"began"`
	Commit     string         `json:"commit,omitempty"`
	Faults     []Happened     `json:"faults"`
	Shoppers   int            `json:"shoppers"`
	Requests   int            `json:"requests"`
	Answers    map[string]int `json:"answers"` // by what was asked, and the code; 0 is no answer
	Rest       float64        `json:"rest"`    // seconds until the shop had nothing left to do
	Books      bench.Books    `json:"books"`
	Violations []Violation    `json:"violations"`
	Folder     string         `json:"folder,omitempty"` // of what was kept
}

// Happened is a fault, and whether there was something to break.
type Happened struct {
	Fault
	Done bool   `json:"done"`
	Why  string `json:"why,omitempty"` // it was not done
}

// Injected is how often each kind of fault was done.
func (r *Report) Injected() map[string]int {
	counts := map[string]int{}
	for _, f := range r.Faults {
		if f.Done {
			counts[f.Kind]++
		}
	}
	return counts
}

// Checkouts is how many have come to an end, either way.
func (r *Report) Checkouts() int { return r.Books.Paid + r.Books.Cancelled }

// faults is how many were done, of how many kinds.
func (r *Report) faults() (done, kinds int) {
	counts := r.Injected()
	for _, n := range counts {
		done += n
	}
	return done, len(counts)
}

// wrong is ErrWrong, with what is wrong, or nil.
func (r *Report) wrong() error {
	if len(r.Violations) == 0 {
		return nil
	}
	var rules []string
	for _, v := range r.Violations {
		rules = append(rules, v.Rule)
	}
	return fmt.Errorf("chaos, seed %d: %w, against: %s (see %s)", r.Seed, ErrWrong, strings.Join(rules, "; "), r.Folder)
}

func (r *Report) write(out io.Writer, asJSON bool) error {
	if asJSON {
		return r.json(out)
	}
	return r.text(out)
}

func (r *Report) json(out io.Writer) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

func (r *Report) save(path string) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	return r.json(file)
}

func (r *Report) text(out io.Writer) error {
	done, kinds := r.faults()
	fmt.Fprintf(out, "%s\n\n", r.Command)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	counts := r.Injected()
	for _, kind := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(table, "%s\t%d\n", kind, counts[kind])
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(out, "\n%d faults of %d kinds, %d shoppers, %d requests, %d checkouts: %d paid, %d cancelled; at rest after %.1f s\n",
		done, kinds, r.Shoppers, r.Requests, r.Checkouts(), r.Books.Paid, r.Books.Cancelled, r.Rest)
	for _, asked := range slices.Sorted(maps.Keys(r.Answers)) {
		fmt.Fprintf(out, "  %s: %d\n", asked, r.Answers[asked])
	}
	if len(r.Violations) == 0 {
		_, err := fmt.Fprintln(out, "0 violations")
		return err
	}
	for _, v := range r.Violations {
		fmt.Fprintf(out, "broken: %s\n", v.Rule)
		for _, row := range v.Rows {
			fmt.Fprintf(out, "  %s\n", row)
		}
		if v.More > 0 {
			fmt.Fprintf(out, "  and %d more\n", v.More)
		}
	}
	return nil
}
