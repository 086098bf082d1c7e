package main

import (
	"bytes"
	"errors"
	"flag"
	"os/user"
	"strings"
	"testing"
	"time"

	"cartwright/proto/checkoutpb"
)

func TestWhatIsAskedOfACheckoutIsReadWhole(t *testing.T) {
	t.Parallel()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args  string
		want  checkoutOrder
		fault string
	}{
		{"", checkoutOrder{limit: listedByDefault}, ""},
		{"--stuck", checkoutOrder{older: stuckAfter, limit: listedByDefault}, ""},
		{"--older 90s --limit 3", checkoutOrder{older: 90 * time.Second, limit: 3}, ""},
		{"show x", checkoutOrder{verb: "show", id: "x", limit: listedByDefault}, ""},
		{"resume x", checkoutOrder{verb: "resume", id: "x", by: me.Username, limit: listedByDefault}, ""},
		{"undo x --by ann", checkoutOrder{verb: "undo", id: "x", by: "ann", limit: listedByDefault}, ""},
		{"--stuck --older 1h", checkoutOrder{}, "only one of them"},
		{"--older 9000h", checkoutOrder{}, "older: must be"},
		{"--older -1s", checkoutOrder{}, "older: must be"},
		{"--limit 1001", checkoutOrder{}, "limit: must be 1 to 1000"},
		{"--stuck x", checkoutOrder{}, `not "x"`},
		{"refund x", checkoutOrder{}, `not "refund"`},
		{"show", checkoutOrder{}, "name one checkout to show"},
		{"undo x y", checkoutOrder{}, "name one checkout to undo"},
		{"show x --by ann", checkoutOrder{}, "show has no --by"},
		{"undo x --limit 2", checkoutOrder{}, "undo has no --limit"},
	} {
		got, err := readCheckoutOrder(strings.Fields(c.args))
		if c.fault != "" && (err == nil || !strings.Contains(err.Error(), c.fault)) || c.fault == "" && (err != nil || got != c.want) {
			t.Errorf("%s: %+v, %v", c.args, got, err)
		}
	}
	var out bytes.Buffer
	if err := checkouts(&out)(t.Context(), []string{"undo", "--help"}); !errors.Is(err, flag.ErrHelp) || !strings.Contains(out.String(), "CARTWRIGHT_CHECKOUTMANAGER_ADDR") {
		t.Errorf("%v\n%s", err, out.String())
	}
}

// A checkout is shown on lines that nobody else can add to: errors are the words of others.
func TestACheckoutIsShownWithItsHistory(t *testing.T) {
	t.Parallel()
	began := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).UnixMicro()
	var out bytes.Buffer
	err := showCheckout(&out, &checkoutpb.GetCheckoutResponse{
		Checkout: &checkoutpb.Checkout{CheckoutId: "c", OrderId: "o", ClientId: "ann", State: "failed", ReasonCode: "timed_out", Reason: "too slow",
			Attempts: 3, LastError: "odd\x1b[31m\nthing", CreatedAtUs: began, UpdatedAtUs: began + 9_000_000},
		History: []*checkoutpb.CheckoutEvent{{AtUs: began + 2_000_000, Event: "turned", By: "bob", Note: "timed_out: too slow"}},
	})
	want := `checkout    c
order       o
client      ann
state       failed
reason      timed_out: too slow
total       0 
tries       3
last error  odd?[31m…
next try    -

WHEN (UTC)           WHAT    WHO  WHY
2026-01-02 03:04:05  began   -    -
2026-01-02 03:04:07  turned  bob  timed_out: too slow
2026-01-02 03:04:14  failed  -    -
`
	if err != nil || out.String() != want {
		t.Errorf("%v\n%s\nwant\n%s", err, out.String(), want)
	}
}
