package tests

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"cartwright/internal/failpoint"
	"cartwright/internal/ids"
	"cartwright/internal/lifecycle"
	"cartwright/internal/testenv"
	schema "cartwright/sql"
)

const (
	// failpointsKey asks for the failpoints whose names or cases begin so, divided by commas, or for
	// "all"; without it, some are drawn by chance. seedKey draws the same ones again.
	failpointsKey = "CARTWRIGHT_TEST_FAILPOINTS"
	seedKey       = "CARTWRIGHT_TEST_SEED"
	casesDrawn    = 10
	// caseCrowd shoppers come by while one point is armed.
	caseCrowd = 20
	// hitLimit is how long it may take until somebody comes by the point.
	hitLimit = 60 * time.Second
	// awayTime is how long a killed process stays away.
	awayTime = time.Second
	// sleepShort and sleepLong are how long a stopped process sleeps: the long one is long enough for
	// the broker to give its connections up, and its jobs to somebody else.
	sleepShort = 2 * time.Second
	sleepLong  = 12 * time.Second
	// lapsePatience lets a slow payment come before anybody asks again: whoever asks before finds that
	// the units are gone, and has it cancelled.
	lapsePatience = 8 * time.Second
	// caseSlack is for clients of a process that sleeps.
	caseSlack = sleepLong + 5*time.Second
)

// scene is what the crowd does while a point is armed.
type scene string

const (
	buying   scene = "buying"   // each checks a unit out
	declined scene = "declined" // with a card that is declined
	lapsing  scene = "lapsing"  // with a slow payment, and meanwhile the units that are held are let go
	adding   scene = "adding"   // each puts a unit into the cart
)

// breakage is a point of one service, and what goes on there.
type breakage struct {
	name    string
	point   failpoint.Point
	service string
	during  scene
}

// breakages are all points, each wherever it means something else. docs/failpoints.md says what is left
// behind at each.
var breakages = []breakage{
	{"G1", failpoint.JobMade, "gateway", buying},
	{"G2", failpoint.MessageSent, "gateway", buying},
	{"G3", failpoint.JobConfirmed, "gateway", buying},
	{"G4", failpoint.AnswerHeard, "gateway", buying},
	{"W1", failpoint.JobTaken, "checkoutmanager", buying},
	{"W2", failpoint.OrderOpened, "checkoutmanager", buying},
	{"W2a", failpoint.Frozen, "checkoutmanager", buying},
	{"W3", failpoint.ReserveSent, "checkoutmanager", buying},
	{"W4", failpoint.Reserved, "checkoutmanager", buying},
	{"W5", failpoint.PaymentOpened, "payments", buying},
	{"W8", failpoint.ProviderCharged, "payments", buying},
	{"W9", failpoint.Charged, "checkoutmanager", buying},
	{"W10", failpoint.Committed, "checkoutmanager", buying},
	{"W11", failpoint.OrderSaved, "checkoutmanager", buying},
	{"W11a", failpoint.MessageSent, "checkoutmanager", buying},
	{"W12", failpoint.JobDone, "checkoutmanager", buying},
	{"W13", failpoint.ProviderStopped, "payments", lapsing},
	{"W13a", failpoint.OrderSaved, "checkoutmanager", declined},
	{"W13b", failpoint.Refunded, "checkoutmanager", declined},
	{"W14", failpoint.RolledBack, "checkoutmanager", declined},
	{"W14a", failpoint.Thawed, "checkoutmanager", declined},
	{"W15", failpoint.ProviderRepaid, "payments", lapsing},
	{"W15a", failpoint.Refunded, "checkoutmanager", lapsing},
	{"I1", failpoint.TxFilled, "inventory", buying},
	{"I1a", failpoint.TxFilled, "checkoutmanager", buying},
	{"I1b", failpoint.TxFilled, "payments", buying},
	{"I1c", failpoint.TxFilled, "cartmanager", adding},
	{"I2", failpoint.TxCommitted, "inventory", buying},
	{"I2a", failpoint.TxCommitted, "checkoutmanager", buying},
	{"I2b", failpoint.TxCommitted, "payments", declined},
	{"I2c", failpoint.TxCommitted, "cartmanager", adding},
	{"I3", failpoint.BatchBegun, "inventory", buying},
	{"I4", failpoint.TxFilled, "inventory", lapsing},
	{"R1", failpoint.EventsSent, "checkoutmanager", buying},
	{"R2", failpoint.EventsConfirmed, "checkoutmanager", buying},
	{"C1", failpoint.JobDone, "cartmanager", adding},
}

