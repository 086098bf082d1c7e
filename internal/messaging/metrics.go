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
		Help: "Jobs settled, by queue, kind and outcome (done, later, again, buried, isolated, returned, lost connection).",
	}, []string{"queue", "kind", "outcome"})}
	reg.MustRegister(m.messages)
	return m
}

// settled counts one job. The kind of a message that was buried unread may be anything, so it
// gets one label together with all of its like.
func (m *Metrics) settled(q Queue, kind, outcome string) {
	if outcome == "buried" {
		kind = "any"
	}
	m.messages.WithLabelValues(string(q), kind, outcome).Inc()
}
