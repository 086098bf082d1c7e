package bench

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Sizes of a plot, in pixels, and how finely latencies are told apart.
const (
	plotWidth, plotHeight = 760, 300
	plotLeft, plotRight   = 60, 20
	plotTop, plotBottom   = 34, 44
	barsEach              = 12 // for each power of ten of latency
)

// plot draws the report's figures into a folder and returns the names of the files.
func (r *Report) plot(folder string) (files []string, err error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, err
	}
	drawings := map[string]string{}
	draw := func(name, svg string) {
		name = strings.NewReplacer(" ", "-", "/", "-a-").Replace(name) + ".svg"
		files, drawings[name] = append(files, name), svg
	}
	if r.limit > 0 {
		draw(r.Scenario, drawLadder(r.Phases, r.limit))
	} else {
		for _, p := range r.Phases {
			if p.Requests > 0 {
				draw(r.Scenario+"-"+p.Name, drawLatencies(r.Scenario+": latency of "+p.Name, p.Measure))
			}
		}
	}
	for name, svg := range drawings {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(svg), 0o644); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// chart is an SVG drawing with a horizontal and a vertical axis.
type chart struct {
	strings.Builder
	x, y axis
}

// axis maps values to pixels.
type axis struct {
	from, to float64 // values
	at, end  float64 // pixels
	log      bool
}

func (a axis) pixel(v float64) float64 {
	from, to := a.from, a.to
	if a.log {
		from, to, v = math.Log10(from), math.Log10(to), math.Log10(v)
	}
	return a.at + (v-from)/(to-from)*(a.end-a.at)
}

func newChart(title, below string, x, y axis) *chart {
	x.at, x.end = plotLeft, plotWidth-plotRight
	y.at, y.end = plotHeight-plotBottom, plotTop
	c := &chart{x: x, y: y}
	fmt.Fprintf(c, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", plotWidth, plotHeight)
	fmt.Fprintf(c, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", plotWidth, plotHeight)
	c.text(plotLeft, 18, "start", title)
	c.text(plotWidth/2, plotHeight-8, "middle", below)
	return c
}

func (c *chart) text(x, y float64, anchor, words string) {
	words = strings.NewReplacer("&", "&amp;", "<", "&lt;").Replace(words)
	fmt.Fprintf(c, `<text x="%.1f" y="%.1f" text-anchor="%s">%s</text>`+"\n", x, y, anchor, words)
}

func (c *chart) line(x1, y1, x2, y2 float64, style string) {
	fmt.Fprintf(c, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" %s/>`+"\n", x1, y1, x2, y2, style)
}

const gridStyle = `stroke="#ddd"`

func (c *chart) markX(v float64, words string) {
	c.line(c.x.pixel(v), c.y.at, c.x.pixel(v), c.y.end, gridStyle)
	c.text(c.x.pixel(v), c.y.at+16, "middle", words)
}

func (c *chart) markY(v float64, words string) {
	c.line(c.x.at, c.y.pixel(v), c.x.end, c.y.pixel(v), gridStyle)
	c.text(c.x.at-6, c.y.pixel(v)+4, "end", words)
}

func (c *chart) end() string {
	c.WriteString("</svg>\n")
	return c.String()
}

// drawLatencies draws what share of the requests took how long.
func drawLatencies(title string, m Measure) string {
	shares, first := latencyShares(m.latencies)
	highest := 0.0
	for _, s := range shares {
		highest = max(highest, s)
	}
	edge := func(i int) float64 { return math.Pow(10, float64(first+i)/barsEach) }
	c := newChart(title, "milliseconds", axis{from: edge(0), to: edge(len(shares)), log: true}, axis{to: highest * 1.1})
	for decade := math.Floor(math.Log10(edge(0))); math.Pow(10, decade) <= edge(len(shares)); decade++ {
		for _, step := range []float64{1, 2, 5} {
			if v := step * math.Pow(10, decade); v >= edge(0) && v <= edge(len(shares)) {
				c.markX(v, fmt.Sprintf("%.3g", v))
			}
		}
	}
	c.markY(0, "0 %")
	c.markY(highest, fmt.Sprintf("%.0f %%", 100*highest))
	for i, s := range shares {
		left, right, top := c.x.pixel(edge(i)), c.x.pixel(edge(i+1)), c.y.pixel(s)
		fmt.Fprintf(c, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="#4a7ab5"/>`+"\n", left, top, right-left-1, c.y.at-top)
	}
	for i, v := range []float64{m.P50, m.P99, m.P999} {
		x := c.x.pixel(v)
		c.line(x, c.y.at, x, c.y.end, `stroke="#b5484a" stroke-dasharray="4 3"`)
		c.text(x-4, plotTop+float64(12*(i+1)), "end", []string{"p50", "p99", "p99.9"}[i]) // one below the other, as they may be close
	}
	return c.end()
}

// latencyShares puts latencies into bars of equal width on a logarithmic scale, from the bar with
// number first on.
func latencyShares(h *hdrhistogram.Histogram) (shares []float64, first int) {
	number := func(ns int64) int {
		return int(math.Floor(barsEach * math.Log10(float64(max(ns, latencyMin))/float64(time.Millisecond))))
	}
	first = number(h.Min())
	shares = make([]float64, max(number(h.Max()), first)-first+1)
	for _, bar := range h.Distribution() {
		if bar.Count > 0 {
			i := min(max(number(bar.From)-first, 0), len(shares)-1)
			shares[i] += float64(bar.Count) / float64(h.TotalCount())
		}
	}
	return shares, first
}

// drawLadder draws the latencies of each step, with the limit.
func drawLadder(steps []Phase, limit time.Duration) string {
	top := 2 * ms(limit) // a step far beyond must not flatten the others
	last := steps[len(steps)-1].Offered
	c := newChart("ladder: latency at each rate, in ms; p50 blue, p99 red, limit grey", "checkouts offered a second",
		axis{to: float64(last) * 1.05}, axis{to: top})
	for _, share := range []float64{0, 0.25, 0.5, 0.75, 1} {
		c.markY(share*top, fmt.Sprintf("%.3g", share*top))
	}
	for i, p := range steps {
		if i%(1+len(steps)/10) == 0 || i == len(steps)-1 {
			c.markX(float64(p.Offered), fmt.Sprint(p.Offered))
		}
	}
	middle := c.y.pixel(top / 2)
	c.line(c.x.at, middle, c.x.end, middle, `stroke="#777" stroke-dasharray="6 4"`)
	curve := func(color string, of func(Phase) float64) {
		var points []string
		for _, p := range steps {
			points = append(points, fmt.Sprintf("%.1f,%.1f", c.x.pixel(float64(p.Offered)), c.y.pixel(min(of(p), top))))
		}
		fmt.Fprintf(c, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.Join(points, " "), color)
	}
	curve("#4a7ab5", func(p Phase) float64 { return p.P50 })
	curve("#b5484a", func(p Phase) float64 { return p.P99 })
	return c.end()
}