// failCase is a breakage with what happens there.
type failCase struct {
	breakage
	action failpoint.Action
	sleep  time.Duration
}

func (c failCase) name() string { return c.breakage.name + "/" + string(c.action) }

// Every point is broken somewhere, and every breakage is on the page.
func TestEveryFailpointIsBroken(t *testing.T) {
	t.Parallel()
	for _, p := range failpoint.Points() {
		if !slices.ContainsFunc(breakages, func(b breakage) bool { return b.point == p }) {
			t.Errorf("nothing is broken at %s", p)
		}
	}
	page, err := os.ReadFile("../docs/failpoints.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range breakages {
		if row := fmt.Sprintf("\n| %s | %s | `%s` | %s | ", b.name, b.service, b.point, b.during); !strings.Contains(string(page), row) {
			t.Errorf("docs/failpoints.md has no row%s", row)
		}
	}
}

// K8, K5, P2, E3: a process is killed, stopped or robbed of an answer at a step, while twenty
// shoppers come by. Once it runs again and all is quiet, they were told what the books say, the books
// agree, and every end was told of.
func TestFailpointsLoseNothing(t *testing.T) {
	t.Parallel()
	cases := chosenCases(t)
	f := newFleet(t, options{tags: "failpoints", points: t.TempDir(), replicas: map[string]int{"checkoutmanager": 2, "inventory": 2, "cartmanager": 2}})
	for service := range runs {
		if err := os.Mkdir(filepath.Join(f.points, service), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	f.slack = caseSlack
	for _, name := range schema.Databases() {
		f.database(name) // opened once for all cases
	}
	all := f.listen()
	var table strings.Builder
	rows := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	for n, c := range cases {
		began, verdict := time.Now(), "right"
		if !t.Run(c.name(), func(t *testing.T) {
			f.t = t
			f.play(t.Context(), c, fmt.Sprintf("case%d-", n), all)
		}) {
			verdict = "WRONG"
		}
		f.t = t
		fmt.Fprintf(rows, "%s\t%s\t%s\t%s\t%s\t%s\t%.1f s\n", c.breakage.name, c.service, c.point, c.during, c.action, verdict, time.Since(began).Seconds())
	}
	rows.Flush() //nolint:errcheck // into a string
	t.Logf("%d cases:\n%s", len(cases), table.String())
}

// chosenCases are those that were asked for, or some.
func chosenCases(t *testing.T) (chosen []failCase) {
	t.Helper()
	asked, sleep := os.Getenv(failpointsKey), sleepLong
	if asked == "" {
		sleep = sleepShort
	}
	for _, b := range breakages {
		for _, a := range failpoint.Actions() {
			c := failCase{b, a, sleep}
			if asked == "" || asked == "all" || slices.ContainsFunc(strings.Split(asked, ","), func(name string) bool { return name == b.name || name == c.name() }) {
				chosen = append(chosen, c)
			}
		}
	}
	if asked != "" {
		if len(chosen) == 0 {
			t.Fatalf("%s=%s names no case", failpointsKey, asked)
		}
		return chosen
	}
	seed := seedOf(t)
	rand.New(rand.NewPCG(seed, 0)).Shuffle(len(chosen), func(i, j int) { chosen[i], chosen[j] = chosen[j], chosen[i] })
	return chosen[:casesDrawn]
}

// seedOf is what chance begins with: the seed that was asked for, or another one each time.
func seedOf(t *testing.T) (seed uint64) {
	t.Helper()
	seed = rand.Uint64()
	if again := os.Getenv(seedKey); again != "" {
		var err error
		if seed, err = strconv.ParseUint(again, 10, 64); err != nil {
			t.Fatalf("%s: %v", seedKey, err)
		}
	}
	t.Logf("%s=%d draws the same cases again", seedKey, seed)
	return seed
}

// play lets a crowd come by an armed point, mends what broke there, and judges how it ended.
func (f *fleet) play(ctx context.Context, c failCase, prefix string, told *told) {
	f.t.Helper()
	f.shelve(prefix+"tea", 2*caseCrowd)
	all := f.crowd(prefix, caseCrowd, map[scene]string{declined: "tok_declined", lapsing: "tok_slow"}[c.during])
	for _, b := range all {
		b.mayBreak = c.service == "gateway"
		if c.during == lapsing {
			b.patience = lapsePatience
		}
	}
	if c.during != adding {
		f.fillAll(all, prefix+"tea")
	}
	ctx, cancel := context.WithTimeout(ctx, quietLimit)
	defer cancel()
	if c.during != lapsing {
		f.arm(c)
	}
	ended := f.come(ctx, c, prefix, all)
	if c.during == lapsing {
		f.letLapse(prefix)
		f.arm(c)
	}
	f.mend(ctx, c)
	for _, err := range ended() {
		f.t.Error(err)
	}
	f.judge(c, prefix, all, told)
}

// shelve makes a product with stock, and insists: the case before may have left somebody busy.
func (f *fleet) shelve(id string, units int64) {
	f.t.Helper()
	testenv.Eventually(f.t, readyLimit, id+" is in the catalogue", func() bool {
		a, err := f.ask(http.MethodPut, "/v1/products/"+id, "", map[string]any{"name": id, "price": map[string]any{"amount": 100, "currency": "EUR"}, "active": true})
		return err == nil && a.code/100 == 2
	})
	key := ids.New()
	testenv.Eventually(f.t, readyLimit, id+" is on the shelf", func() bool {
		a, err := f.ask(http.MethodPost, "/v1/products/"+id+"/stock", key, map[string]any{"delta": units, "kind": "finite"})
		return err == nil && a.code/100 == 2
	})
}

func (f *fleet) arm(c failCase) {
	f.t.Helper()
	if err := failpoint.Arm(filepath.Join(f.points, c.service), c.point, c.action); err != nil {
		f.t.Fatal(err)
	}
}

// mend waits until the point has gone off, and brings the process back that it went off in. A
// point that nobody comes by proves nothing.
func (f *fleet) mend(ctx context.Context, c failCase) {
	f.t.Helper()
	dir, pid := filepath.Join(f.points, c.service), 0
	for end := time.Now().Add(hitLimit); pid == 0; lifecycle.Pause(ctx, 10*time.Millisecond) {
		var err error
		if pid, err = failpoint.HitBy(dir, c.point); err != nil {
			f.t.Fatal(err)
		}
		if pid == 0 && time.Now().After(end) {
			f.t.Errorf("nobody came by %s of %s", c.point, c.service)
			if err := failpoint.Disarm(dir, c.point); err != nil {
				f.t.Log(err)
			}
			return
		}
	}
	for i := range f.replicas[c.service] {
		p := f.running[fmt.Sprint(c.service, "-", i)]
		if p.PID() != pid {
			continue
		}
		switch c.action {
		case failpoint.Kill:
			<-p.Done()
			lifecycle.Pause(ctx, awayTime)
			f.start(c.service, i)
			f.awaitReady(c.service, i)
		case failpoint.Stop:
			lifecycle.Pause(ctx, c.sleep)
			if err := p.Signal(syscall.SIGCONT); err != nil {
				f.t.Error(err)
			}
		}
		return
	}
	f.t.Errorf("%s went off in process %d, which is no %s", c.point, pid, c.service)
}

// letLapse waits until every unit is held or sold, and ends the time of those that are held.
func (f *fleet) letLapse(prefix string) {
	f.t.Helper()
	db := f.database(schema.Inventory)
	testenv.Eventually(f.t, hitLimit, "all units are held", func() bool {
		var n int
		return db.QueryRow("SELECT COUNT(*) FROM reservations WHERE contents LIKE ?", `%"`+prefix+`tea"%`).Scan(&n) == nil && n == caseCrowd
	})
	if _, err := db.Exec("UPDATE reservations SET expires_at = NOW(6) WHERE state = 'held' AND contents LIKE ?", `%"`+prefix+`tea"%`); err != nil {
		f.t.Fatal(err)
	}
}
