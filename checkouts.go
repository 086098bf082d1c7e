package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"cartwright/internal/fault"
	"cartwright/internal/identity"
	"cartwright/internal/rpc"
	"cartwright/internal/settings"
	"cartwright/proto/checkoutpb"
)

const checkoutsHelp = `
Usage: cartwright checkouts [--stuck | --older age] [--limit n]
       cartwright checkouts show   <id>
       cartwright checkouts resume <id> [--by name]
       cartwright checkouts undo   <id> [--by name]

Lists the checkouts that have not ended, the oldest first: where each is, how often it was left to be
tried again later and why the last time, and when it is looked at next. One is named by its own ID or
by its order's.

show tells all about one, with its history, also when it has ended.
resume has it looked at within a second or two, where it would have waited longer.
undo turns one round that is still on its way to being placed: what was paid is refunded, then stock
and cart are given back. What is placed, or is on its way back, is refused.
The last two are recorded in the checkout's history, with who and when.

  --stuck      only those that began more than 5 minutes ago
  --older age  only those that began at least so long ago, such as 90s or 2h; up to a year
  --limit n    how many to list, 1 to 1000; 20 unless told
  --by name    who does it, at most 64 characters; without it, the user of this system
`

const (
	// stuckAfter is longer than a checkout takes while all services answer, and longer than the usual
	// patience with those that do not.
	stuckAfter = 5 * time.Minute
	olderMax   = 365 * 24 * time.Hour
	// askTime bounds a question to the checkoutmanager.
	askTime = 10 * time.Second
)

// checkoutsSettings are those of the command checkouts.
type checkoutsSettings struct {
	TLS  identity.Settings
	Addr string `env:"CHECKOUTMANAGER_ADDR" envDefault:"127.0.0.1:9120" help:"where clients find the checkoutmanager"`
}

// checkoutOrder is what was asked for at the command line.
type checkoutOrder struct {
	verb  string // empty to list
	id    string
	by    string
	older time.Duration
	limit int
}

// checkouts makes the command that lists checkouts which have not ended, and moves them by hand.
func checkouts(out io.Writer) func(context.Context, []string) error {
	return func(ctx context.Context, args []string) error {
		if slices.ContainsFunc(args, func(a string) bool { return a == "-h" || a == "-help" || a == "--help" }) {
			fmt.Fprintf(out, "%s\n\nSettings, from the environment (each also as …_FILE, the path of a file with the value):\n\n", strings.TrimSpace(checkoutsHelp))
			printSettings(out, settings.Describe(&checkoutsSettings{}))
			return flag.ErrHelp
		}
		o, err := readCheckoutOrder(args)
		if err != nil {
			return err
		}
		return o.run(ctx, out, os.Environ())
	}
}

// readCheckoutOrder reads the arguments behind checkouts.
func readCheckoutOrder(args []string) (o checkoutOrder, err error) {
	knows := []string{"stuck", "older", "limit"}
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		o.verb, args = args[0], args[1:]
		switch o.verb {
		case "show":
			knows = nil
		case "resume", "undo":
			knows = []string{"by"}
		default:
			return o, fmt.Errorf("checkouts can show, resume and undo, not %q (see cartwright checkouts --help)", o.verb)
		}
	}
	flags := flag.NewFlagSet("cartwright checkouts", flag.ContinueOnError)
	stuck := flags.Bool("stuck", false, "")
	flags.DurationVar(&o.older, "older", 0, "")
	flags.IntVar(&o.limit, "limit", listedByDefault, "")
	flags.StringVar(&o.by, "by", "", "")
	names, given, err := parseMixed(flags, args)
	if err != nil {
		return o, fmt.Errorf("%w (see cartwright checkouts --help)", err)
	}
	for name := range given {
		if !slices.Contains(knows, name) {
			return o, fmt.Errorf("checkouts %s has no --%s (see cartwright checkouts --help)", o.verb, name)
		}
	}
	switch {
	case o.verb == "" && len(names) > 0:
		return o, fmt.Errorf("checkouts can show, resume and undo, not %q (see cartwright checkouts --help)", names[0])
	case o.verb != "" && len(names) != 1:
		return o, fmt.Errorf("name one checkout to %s, by its own ID or by its order's", o.verb)
	case *stuck && given["older"]:
		return o, errors.New("--stuck and --older both say how old: only one of them can be meant")
	case o.limit < 1 || o.limit > listedMax:
		return o, fault.InvalidField("limit", "must be 1 to %d", listedMax)
	case o.older < 0 || o.older > olderMax:
		return o, fault.InvalidField("older", "must be 0s to %s", olderMax)
	}
	if *stuck {
		o.older = stuckAfter
	}
	if o.verb != "" {
		o.id = names[0]
	}
	if slices.Contains(knows, "by") && !given["by"] {
		o.by, err = whoAmI()
	}
	return o, err
}

