// Package money adds and multiplies amounts of money: integers in the currency's smallest unit,
// checked for overflow, never mixing currencies.
package money

import (
	"fmt"
	"math"
)

// Amount is a sum of money in the smallest unit of its currency: 4726 EUR is 47.26 euros. The
// zero value is nothing in no currency, and adds to any.
type Amount struct {
	Minor    int64
	Currency string // ISO 4217, three capital letters
}

// Plus adds two amounts of one currency.
func (a Amount) Plus(b Amount) (Amount, error) {
	switch {
	case a == Amount{}:
		return b, nil
	case b == Amount{}:
		return a, nil
	case a.Currency != b.Currency:
		return Amount{}, fmt.Errorf("cannot add %s to %s", b.Currency, a.Currency)
	case b.Minor > 0 && a.Minor > math.MaxInt64-b.Minor, b.Minor < 0 && a.Minor < math.MinInt64-b.Minor:
		return Amount{}, fmt.Errorf("%d + %d %s is too much", a.Minor, b.Minor, a.Currency)
	}
	return Amount{a.Minor + b.Minor, a.Currency}, nil
}

// Times multiplies an amount by a number of units.
func (a Amount) Times(units int64) (Amount, error) {
	product := a.Minor * units
	if a.Minor != 0 && (product/a.Minor != units || (a.Minor == -1 && units == math.MinInt64)) {
		return Amount{}, fmt.Errorf("%d × %d %s is too much", units, a.Minor, a.Currency)
	}
	return Amount{product, a.Currency}, nil
}

// ValidCurrency tells whether s looks like an ISO 4217 code: three capital letters.
func ValidCurrency(s string) bool {
	return len(s) == 3 && isCapital(s[0]) && isCapital(s[1]) && isCapital(s[2])
}

func isCapital(c byte) bool { return c >= 'A' && c <= 'Z' }
