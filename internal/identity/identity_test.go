package identity

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

var (
	clerk  = Subject{Name: "clerk"}
	visit  = Subject{Name: "visitor", Person: true}
	both   = []Subject{clerk, visit}
	ninety = 90 * 24 * time.Hour
)

func ensure(t *testing.T, a Authority, renew ...string) []State {
	t.Helper()
	states, err := a.Ensure(both, renew)
	if err != nil {
		t.Fatal(err)
	}
	return states
}

func made(states []State) (names []string) {
	for _, s := range states {
		if s.Made {
			names = append(names, s.Name)
		}
	}
	return names
}

func (a Authority) listed(t *testing.T) (serials []string) {
	t.Helper()
	lines, err := a.lines()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range lines {
		serials = append(serials, l.serial)
	}
	return serials
}

func TestASecondRunMakesNothing(t *testing.T) {
	t.Parallel()
	a := Authority{Dir: filepath.Join(t.TempDir(), "certs"), Life: ninety}
	first := ensure(t, a)
	if !slices.Equal(made(first), []string{"clerk", "visitor"}) {
		t.Errorf("made %q", made(first))
	}
	second := ensure(t, a)
	if len(made(second)) > 0 || second[0].Serial != first[0].Serial || !second[0].Listed || second[0].Fault != "" {
		t.Errorf("the second run: %+v", second)
	}
	files, err := os.ReadDir(a.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(f.Name(), keySuffix) && info.Mode().Perm() != 0o600 { // X6
			t.Errorf("%s has mode %s", f.Name(), info.Mode())
		}
	}
}

// X6: where services run as different users, each can read its own key and no other's, also one
// that was made before that was so.
func TestAKeyIsGivenToItsOwner(t *testing.T) {
	t.Parallel()
	owner := os.Getuid()
	if owner == 0 {
		owner = 65501
	}
	a := Authority{Dir: t.TempDir(), Life: ninety}
	ensure(t, a)
	for _, renew := range [][]string{nil, {"clerk"}} {
		a.Owners = map[string]int{"clerk": owner}
		ensure(t, a, renew...)
		for file, want := range map[string]int{"clerk.key": owner, "visitor.key": os.Getuid()} {
			info, err := os.Stat(a.in(file))
			must(t, err)
			if uid := int(info.Sys().(*syscall.Stat_t).Uid); uid != want || info.Mode().Perm() != 0o600 {
				t.Errorf("renewing %q: %s belongs to %d, mode %s, want %d and 0600", renew, file, uid, info.Mode(), want)
			}
		}
	}
	a.Owners = map[string]int{"stranger": owner}
	if _, err := a.Ensure(both, nil); err == nil || !strings.Contains(err.Error(), "stranger") {
		t.Errorf("an owner of a certificate that there is not: %v", err)
	}
}

