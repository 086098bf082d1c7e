package cartmanager

import "github.com/prometheus/client_golang/prometheus"

// batchSizes shows how well concurrent calls are gathered.
type batchSizes struct{ histogram *prometheus.HistogramVec }

func newBatchSizes(reg prometheus.Registerer) *batchSizes {
	s := &batchSizes{prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "groupcommit_batch_size",
		Help:    "Calls that shared one flush, by group.",
		Buckets: prometheus.ExponentialBuckets(1, 2, 9), // 1 to 256, the most that a batch takes
	}, []string{"group"})}
	reg.MustRegister(s.histogram)
	return s
}

// of is the observer of one group.
func (s *batchSizes) of(group string) func(calls int) {
	sizes := s.histogram.WithLabelValues(group)
	return func(calls int) { sizes.Observe(float64(calls)) }
}
