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
	sizes      *groupcommit.Metrics
	operations *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		sizes: groupcommit.NewMetrics(reg),
		operations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "stock_operations_total",
			Help: "Operations decided, by verb (reserve, commit, rollback, expire, adjust) and outcome: done, or the reason why not.",
		}, []string{"verb", "outcome"}),
	}
	reg.MustRegister(m.operations, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
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