// run asks the checkoutmanager, as the operator.
func (o checkoutOrder) run(ctx context.Context, out io.Writer, environ []string) error {
	var s checkoutsSettings
	if err := settings.Load(environ, &s); err != nil {
		return err
	}
	self, err := identity.Open(s.TLS, "operator", slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	conn, err := rpc.Dial(s.Addr, self.Client("checkoutmanager"))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	return o.ask(ctx, out, checkoutpb.NewCheckoutsClient(conn))
}

func (o checkoutOrder) ask(ctx context.Context, out io.Writer, manager checkoutpb.CheckoutsClient) error {
	switch o.verb {
	case "show":
		told, err := manager.GetCheckout(ctx, &checkoutpb.GetCheckoutRequest{Id: o.id})
		if err != nil {
			return err
		}
		return showCheckout(out, told)
	case "resume":
		c, err := manager.ResumeCheckout(ctx, &checkoutpb.ResumeCheckoutRequest{Id: o.id, By: o.by})
		if err == nil {
			fmt.Fprintf(out, "checkout %s of order %s is %s, and due now\n", c.GetCheckoutId(), c.GetOrderId(), c.GetState())
		}
		return err
	case "undo":
		c, err := manager.UndoCheckout(ctx, &checkoutpb.UndoCheckoutRequest{Id: o.id, By: o.by})
		if err == nil {
			fmt.Fprintf(out, "checkout %s of order %s is on its way back: money first, then stock, then the cart\n", c.GetCheckoutId(), c.GetOrderId())
		}
		return err
	}
	list, err := manager.ListCheckouts(ctx, &checkoutpb.ListCheckoutsRequest{OlderThanSeconds: int64(o.older.Seconds()), Limit: int32(o.limit)})
	if err != nil {
		return err
	}
	return listCheckouts(out, list)
}

func listCheckouts(out io.Writer, list *checkoutpb.ListCheckoutsResponse) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "STATE\tBEGAN\tTRIES\tNEXT TRY\tCLIENT\tORDER\tCHECKOUT\tLAST ERROR")
	for _, c := range list.GetCheckouts() {
		fmt.Fprintf(table, "%s\t%s ago\t%d\t%s\t%s\t%s\t%s\t%s\n", c.GetState(), ageOf(time.UnixMicro(c.GetCreatedAtUs())), c.GetAttempts(),
			nextTry(c), c.GetClientId(), c.GetOrderId(), c.GetCheckoutId(), shown(c.GetLastError()))
	}
	if list.GetMore() {
		fmt.Fprintln(table, "…")
	}
	return table.Flush()
}

// nextTry says when a checkout is looked at next.
func nextTry(c *checkoutpb.Checkout) string {
	if c.GetDueAtUs() == 0 {
		return unknown
	}
	if wait := time.Until(time.UnixMicro(c.GetDueAtUs())); wait >= time.Second {
		return "in " + wait.Truncate(time.Second).String()
	}
	return "now"
}

// showCheckout prints one checkout, and what happened to it since it began.
func showCheckout(out io.Writer, told *checkoutpb.GetCheckoutResponse) error {
	c := told.GetCheckout()
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, row := range [][2]string{
		{"checkout", c.GetCheckoutId()}, {"order", c.GetOrderId()}, {"client", c.GetClientId()}, {"state", c.GetState()},
		{"reason", shown(strings.TrimPrefix(c.GetReasonCode()+": "+c.GetReason(), ": "))},
		{"total", fmt.Sprintf("%d %s", c.GetTotalMinor(), c.GetCurrency())},
		{"tries", fmt.Sprint(c.GetAttempts())}, {"last error", shown(c.GetLastError())}, {"next try", nextTry(c)},
	} {
		fmt.Fprintf(table, "%s\t%s\n", row[0], row[1])
	}
	fmt.Fprintln(table, "\nWHEN (UTC)\tWHAT\tWHO\tWHY")
	line := func(us int64, what, who, why string) {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", time.UnixMicro(us).UTC().Format(time.DateTime), what, shown(who), shown(why))
	}
	line(c.GetCreatedAtUs(), "began", "", "")
	for _, e := range told.GetHistory() {
		line(e.GetAtUs(), e.GetEvent(), e.GetBy(), e.GetNote())
	}
	if c.GetDueAtUs() == 0 {
		line(c.GetUpdatedAtUs(), c.GetState(), "", "")
	}
	return table.Flush()
}
