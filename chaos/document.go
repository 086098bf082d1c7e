package chaos

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// writePage writes the page with the totals of all runs.
func writePage(o options, args []string, reports []*Report) error {
	var w strings.Builder
	fmt.Fprintf(&w, `# Reliability

Written by `+"`cartwright chaos %s`"+` on %s, commit %s. Each run starts a shop of its own, with two of
every service that can have two, and breaks it while shoppers buy. In the end everything is healed, the shop must come to rest within
%s, and what every client was told is held to the databases and queues: nothing sold twice, charged twice or lost.

| seed | minutes | faults | kinds | requests | checkouts | paid | cancelled | at rest after | violations |
|---|---|---|---|---|---|---|---|---|---|
`, strings.Join(args, " "), reports[0].Began.Format(time.DateOnly), orUnknown(reports[0].Commit), quietLimit)
	total := map[string]int{}
	for _, r := range reports {
		done, kinds := r.faults()
		fmt.Fprintf(&w, "| %d | %g | %d | %d | %d | %d | %d | %d | %.1f s | %d |\n",
			r.Seed, r.Minutes, done, kinds, r.Requests, r.Checkouts(), r.Books.Paid, r.Books.Cancelled, r.Rest, len(r.Violations))
		for kind, n := range r.Injected() {
			total[kind] += n
		}
	}
	fmt.Fprintf(&w, "\nA run is made again by `%s`. What is broken, when and where, follows from the seed; what that does to the shop depends on the moment.\n", o.command(reports[0].Seed))
	fmt.Fprintf(&w, "\n## What was broken\n\n| fault | what it is | times |\n|---|---|---|\n")
	for _, k := range kinds() {
		fmt.Fprintf(&w, "| %s | %s | %d |\n", k.name, k.does, total[k.name])
	}
	for _, r := range reports {
		if len(r.Violations) > 0 {
			fmt.Fprintf(&w, "\n## What seed %d has found\n\n", r.Seed)
		}
		for _, v := range r.Violations {
			fmt.Fprintf(&w, "- %s: %s\n", v.Rule, strings.Join(v.Rows, "; "))
		}
	}
	return os.WriteFile(o.document, []byte(w.String()), 0o644)
}

func orUnknown(commit string) string {
	if commit == "" {
		return "unknown"
	}
	return commit
}
