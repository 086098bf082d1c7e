package messaging

import "github.com/prometheus/client_golang/prometheus"

// Metrics counts what becomes of jobs.
type Metrics struct {
	messages *prometheus.CounterVec
}

// NewMetrics registers the counters.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{messages: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "messages_settled_total",
		Help: "Jobs settled, by queue, kind and outcome (done, later, again, buried, isolated, lost connection).",
	}, []string{"queue", "kind", "outcome"})}
	reg.MustRegister(m.messages)
	return m
}

// settled counts one job. The kind of a message that could not be read may be anything, so those
// that may be such share one label.
func (m *Metrics) settled(q Queue, kind, outcome string) {
	if outcome == "buried" || outcome == "lost connection" {
		kind = "any"
	}
	m.messages.WithLabelValues(string(q), kind, outcome).Inc()
}
