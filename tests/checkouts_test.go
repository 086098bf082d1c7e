package tests

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"cartwright/internal/testenv"
	"cartwright/jobs"
)

// refused runs the program and holds it to fail with these words.
func (f *fleet) refused(words string, args ...string) {
	f.t.Helper()
	out, err := f.command(args...).CombinedOutput()
	if err == nil || !strings.Contains(string(out), words) {
		f.t.Errorf("%q: %v\n%s\nwant %q", args, err, out, words)
	}
}

// shows runs the program until what it prints is like a pattern.
func (f *fleet) shows(pattern string, args ...string) {
	f.t.Helper()
	var said string
	defer func() {
		if f.t.Failed() {
			f.t.Logf("%q says\n%s\nwant %s", args, said, pattern)
		}
	}()
	testenv.Eventually(f.t, readyLimit, strings.Join(args, " "), func() bool {
		said = f.says(args...)
		return regexp.MustCompile(pattern).MatchString(said)
	})
}

// B3: a checkout that is paid for and cannot be placed is listed, resumed and undone by people at the
// command line: its money goes back, then stock and cart, and who did what is in its history. What has
// ended is left alone.
func TestAStuckCheckoutIsResumedAndUndoneByHand(t *testing.T) {
	t.Parallel()
	f := newFleet(t, options{env: map[string]string{"GATEWAY_ANSWER_TIMEOUT": shortAnswer.String()}})
	f.product("tea", 100, 5)
	f.fill("ann", "tea", 2)
	mend := f.breakPlacing("ann")
	a := f.mustCheckOut("ann", "", "k")
	if a.code != http.StatusAccepted {
		t.Fatalf("check out: %d %s", a.code, a.raw)
	}
	testenv.Eventually(t, readyLimit, "it is paid for", func() bool { return f.charges(a.Order) == 1 })
	f.shows(`(?m)^placing +\d+s ago +0 +in \d+s +ann +`+a.Order+` +`+f.checkoutOf(a.Order)+` +-$`, "checkouts")
	if said := f.says("checkouts", "--stuck"); strings.Contains(said, a.Order) {
		t.Errorf("it is called stuck at once:\n%s", said)
	}
	f.says("checkouts", "resume", a.Order, "--by", "ann of the shop")
	f.shows(`(?s)last error +save order: .*began.*resumed +ann of the shop.*waits +- +save order: `, "checkouts", "show", f.checkoutOf(a.Order))

	f.says("checkouts", "undo", a.Order, "--by", "bob")
	if o := f.ends(a.Order); o.Status != "CANCELLED" || o.Reason == "" {
		t.Errorf("order: %+v", o)
	}
	if n := f.charges(a.Order); n != 0 {
		t.Errorf("%d charges are kept, want 0", n)
	}
	f.providerIsEven(a.Order)
	if got, want := f.stock("tea"), (stock{5, 0, 5}); got != want {
		t.Errorf("stock: got %+v, want %+v", got, want)
	}
	if c := f.cart("ann"); len(c.Items) != 1 || c.Items[0].Quantity != 2 {
		t.Errorf("cart: %+v", c)
	}
	f.shows(`(?s)state +failed.*turned +bob +undone_by_staff: .*\n[-: \d]+ failed`, "checkouts", "show", a.Order)
	f.refused("has failed", "checkouts", "undo", a.Order)
	f.refused("has failed", "checkouts", "resume", a.Order)
	f.refused("there is no checkout", "checkouts", "show", "nothing")

	mend()
	paid := f.mustCheckOut("ann", "", "again")
	if o := f.ends(paid.Order); o.Status != "PAID" {
		t.Errorf("order: %+v", o)
	}
	f.refused("is placed", "checkouts", "undo", paid.Order)
	if n := f.charges(paid.Order); n != 1 {
		t.Errorf("%d charges of a placed order, want 1", n)
	}
	f.wire().settled(jobs.Checkoutmanager)
	f.agrees()
}
