package bench

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	metricsTimeout = 5 * time.Second // also on a machine that is busy with the load
	metricsMax     = 4 << 20
)

// Batch is how well the calls of one group were gathered during a load.
type Batch struct {
	Service string  `json:"service"`
	Group   string  `json:"group"`
	Flushes int     `json:"flushes"`
	Calls   int     `json:"calls"`
	Mean    float64 `json:"mean"` // calls a flush
}

type batchKey struct{ service, group string }

// flushes counts flushes and the calls that shared them, since a process began.
type flushes struct{ flushes, calls float64 }

var batchMetric = regexp.MustCompile(`(?m)^groupcommit_batch_size_(sum|count)\{group="([^"]*)"\} ([0-9.e+]+)$`)

// readBatches adds up the metrics of all replicas.
func (in inside) readBatches(ctx context.Context) (map[batchKey]flushes, error) {
	all := map[batchKey]flushes{}
	for _, p := range in.processes {
		if p.Debug == "" {
			continue
		}
		text, err := readMetrics(ctx, p.Debug)
		if err != nil {
			return nil, fmt.Errorf("metrics of %s: %w", p.Service, err)
		}
		for _, m := range batchMetric.FindAllStringSubmatch(text, -1) {
			value, err := strconv.ParseFloat(m[3], 64)
			if err != nil {
				return nil, fmt.Errorf("metrics of %s: %w", p.Service, err)
			}
			key := batchKey{p.Service, m[2]}
			sum := all[key]
			if m[1] == "sum" {
				sum.calls += value
			} else {
				sum.flushes += value
			}
			all[key] = sum
		}
	}
	return all, nil
}

// batchesSince are the batches of the groups that flushed anything since before.
func (in inside) batchesSince(ctx context.Context, before map[batchKey]flushes) (all []Batch, err error) {
	after, err := in.readBatches(ctx)
	if err != nil {
		return nil, err
	}
	for key, now := range after {
		n := now.flushes - before[key].flushes
		calls := now.calls - before[key].calls
		if n > 0 {
			all = append(all, Batch{key.service, key.group, int(n), int(calls), calls / n})
		}
	}
	slices.SortFunc(all, func(a, b Batch) int { return strings.Compare(a.Service+" "+a.Group, b.Service+" "+b.Group) })
	return all, nil
}

func readMetrics(ctx context.Context, debug string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, metricsTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+debug+"/metrics", nil)
	if err != nil {
		return "", err
	}
	req.Close = true // nobody keeps the connection
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s answers %s", req.URL, resp.Status)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, metricsMax))
	return string(text), err
}
