package bench

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Latencies are recorded to three digits, up to the time after which nobody waits any longer.
const (
	latencyMin    = int64(time.Microsecond)
	latencyMax    = int64(2 * answerTimeout)
	latencyDigits = 3
)

// Measure is how one load went. Latencies are in milliseconds; in an open loop they count from the
// time a request was due, so that a shop that stalls cannot hide it.
type Measure struct {
	Name     string         `json:"name"`
	Offered  int            `json:"offered,omitempty"` // a second, in an open loop
	Requests int            `json:"requests"`
	Seconds  float64        `json:"seconds"`
	Rate     float64        `json:"rate"` // answers a second
	P50      float64        `json:"p50"`
	P90      float64        `json:"p90"`
	P99      float64        `json:"p99"`
	P999     float64        `json:"p999"`
	Max      float64        `json:"max"`
	Answers  map[string]int `json:"answers"`

	latencies *hdrhistogram.Histogram
}

// measure sums up the samples of a load that took so long. What was not asked does not count.
func (a *answers) measure(name string, samples []sample, took time.Duration) Measure {
	h := hdrhistogram.New(latencyMin, latencyMax, latencyDigits)
	m := Measure{Name: name, Seconds: took.Seconds(), Answers: map[string]int{}, latencies: h}
	for _, s := range samples {
		if s.answer == notAsked {
			continue
		}
		m.Requests++
		m.Answers[a.name(s.answer)]++
		m.Max = max(m.Max, ms(s.took))
		h.RecordValue(min(int64(s.took), latencyMax)) //nolint:errcheck // it is within the histogram's limits
	}
	if m.Requests == 0 {
		return m
	}
	m.Rate = float64(m.Requests) / max(took.Seconds(), 1e-9)
	at := func(percent float64) float64 { return ms(time.Duration(h.ValueAtQuantile(percent))) }
	m.P50, m.P90, m.P99, m.P999 = at(50), at(90), at(99), at(99.9)
	return m
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// allOK tells whether every request was answered 200.
func (m Measure) allOK() bool { return m.Answers["200"] == m.Requests }

// answered lists the answers by kind, most frequent first.
func (m Measure) answered() string { return tally(m.Answers) }

// count lists the answers of samples by kind.
func (a *answers) count(samples []sample) string {
	kinds := map[string]int{}
	for _, s := range samples {
		kinds[a.name(s.answer)]++
	}
	return tally(kinds)
}

func tally(kinds map[string]int) string {
	names := slices.SortedFunc(maps.Keys(kinds), func(a, b string) int {
		if kinds[a] != kinds[b] {
			return kinds[b] - kinds[a]
		}
		return strings.Compare(a, b)
	})
	for i, name := range names {
		names[i] = fmt.Sprintf("%d × %s", kinds[name], name)
	}
	return strings.Join(names, ", ")
}
