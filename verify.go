package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"cartwright/internal/settings"
	"cartwright/verify"
)

const verifyHelp = `
Usage: cartwright verify [--json]

Recomputes every balance of a shop, and names each row that differs. It only reads, and the shop may
run meanwhile. The exit status is 1 when something differs, and also when it could not be found out.

  --json   as JSON: agree, and findings with check, rows, and more (how many rows are not named)
`

// balances makes the command that verifies a shop.
func balances(out io.Writer) func(context.Context, []string) error {
	return func(ctx context.Context, args []string) error {
		flags := flag.NewFlagSet("cartwright verify", flag.ContinueOnError)
		flags.SetOutput(io.Discard) // its own idea of a usage
		asJSON := flags.Bool("json", false, "")
		var s verify.Settings
		if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
			fmt.Fprintf(out, "%s\n\nSettings, from the environment (each also as …_FILE, the path of a file with the value):\n\n", strings.TrimSpace(verifyHelp))
			printSettings(out, settings.Describe(&s))
			return flag.ErrHelp
		} else if err != nil {
			return fmt.Errorf("%w (see cartwright verify --help)", err)
		}
		if flags.NArg() > 0 {
			return fmt.Errorf("verify takes no arguments, got %q (see cartwright verify --help)", flags.Arg(0))
		}
		if err := settings.Load(os.Environ(), &s); err != nil {
			return err
		}
		easeCollector(ctx)
		run := verify.Run
		if *asJSON {
			run = verify.RunJSON
		}
		agree, err := run(ctx, out, s)
		if err == nil && !agree {
			return errDiffers
		}
		return err
	}
}
