package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// documentFlag tells whether the arguments ask for the page of all scenarios.
func documentFlag(arg string) bool {
	name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
	return strings.HasPrefix(arg, "-") && name == "document"
}

const documentUsage = "want --document page.md [--small] (see cartwright bench --help)"

// runDocument runs all scenarios, beside the floor those that can be, and writes the page, with its plots in a folder of the page's
// name beside it. Nothing is written when one of them cannot be run.
func (c Command) runDocument(ctx context.Context, args []string) error {
	_, page, joined := strings.Cut(args[0], "=")
	rest := args[1:]
	if !joined && len(rest) > 0 {
		page, rest = rest[0], rest[1:]
	}
	small := len(rest) == 1 && rest[0] == "--small"
	if page == "" || strings.HasPrefix(page, "-") || len(rest) > 0 && !small {
		return errors.New(documentUsage)
	}
	var reports []*Report
	for _, s := range scenarios {
		o, err := parseOptions(s, rest)
		if err != nil {
			return err
		}
		o.floor = s.takes("floor")
		fmt.Fprintf(c.Err, "%s: %s\n", s.name, s.does)
		r, err := c.report(ctx, s, o)
		if err != nil {
			return fmt.Errorf("bench %s: %w", s.name, err)
		}
		reports = append(reports, r)
	}
	return writePage(page, "./setup.sh bench "+strings.Join(args, " "), reports)
}

// writePage writes the page and its plots. Errors: ErrWrong, when the page says so too.
func writePage(page, command string, reports []*Report) error {
	folder := strings.TrimSuffix(page, filepath.Ext(page))
	var text strings.Builder
	text.WriteString(pageHead(command, reports[0]))
	var wrong []error
	for _, r := range reports {
		plots, err := r.plot(folder)
		if err != nil {
			return err
		}
		r.markdown(&text, filepath.Base(folder), plots)
		wrong = append(wrong, r.wrong())
	}
	if err := os.WriteFile(page, []byte(text.String()), 0o644); err != nil {
		return err
	}
	return errors.Join(wrong...)
}

func pageHead(command string, first *Report) string {
	m := first.Machine
	return fmt.Sprintf(`# Benchmark

Written by `+"`%s`"+` on %s. The load comes from one process on the machine that
the whole shop runs on, its database and its broker included. Each figure is got again by the command above its table, on a
shop with nothing else to do. Latencies are in milliseconds, from when a request was sent, and with `+"`--rate`"+` from when it
was due. A run ends with a look into the books: what was sold beyond the stock, ordered or charged twice, or lost must be 0.

| | |
|---|---|
| processor | %s, %d cores |
| memory | %.1f GB |
| kernel | Linux %s |
| database | %s |
| broker | %s |
| Go | %s |
| commit | %s |
`, command, first.Began.Format(time.DateOnly), m.CPU, m.Cores, m.MemoryGB, m.Kernel, m.Database, m.Broker, m.Go, m.Commit)
}

// markdown writes the section of one scenario.
func (r *Report) markdown(w *strings.Builder, folder string, plots []string) {
	fmt.Fprintf(w, "\n## %s\n\n%s.\n\n```sh\n%s\n```\n", r.Scenario, strings.ToUpper(r.Does[:1])+r.Does[1:], r.Command)
	for _, t := range []table{r.measures(), r.answers(), r.costs(), r.batches()} {
		t.markdown(w)
	}
	if len(r.Facts) > 0 {
		fmt.Fprintln(w)
		for _, f := range r.Facts {
			fmt.Fprintf(w, "- %s: %s\n", f.Name, f)
		}
	}
	fmt.Fprintf(w, "\n```\n%s\n%s```\n", r.Books.words(), indented(r.Books.Differences))
	for _, n := range r.Notes {
		fmt.Fprintf(w, "\n%s\n", n)
	}
	for _, p := range plots {
		fmt.Fprintf(w, "\n![%s](%s/%s)\n", strings.TrimSuffix(p, ".svg"), folder, p)
	}
}

func indented(lines []string) string {
	text := ""
	for _, l := range lines {
		text += "  " + l + "\n"
	}
	return text
}

func (t table) markdown(w *strings.Builder) {
	if len(t.rows) == 0 {
		return
	}
	fmt.Fprintf(w, "\n| %s |\n|%s\n", strings.Join(t.head, " | "), strings.Repeat("---|", len(t.head)))
	for _, row := range t.rows {
		fmt.Fprintf(w, "| %s |\n", strings.Join(row, " | "))
	}
}
