package gateway

import "github.com/prometheus/client_golang/prometheus"

// metrics of a gateway.
type metrics struct {
	requests *prometheus.HistogramVec
	dropped  *prometheus.CounterVec
	waiting  prometheus.Gauge
	early    *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "http_requests_seconds", Help: "Time that requests took, by method, route and status.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60},
		}, []string{"method", "route", "status"}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "answers_dropped_total", Help: "Answers that were given to nobody, by reason (nobody waits, other job, undecodable).",
		}, []string{"reason"}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "answers_awaited", Help: "Requests that wait for the answer to their job now.",
		}),
		early: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "early_refusals_total", Help: "Requests that were refused without a job because the product is sold out, by the kind of job.",
		}, []string{"kind"}),
	}
	reg.MustRegister(m.requests, m.dropped, m.waiting, m.early)
	return m
}
