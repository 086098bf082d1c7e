package inventory

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"cartwright/internal/fault"
	"cartwright/internal/groupcommit"
)

// metrics counts what the service does.
type metrics struct {
	batchSize  *prometheus.HistogramVec
	operations *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		batchSize: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "groupcommit_batch_size",
			Help:    "Calls that went into one flush, by group.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 9),
		}, []string{"group"}),
		operations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "stock_operations_total",
			Help: "Operations decided, by verb (reserve, commit, rollback, expire, adjust) and outcome: done, or the reason why not.",
		}, []string{"verb", "outcome"}),
	}
	reg.MustRegister(m.batchSize, m.operations, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) batches(group string) func(int) {
	observer := m.batchSize.WithLabelValues(group)
	return func(calls int) { observer.Observe(float64(calls)) }
}

// counting counts the operations of a flush once they are saved.
func (m *metrics) counting(flush groupcommit.Flush[operation, shelf]) groupcommit.Flush[operation, shelf] {
	return func(ctx context.Context, ops []operation) ([]groupcommit.Result[shelf], error) {
		answers, err := flush(ctx, ops)
		if err != nil {
			return nil, err
		}
		for i, o := range ops {
			outcome := "done"
			if answers[i].Err != nil {
				outcome = fault.As(answers[i].Err).Code
			}
			m.operations.WithLabelValues(string(o.verb), outcome).Inc()
		}
		return answers, nil
	}
}