func TestWhatIsMissingBrokenForeignOrAboutToEndIsMadeAnew(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, a *Authority)
		want  []string
	}{
		{"missing", func(t *testing.T, a *Authority) { must(t, os.Remove(a.in("clerk.key"))) }, []string{"clerk"}},
		{"broken", func(t *testing.T, a *Authority) { must(t, os.WriteFile(a.in("clerk.crt"), []byte("x"), 0o600)) }, []string{"clerk"}},
		{"about to end", func(t *testing.T, a *Authority) {
			short := *a
			short.Life = 20 * time.Minute // an hour of its life is over when it is made
			ensure(t, short, "visitor")
		}, []string{"visitor"}},
		{"of another authority", func(t *testing.T, a *Authority) { must(t, os.Remove(a.in(caCert))) }, []string{"clerk", "visitor"}},
		{"without a host", func(_ *testing.T, a *Authority) { a.Hosts = []string{"clerk.example", "10.0.0.7"} }, []string{"clerk"}},
		{"another's", func(t *testing.T, a *Authority) {
			for _, suffix := range []string{certSuffix, keySuffix} {
				text, err := os.ReadFile(a.in("visitor" + suffix))
				must(t, err)
				must(t, os.WriteFile(a.in("clerk"+suffix), text, 0o600))
			}
		}, []string{"clerk"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := Authority{Dir: t.TempDir(), KeyDir: t.TempDir(), Life: ninety}
			ensure(t, a)
			c.spoil(t, &a)
			if got := made(ensure(t, a)); !slices.Equal(got, c.want) {
				t.Errorf("made %q, want %q", got, c.want)
			}
			if got := made(ensure(t, a)); len(got) > 0 {
				t.Errorf("made %q once more", got)
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// X2: taking the line out is taking the certificate back, until somebody asks for a new one.
func TestARevokedCertificateStaysRevoked(t *testing.T) {
	t.Parallel()
	a := Authority{Dir: t.TempDir(), Life: ninety}
	old := ensure(t, a)[0].Serial
	strike(t, a.Dir, old)
	if s := ensure(t, a)[0]; s.Made || s.Listed {
		t.Errorf("a run brought it back: %+v", s)
	}
	if _, err := Open(Settings{Dir: a.Dir}, "clerk", slog.New(slog.DiscardHandler)); err != nil {
		t.Errorf("a service does not start with it, and cannot wait for a new one: %v", err)
	}
	renewed := ensure(t, a, "clerk")[0]
	if !renewed.Made || renewed.Serial == old || !slices.Contains(a.listed(t), renewed.Serial) {
		t.Errorf("not renewed: %+v", renewed)
	}
}

// strike takes a certificate's line out of the list.
func strike(t *testing.T, dir, serial string) {
	t.Helper()
	path := filepath.Join(dir, allowedFile)
	text, err := os.ReadFile(path)
	must(t, err)
	lines := slices.DeleteFunc(strings.SplitAfter(string(text), "\n"), func(l string) bool { return strings.HasPrefix(l, serial+" ") })
	must(t, os.WriteFile(path, []byte(strings.Join(lines, "")), 0o600))
}

func TestRenewingByNameRefusesTheOldAndRenewingInTimeDoesNot(t *testing.T) {
	t.Parallel()
	a := Authority{Dir: t.TempDir(), Life: ninety}
	old := ensure(t, a)[0].Serial
	a.Life = 20 * time.Minute
	short := ensure(t, a, "clerk")[0].Serial
	if got := a.listed(t); slices.Contains(got, old) {
		t.Errorf("the old one is still let in: %q", got)
	}
	a.Life = ninety
	ensure(t, a)
	if got := a.listed(t); !slices.Contains(got, short) || len(got) != 3 {
		t.Errorf("the one in use is let in no more: %q", got)
	}
	if _, err := a.Ensure(both, []string{"nobody"}); err == nil {
		t.Error("renewed nobody's")
	}
}

func TestWithoutTheAuthoritysKeyNothingIsMade(t *testing.T) {
	t.Parallel()
	a := Authority{Dir: t.TempDir(), KeyDir: t.TempDir(), Life: ninety}
	ensure(t, a)
	must(t, os.Remove(a.caKey()))
	if got := made(ensure(t, a)); len(got) > 0 { // nothing is needed, so the key is not missed
		t.Errorf("made %q", got)
	}
	if _, err := a.Ensure(both, []string{"clerk"}); err == nil || !strings.Contains(err.Error(), "the authority's key is needed") {
		t.Errorf("%v", err)
	}
}

// X2: however a tool writes a serial number, it is the same one.
func TestSerialNumbersAreReadAsAnyToolPrintsThem(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"a1b2c", "0A1B2C", "0a:1b:2c", "0x0a1b2c", "00:00:0A:1B:2C", " 0A1B2C "} {
		if got, err := ParseSerial(text); err != nil || got != "a1b2c" {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "0", "00", "xyz", "-1", "1 2", strings.Repeat("f", 41)} {
		if got, err := ParseSerial(text); err == nil {
			t.Errorf("%q was taken for %q", text, got)
		}
	}
}

func TestTheListNamesTheLineThatIsWrong(t *testing.T) {
	t.Parallel()
	good, err := parseAllowed([]byte("# a comment\r\n0A1B clerk 2026-12-31 # and another\r\n\r\nff visitor\n"))
	if err != nil || len(good) != 2 || good["a1b"] != "clerk" || good["ff"] != "visitor" {
		t.Errorf("%v, %v", good, err)
	}
	for text, want := range map[string]string{
		"":                         "empty",
		"\n \n":                    "empty",
		"a1 clerk\nb2":             "line 2",
		"zz clerk":                 "line 1",
		"a1 Clerk!":                "line 1",
		"a1 clerk tomorrow":        "line 1",
		"a1 clerk 2026-12-31 more": "line 1",
		"a1 clerk\n0A1 visitor":    "clerk and to visitor",
	} {
		if _, err := parseAllowed([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q in it", text, err, want)
		}
	}
}

// opened is an identity that is looked at by hand.
func opened(t *testing.T) (*Identity, Authority, *bytes.Buffer) {
	t.Helper()
	a := Authority{Dir: t.TempDir(), Life: ninety}
	ensure(t, a)
	var log bytes.Buffer
	i, err := Open(Settings{Dir: a.Dir}, "clerk", slog.New(slog.NewTextHandler(&log, nil)))
	must(t, err)
	return i, a, &log
}

// age makes the files old enough to be believed.
func age(t *testing.T, dir string) {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, "*"))
	must(t, err)
	for _, path := range all {
		must(t, os.Chtimes(path, time.Time{}, time.Now().Add(-2*settled)))
	}
}

func TestABrokenFileKeepsTheOldOneAndIsToldOnce(t *testing.T) {
	t.Parallel()
	for _, file := range []string{allowedFile, caCert, "clerk.crt", "clerk.key"} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			i, a, log := opened(t)
			before := i.papers.Load()
			whole, err := os.ReadFile(a.in(file))
			must(t, err)
			for _, broken := range []func() error{
				func() error { return os.WriteFile(a.in(file), nil, 0o600) },
				func() error { return os.Remove(a.in(file)) },
			} {
				log.Reset()
				must(t, broken())
				age(t, a.Dir)
				for range 5 {
					i.look()
				}
				if i.papers.Load() != before {
					t.Error("the old one was given up")
				}
				if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), file) {
					t.Errorf("%d lines, want one that names %s:\n%s", n, file, log)
				}
			}
			must(t, os.WriteFile(a.in(file), whole, 0o600))
			age(t, a.Dir)
			i.look()
			if i.papers.Load() == before {
				t.Error("what was mended is not used")
			}
		})
	}
}

