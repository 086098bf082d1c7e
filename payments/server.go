package payments

import (
	"database/sql"
	"regexp"
	"time"

	"cartwright/internal/fault"
	"cartwright/internal/ids"
	"cartwright/internal/money"
	"cartwright/proto/paymentspb"
)

const (
	// chargeWait is how long one Charge waits for the provider before it answers "pending", well
	// below the 5 s that callers give it.
	chargeWait = 2 * time.Second
	// batchWait is the same for a batch, whose quick payments must not wait for its slow ones.
	batchWait = 30 * time.Millisecond
	batchMax  = 256
	// providerTime is how long the provider may take. After that its silence is an answer of its
	// own, and the next ask begins with a look at its books.
	providerTime = 10 * time.Second
)

// server is the gRPC service.
type server struct {
	paymentspb.UnimplementedPaymentsServer
	ledger   *ledger
	provider Provider
	charges  *flights[entered]

	providerName string
	chargeWait   time.Duration
	providerTime time.Duration
}

func newServer(db *sql.DB, p Provider, name string, m *metrics) *server {
	return &server{
		ledger: newLedger(db, m), provider: p, charges: newFlights[entered](),
		providerName: name, chargeWait: chargeWait, providerTime: providerTime,
	}
}

// methodShape is a provider's token. It begins with a letter, so a card number is none.
var methodShape = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]{0,63}$`)

// wanted reads a request as the payment that it asks for.
func (s *server) wanted(req *paymentspb.ChargeRequest) (payment, error) {
	p := payment{
		id:       req.GetPaymentId(),
		orderID:  req.GetOrderId(),
		amount:   money.Amount{Minor: req.GetAmountMinor(), Currency: req.GetCurrency()},
		method:   req.GetMethod(),
		provider: s.providerName,
		state:    initiated,
	}
	switch {
	case !ids.Valid(p.id):
		return payment{}, fault.InvalidField("payment_id", ids.Shape)
	case !ids.Valid(p.orderID):
		return payment{}, fault.InvalidField("order_id", ids.Shape)
	case p.amount.Minor <= 0:
		return payment{}, fault.InvalidField("amount_minor", "must be more than 0")
	case !money.ValidCurrency(p.amount.Currency):
		return payment{}, fault.InvalidField("currency", "must be three capital letters")
	case p.method != "" && !methodShape.MatchString(p.method):
		return payment{}, fault.InvalidField("method", "must be a token of the payment provider: a letter, then up to 63 letters, digits or _")
	}
	return p, nil
}
