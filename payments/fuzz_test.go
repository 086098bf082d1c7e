package payments

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"cartwright/internal/testenv"
	"cartwright/proto/paymentspb"
)

// X5: whatever is asked of the service, it says what is wrong with it.
func FuzzService(f *testing.F) {
	s := newServer(testenv.NoDatabase(f), nil, providerTest, newMetrics(prometheus.NewRegistry())) // no provider: nothing gets past the books
	charge := &paymentspb.ChargeRequest{PaymentId: "65bafcc0-4234-8f15-9209-6c4186a3af5f", OrderId: "o", AmountMinor: 4726, Currency: "EUR", Method: "tok_ok"}
	testenv.FuzzService(f, testenv.Calls{Desc: &paymentspb.Payments_ServiceDesc, Service: s}, charge,
		&paymentspb.ChargeRequest{PaymentId: "p", OrderId: "o", AmountMinor: 1, Currency: "EUR", Method: "4242424242424242"},
		&paymentspb.ChargeBatchRequest{Requests: []*paymentspb.ChargeRequest{charge, {}}},
		&paymentspb.RefundRequest{PaymentId: "p", Reason: "out_of_stock"})
}
