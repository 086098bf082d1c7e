package bench

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func exampleReport(name string, limit time.Duration) *Report {
	a := newAnswers("run")
	var samples []sample
	for i := range 1000 {
		samples = append(samples, sample{took: time.Duration(1+i%50) * time.Millisecond, answer: success})
	}
	samples = append(samples, sample{took: 2 * time.Second, answer: a.number(409, "409 … is sold out")})
	m := a.measure("checkouts", samples, time.Second)
	m.Offered = 1000
	r := &Report{Scenario: name, Does: "buys & sells", Command: "./setup.sh bench " + name, Began: time.Unix(0, 0).UTC(), limit: limit}
	r.Phases = []Phase{{m, []Cost{{"inventory", 2, 2, 30}, {generatorName, 9, 9, 40}}, []Batch{{"inventory", "reserve", 10, 640, 64}}}, {Measure: m}}
	r.Phases[1].Offered = 2000
	r.fact("sold", 12.5, "units")
	r.note("A note.")
	return r
}

// B9: the page has every figure, the command that gets it again, and plots that can be shown.
func TestThePageHasFiguresCommandsAndPlots(t *testing.T) {
	t.Parallel()
	page := filepath.Join(t.TempDir(), "figures.md")
	if err := writePage(page, "./setup.sh bench --document figures.md", []*Report{exampleReport("hot", 0), exampleReport("ladder", time.Second)}); err != nil {
		t.Fatal(err)
	}
	text := read(t, page)
	for _, want := range []string{
		"## hot\n\nBuys & sells.\n", "./setup.sh bench hot", "| checkouts | 1001 | 1.00 | 1001 | 26.", "1000 × 200, 1 × 409 … is sold out",
		"| CPU s for 1,000 | checkouts | peak MB |", "| inventory | 2.000 | 30 |", "| all but the generator | 2.000 |", "| checkouts | inventory | reserve | 10 | 640 | 64.0 |",
		"- sold: 12.5 units", "oversold: 0, duplicates: 0, lost: 0; all balances agree", "A note.", "![hot-checkouts](figures/hot-checkouts.svg)", "![ladder](figures/ladder.svg)",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q:\n%s", want, text)
		}
	}
	for _, plot := range []string{"hot-checkouts.svg", "ladder.svg"} {
		drawing := xml.NewDecoder(strings.NewReader(read(t, filepath.Join(strings.TrimSuffix(page, ".md"), plot))))
		for {
			if _, err := drawing.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", plot, err)
			}
		}
	}
}

// A page whose shop was wrong is written, says so, and is an error.
func TestAPageOfAWrongShopSaysSo(t *testing.T) {
	t.Parallel()
	r := exampleReport("hot", 0)
	r.Books = Books{Oversold: 3, Differences: []string{"product tea: 5 came in, 8 were bought, 0 are left"}}
	page := filepath.Join(t.TempDir(), "figures.md")
	if err := writePage(page, "", []*Report{r}); !errors.Is(err, ErrWrong) {
		t.Errorf("error %v", err)
	}
	if text := read(t, page); !strings.Contains(text, "oversold: 3") || !strings.Contains(text, "8 were bought") {
		t.Errorf("the page says:\n%s", text)
	}
}

// All of the latencies are in the picture, and in the right bar.
func TestTheBarsAddUp(t *testing.T) {
	t.Parallel()
	shares, first := latencyShares(exampleReport("hot", 0).Phases[0].latencies)
	sum := 0.0
	for _, s := range shares {
		sum += s
	}
	if sum < 0.999 || sum > 1.001 || first < -1 || first > 0 || len(shares) < 39 || len(shares) > 42 || shares[len(shares)-1] == 0 {
		t.Errorf("%d bars from %d add up to %f", len(shares), first, sum)
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
