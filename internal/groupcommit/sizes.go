package groupcommit

import "github.com/prometheus/client_golang/prometheus"

// Sizes is the metric groupcommit_batch_size: how well concurrent calls are gathered.
type Sizes struct{ histogram *prometheus.HistogramVec }

// NewSizes registers the metric. A process needs one for all of its groups.
func NewSizes(reg prometheus.Registerer) *Sizes {
	s := &Sizes{prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "groupcommit_batch_size",
		Help:    "Calls that shared one flush, by group.",
		Buckets: prometheus.ExponentialBuckets(1, 2, 9), // 1 to 256, the most that a batch takes by default
	}, []string{"group"})}
	reg.MustRegister(s.histogram)
	return s
}

// Of is the observer of one group, for its Options.
func (s *Sizes) Of(group string) func(calls int) {
	observer := s.histogram.WithLabelValues(group)
	return func(calls int) { observer.Observe(float64(calls)) }
}
