package payments

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"cartwright/internal/fault"
	"cartwright/internal/groupcommit"
	"cartwright/internal/money"
)

// metrics are what operators see of the money.
type metrics struct {
	sizes    *groupcommit.Metrics
	provider *prometheus.HistogramVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		sizes: groupcommit.NewMetrics(reg),
		provider: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "payment_provider_seconds",
			Help:    "Time that the payment provider took, by call and what it said.",
			Buckets: prometheus.ExponentialBuckets(0.001, 3, 10), // 1 ms to 20 s
		}, []string{"call", "answer"}),
	}
	reg.MustRegister(m.provider)
	return m
}

// timed is a provider whose calls are measured.
type timed struct {
	Provider
	seconds *prometheus.HistogramVec
}

func (t timed) Charge(ctx context.Context, c Charge) (Outcome, error) {
	began := time.Now()
	out, err := t.Provider.Charge(ctx, c)
	t.observe("charge", began, string(out.Status), err)
	return out, err
}

func (t timed) Lookup(ctx context.Context, key string) (Outcome, error) {
	began := time.Now()
	out, err := t.Provider.Lookup(ctx, key)
	t.observe("lookup", began, string(out.Status), err)
	return out, err
}

func (t timed) Cancel(ctx context.Context, key string) (Outcome, error) {
	began := time.Now()
	out, err := t.Provider.Cancel(ctx, key)
	t.observe("cancel", began, string(out.Status), err)
	return out, err
}

func (t timed) Refund(ctx context.Context, key string, amount money.Amount) error {
	began := time.Now()
	err := t.Provider.Refund(ctx, key, amount)
	t.observe("refund", began, "refunded", err)
	return err
}

func (t timed) observe(call string, began time.Time, answer string, err error) {
	if err != nil {
		answer = fault.KindOf(err).String()
	}
	t.seconds.WithLabelValues(call, answer).Observe(time.Since(began).Seconds())
}
