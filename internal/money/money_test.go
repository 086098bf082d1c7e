package money

import (
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"
)

func TestSumsAreExactOrRefused(t *testing.T) { // P18
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Int64().Draw(t, "a"), rapid.Int64().Draw(t, "b")
		want := new(big.Int).Add(big.NewInt(a), big.NewInt(b))
		got, err := Amount{a, "EUR"}.Plus(Amount{b, "EUR"})
		check(t, got, err, want)
	})
}

func TestProductsAreExactOrRefused(t *testing.T) { // P18
	t.Parallel()
	edges := rapid.OneOf(rapid.Int64(), rapid.SampledFrom([]int64{0, 1, -1, math.MaxInt64, math.MinInt64, math.MinInt64 + 1}))
	rapid.Check(t, func(t *rapid.T) {
		a, units := edges.Draw(t, "a"), edges.Draw(t, "units")
		want := new(big.Int).Mul(big.NewInt(a), big.NewInt(units))
		got, err := Amount{a, "EUR"}.Times(units)
		check(t, got, err, want)
	})
}

// check compares with the result of a calculation that has no limit.
func check(t *rapid.T, got Amount, err error, want *big.Int) {
	switch {
	case !want.IsInt64():
		if err == nil {
			t.Fatalf("%d, want an error: the sum is %s", got.Minor, want)
		}
	case err != nil:
		t.Fatalf("%v, want %s", err, want)
	case got != Amount{want.Int64(), "EUR"}:
		t.Fatalf("%v, want %s EUR", got, want)
	}
}

func TestCurrenciesDoNotMix(t *testing.T) { // P18
	t.Parallel()
	if sum, err := (Amount{4726, "EUR"}).Plus(Amount{1, "USD"}); err == nil {
		t.Errorf("4726 EUR + 1 USD = %v", sum)
	}
	if sum, err := (Amount{0, "EUR"}).Plus(Amount{0, "USD"}); err == nil {
		t.Errorf("0 EUR + 0 USD = %v", sum)
	}
}

func TestNothingAddsToAnyCurrency(t *testing.T) {
	t.Parallel()
	some := Amount{4726, "EUR"}
	for _, sum := range [][2]Amount{{{}, some}, {some, {}}} {
		if got, err := sum[0].Plus(sum[1]); err != nil || got != some {
			t.Errorf("%v + %v = %v, %v", sum[0], sum[1], got, err)
		}
	}
}

func TestValidCurrency(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]bool{"EUR": true, "XAU": true, "": false, "EU": false, "EURO": false, "eur": false, "E R": false, "ÄÖ": false, "EU1": false} {
		if got := ValidCurrency(s); got != want {
			t.Errorf("ValidCurrency(%q) = %v", s, got)
		}
	}
}
