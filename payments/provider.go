package payments

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"cartwright/internal/money"
	"cartwright/internal/settings"
)

// Provider takes money and gives it back. Each call is idempotent by key, the payment's ID: asked
// again it answers as before, whichever process asks. An error means silence, except where a
// method says otherwise: the call may have had its effect.
type Provider interface {
	// Charge takes the money, unless the key was charged, declined or cancelled before.
	Charge(ctx context.Context, c Charge) (Outcome, error)
	// Lookup tells what became of a key, and changes nothing.
	Lookup(ctx context.Context, key string) (Outcome, error)
	// Cancel makes sure that a key which was not charged never will be: a Charge that is still on
	// its way is refused when it arrives. It answers what the key has come to, Charged when it
	// was too late; it never answers Unknown.
	Cancel(ctx context.Context, key string) (Outcome, error)
	// Refund gives all of a charge back. An error of kind fault.Refused is a definite no.
	Refund(ctx context.Context, key string, amount money.Amount) error
}

// Charge is what a provider is asked to take.
type Charge struct {
	Key    string // of idempotency
	Amount money.Amount
	Method string // the provider's token; empty means its default
}

// Outcome is what became of a key at the provider.
type Outcome struct {
	Status Status
	Ref    string // the provider's own name for the charge, at most 128 ASCII characters
	Code   string // why it was declined: stable, for machines, at most 64 ASCII characters
	Reason string // the same in a sentence, shown to the shopper
}

// Status of a key.
type Status string

// What a key may have come to. All but Unknown are for good, except that Charged may be refunded.
const (
	Unknown   Status = "unknown"   // the provider has not heard of it, or not decided yet
	Charged   Status = "charged"   // the money was taken
	Declined  Status = "declined"  // it was not, and never will be under this key
	Cancelled Status = "cancelled" // the same, because Cancel came first
)

const providerTest = "test"

// providers are all that can be chosen.
var providers = []string{providerTest}

func checkProvider(name string) error {
	if !slices.Contains(providers, name) {
		return wrongSetting("PAYMENTS_PROVIDER", "is %q, want one of: %s", name, strings.Join(providers, ", "))
	}
	return nil
}

func wrongSetting(key, format string, args ...any) error {
	return fmt.Errorf("%s%s %s", settings.Prefix, key, fmt.Sprintf(format, args...))
}

// newProvider makes the chosen provider, measured, and what must run beside it until the service
// stops.
func newProvider(s Settings, db *sql.DB, m *metrics) (p Provider, background func(context.Context) error, err error) {
	if err := checkProvider(s.Provider); err != nil {
		return nil, nil, err
	}
	test := newTestProvider(db, s.TestSlow, m)
	return timed{test, m.provider}, test.slow.run, nil
}
