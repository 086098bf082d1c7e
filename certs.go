package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"cartwright/access"
	"cartwright/internal/identity"
	"cartwright/internal/settings"
)

const certsHelp = `
Usage: cartwright certs [flag ...]

Makes a private authority and the certificates with which services and people know each other,
and the list of those that are let in, allowed.txt. Run again, it makes only what is missing or
has less than a third of its time left. Running services read the new files within seconds.

  --dir directory     where they are; CARTWRIGHT_TLS_DIR, or .cartwright/certs without one
  --ca-dir directory  where the authority's own key is, which no service needs; --dir without it
  --days number       how long a certificate is good, 1 to 825; 90
  --host name         a host name or address on the services' certificates beside localhost, for
                      other tools: Cartwright's own clients go by the service; may be repeated
  --owner name=uid    the number of the user who alone can read that key, where services run as
                      different users; takes root; may be repeated
  --renew name        makes one anew and refuses the old; also one that was taken off the list;
                      may be repeated
  --list              shows what there is, and changes nothing

To take a certificate back, remove its line from allowed.txt.

Besides the services there are two people: operator may call everything, observer may ask
everything. grpcurl takes -cacert ca.crt -cert operator.crt -key operator.key.
`

const (
	certDays    = 90
	certDaysMax = 825 // beyond that, many TLS clients refuse a certificate
	day         = 24 * time.Hour
)

var hostShape = regexp.MustCompile(`^[A-Za-z0-9:]([A-Za-z0-9.:-]{0,251}[A-Za-z0-9])?$`)

// certs makes the command that makes certificates, in dir unless it is told otherwise.
func certs(out io.Writer, dir string) func(context.Context, []string) error {
	return func(_ context.Context, args []string) error {
		owners := map[string]int{}
		authority, days, renew, list := identity.Authority{Dir: dir, Owners: owners}, certDays, []string(nil), false
		if chosen := os.Getenv(settings.Prefix + "TLS_DIR"); chosen != "" {
			authority.Dir = chosen
		}
		flags := flag.NewFlagSet("cartwright certs", flag.ContinueOnError)
		flags.SetOutput(io.Discard) // its own idea of a usage
		flags.StringVar(&authority.Dir, "dir", authority.Dir, "")
		flags.StringVar(&authority.KeyDir, "ca-dir", "", "")
		flags.IntVar(&days, "days", days, "")
		flags.BoolVar(&list, "list", false, "")
		flags.Func("renew", "", func(name string) error { renew = append(renew, name); return nil })
		flags.Func("owner", "", func(given string) error {
			name, number, _ := strings.Cut(given, "=")
			uid, err := strconv.ParseUint(number, 10, 31)
			if err != nil {
				return fmt.Errorf("want name=uid, such as gateway=1001")
			}
			owners[name] = int(uid)
			return nil
		})
		flags.Func("host", "", func(host string) error {
			if !hostShape.MatchString(host) {
				return fmt.Errorf("it is no host name or address")
			}
			authority.Hosts = append(authority.Hosts, host)
			return nil
		})
		if slices.ContainsFunc(args, func(a string) bool { return a == "-h" || a == "-help" || a == "--help" }) {
			fmt.Fprintln(out, strings.TrimSpace(certsHelp))
			return flag.ErrHelp
		}
		if err := flags.Parse(args); err != nil {
			return fmt.Errorf("%w (see cartwright certs --help)", err)
		}
		switch {
		case flags.NArg() > 0:
			return fmt.Errorf("unknown argument %q (see cartwright certs --help)", flags.Arg(0))
		case days < 1 || days > certDaysMax:
			return fmt.Errorf("--days is %d, want 1 to %d", days, certDaysMax)
		case authority.Dir == "":
			return fmt.Errorf("--dir is empty")
		}
		authority.Life = time.Duration(days) * day
		if list {
			states, err := authority.States(access.Subjects())
			return orTable(out, states, err)
		}
		states, err := authority.Ensure(access.Subjects(), renew)
		return orTable(out, states, err)
	}
}

// orTable prints how it stands with each certificate, unless there is an error.
func orTable(out io.Writer, states []identity.State, err error) error {
	if err != nil {
		return fmt.Errorf("certs: %w", err)
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tSERIAL\tUNTIL\tSTATE")
	for _, s := range states {
		until := "-"
		if !s.Until.IsZero() {
			until = s.Until.UTC().Format(time.DateOnly)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", s.Name, s.Serial, until, word(s))
	}
	return table.Flush()
}

func word(s identity.State) string {
	switch {
	case s.Made:
		return "made"
	case s.Serial != "" && !s.Listed:
		return "taken off the list; --renew " + s.Name + " makes a new one"
	case s.Fault != "":
		return s.Fault
	}
	return "good"
}
