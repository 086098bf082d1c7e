package groupcommit

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Observer is told of each flush how many calls shared it and how long it took.
type Observer func(calls int, took time.Duration)

// Metrics shows how well concurrent calls are gathered, by group: groupcommit_batch_size and
// groupcommit_flush_seconds.
type Metrics struct {
	sizes, seconds *prometheus.HistogramVec
}

// NewMetrics registers the metrics. A process needs one for all of its groups.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		sizes: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "groupcommit_batch_size",
			Help:    "Calls that shared one flush, by group.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 9), // 1 to 256, the most that a batch takes by default
		}, []string{"group"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "groupcommit_flush_seconds",
			Help:    "Time that a flush took, by group.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14), // 0.5 ms to 4 s
		}, []string{"group"}),
	}
	reg.MustRegister(m.sizes, m.seconds)
	return m
}

// Of is the observer of one group, for its Options.
func (m *Metrics) Of(group string) Observer {
	sizes, seconds := m.sizes.WithLabelValues(group), m.seconds.WithLabelValues(group)
	return func(calls int, took time.Duration) {
		sizes.Observe(float64(calls))
		seconds.Observe(took.Seconds())
	}
}
