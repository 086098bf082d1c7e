package bench

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"cartwright/stage"
)

func named(t *testing.T, name string) scenario {
	t.Helper()
	for _, s := range scenarios {
		if s.name == name {
			return s
		}
	}
	t.Fatalf("there is no scenario %s", name)
	return scenario{}
}

func TestEveryFaultOfTheFlagsIsTold(t *testing.T) {
	t.Parallel()
	_, err := parseOptions(named(t, "ladder"), []string{"--rate", "0", "--step", "-1", "--limit", "1h", "--products", "1000000"})
	if err == nil {
		t.Fatal("all of it was taken")
	}
	for _, want := range []string{"--rate is 0, want at least 1", "--step is -1, want 1 to 50000", "--limit is 1h0m0s, want 1ms to 30s", "--products is 1000000, want 1 to 100000"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
	if _, err := parseOptions(named(t, "hot"), []string{"--rate", "10000", "--seconds", "3600"}); err == nil || !strings.Contains(err.Error(), "makes 36000000 checkouts") {
		t.Errorf("a year's load: %v", err)
	}
	for _, args := range [][]string{{"--rows", "5"}, {"--buyers", "many"}, {"more"}} {
		if _, err := parseOptions(named(t, "spread"), args); err == nil || !strings.Contains(err.Error(), "--help") {
			t.Errorf("%v: %v", args, err)
		}
	}
}

// The command line that a report tells makes the same run again.
func TestTheCommandOfARunMakesItAgain(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ scenario, args, want string }{
		{"spread", "", "./setup.sh bench spread"},
		{"spread", "--small --buyers 3", "./setup.sh bench spread --small --buyers 3"},
		{"hot", "--rate 500", "./setup.sh bench hot --rate 500 --seconds 10"},
		{"ladder", "--limit 100ms --seconds 5", "./setup.sh bench ladder --seconds 5 --limit 100ms"},
	} {
		s := named(t, c.scenario)
		o, err := parseOptions(s, strings.Fields(c.args))
		if err != nil {
			t.Fatal(err)
		}
		if got := o.command(s); got != c.want {
			t.Errorf("%s %s is told as %s, want %s", c.scenario, c.args, got, c.want)
		}
		again, err := parseOptions(s, strings.Fields(o.command(s))[3:])
		if err != nil || again != o {
			t.Errorf("%s makes %+v, want %+v (error %v)", o.command(s), again, o, err)
		}
	}
}

func TestAnOpenLoopMakesWhatIsDue(t *testing.T) {
	t.Parallel()
	o, err := parseOptions(named(t, "hot"), []string{"--rate", "300", "--seconds", "4", "--warmup", "2"})
	if err != nil || o.checkouts != 1200 || o.warmCarts() != 600 {
		t.Errorf("%d checkouts and %d to warm up with, error %v", o.checkouts, o.warmCarts(), err)
	}
	if o := named(t, "hot").defaults; o.warmCarts() != o.checkouts/10 {
		t.Errorf("a closed loop warms up with %d of %d", o.warmCarts(), o.checkouts)
	}
}

// Every scenario has its own words, an example that is taken, and defaults within the limits.
func TestEveryScenarioIsComplete(t *testing.T) {
	t.Parallel()
	for _, s := range scenarios {
		for _, args := range [][]string{nil, {"--small"}, strings.Fields(s.example)} {
			if _, err := parseOptions(s, args); err != nil {
				t.Errorf("%s %v: %v", s.name, args, err)
			}
		}
		var out strings.Builder
		c := Command{Out: &out}
		if err := c.Run(t.Context(), []string{s.name, "--help"}); err != nil {
			t.Error(err)
		}
		for _, flag := range append(s.flags, "small", "json", "plot", "Example: cartwright bench "+s.name+" "+s.example) {
			if !strings.Contains(out.String(), flag) {
				t.Errorf("the help of %s does not name %s", s.name, flag)
			}
		}
	}
}

func TestWhatCannotBeRunSaysWhy(t *testing.T) {
	t.Parallel()
	nobody := []string{"CARTWRIGHT_URL=http://127.0.0.1:1", "CARTWRIGHT_STAFF_KEY=staff", "CARTWRIGHT_MYSQL_DSN=reader@tcp(127.0.0.1:1)/"}
	for _, c := range []struct {
		args    string
		environ []string
		want    string
	}{
		{"boxing-day", nobody, `there is no scenario "boxing-day"; there are spread, hot`},
		{"hot", nobody[:1], "CARTWRIGHT_STAFF_KEY is not set"},
		{"hot", nobody, "the shop at http://127.0.0.1:1 does not answer"},
		{"hot", append(nobody, "CARTWRIGHT_URL=shop"), "CARTWRIGHT_URL is"},
		{"growth", nobody, "CARTWRIGHT_ADMIN_DSN is not set"},
		{"backlog", nobody, "CARTWRIGHT_ADMIN_DSN is not set"},
		{"--document", nobody, "want --document page.md"},
		{"--document page.md --rows 5", nobody, "want --document page.md"},
		{"--document page.md", nobody, "bench spread: CARTWRIGHT_ADMIN_DSN is not set"},
	} {
		command := Command{Out: io.Discard, Err: io.Discard, Environ: c.environ, Processes: func() ([]stage.Process, error) { return nil, nil }}
		err := command.Run(t.Context(), strings.Fields(c.args))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.args, err, c.want)
		}
	}
}

func TestAnotherShopsProcessesAreNotShown(t *testing.T) {
	t.Parallel()
	running := []stage.Process{{Service: "gateway", PID: 1, Listen: "127.0.0.1:5003"}, {Service: "mariadb", PID: 2}}
	if seen := ofThisShop(running, "127.0.0.1:5003"); len(seen) != 3 || seen[2].Service != generatorName {
		t.Errorf("of this shop %v are seen", seen)
	}
	if seen := ofThisShop(running, "127.0.0.1:6003"); seen != nil {
		t.Errorf("of another shop %v are seen", seen)
	}
}

// The gateway answers 202 long before anybody stops waiting for an answer.
func TestNobodyWaitsLongerThanTheHistogramKnows(t *testing.T) {
	t.Parallel()
	a := newAnswers("run")
	m := a.measure("x", []sample{{took: time.Hour, answer: success}, {took: time.Millisecond, answer: success}, {}}, time.Second)
	if m.Requests != 2 || m.Max < float64(answerTimeout/time.Millisecond) || m.Rate != 2 {
		t.Errorf("measured %+v", m)
	}
	if err := (&Report{}).wrong(); err != nil {
		t.Errorf("nothing is wrong, and told is %v", err)
	}
	if err := (&Report{Books: Books{Lost: 1}}).wrong(); !errors.Is(err, ErrWrong) {
		t.Errorf("an order is lost, and told is %v", err)
	}
}