func TestAFileThatWasJustWrittenIsLeftAloneForAMoment(t *testing.T) {
	t.Parallel()
	i, a, _ := opened(t)
	before := i.papers.Load()
	must(t, os.WriteFile(a.in(allowedFile), []byte(allowedHeader), 0o600)) // as a slow writer leaves it
	i.look()
	if i.papers.Load() != before {
		t.Error("half a list was believed")
	}
	age(t, a.Dir)
	i.look()
	if i.papers.Load() == before || len(i.papers.Load().allowed) > 0 {
		t.Error("the list was not believed at last")
	}
}

func TestTheEndOfACertificateIsAnnouncedOnceADay(t *testing.T) {
	t.Parallel()
	i, a, log := opened(t)
	a.Life = expiryWarning / 2
	ensure(t, a, "clerk")
	age(t, a.Dir)
	for range 5 {
		i.look()
	}
	if n := strings.Count(log.String(), "ends soon"); n != 1 {
		t.Errorf("announced %d times:\n%s", n, log)
	}
}

// X4: without certificates nothing starts, and the error says what to do.
func TestCertificatesAreRequiredUnlessSomebodySaysOtherwise(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	to := slog.New(slog.NewTextHandler(&log, nil))
	for s, want := range map[Settings]string{
		{}:                                  "`cartwright certs`",
		{Dir: "/somewhere", Insecure: true}: "only one of them",
		{Dir: "/nowhere"}:                   "`cartwright certs`",
	} {
		if _, err := Open(s, "clerk", to); err == nil || !strings.Contains(err.Error(), "CARTWRIGHT_TLS_DIR") || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", s, err)
		}
	}
	a := Authority{Dir: t.TempDir(), Life: ninety}
	ensure(t, a)
	if _, err := Open(Settings{Dir: a.Dir}, "stranger", to); err == nil || !strings.Contains(err.Error(), "stranger.crt") {
		t.Errorf("one without a certificate: %v", err)
	}
	log.Reset()
	i, err := Open(Settings{Insecure: true}, "clerk", to)
	if err != nil || i.Secure() || strings.Count(log.String(), "\n") != 1 || !strings.Contains(log.String(), "level=WARN") {
		t.Errorf("the switch: %v, said: %s", err, &log)
	}
}
