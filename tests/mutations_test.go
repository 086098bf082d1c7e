package tests

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"cartwright/internal/mutation"
	"cartwright/internal/testenv"
)

const (
	// mutationsKey asks for mutations by name, divided by commas, or for "all"; without it, some are
	// drawn by chance.
	mutationsKey   = "CARTWRIGHT_TEST_MUTATIONS"
	mutationsDrawn = 3
	// mutantLimit is for the tests of one mutation. One that runs into it is red too.
	mutantLimit = 90 * time.Second
)

// mutant says who is to notice that a mechanism is gone: tests of one package.
type mutant struct {
	mutation mutation.Mutation
	folder   string
	tests    string
}

var mutants = []mutant{
	{mutation.AckEarly, "internal/messaging", "TestAJobInHandAtACutIsDeliveredAgain|TestEachEndOfAJobHasItsPlace"},
	{mutation.NoConfirm, "internal/messaging", "TestAJobThatNoQueueTakesIsNotAccepted|TestNothingConfirmedIsLostWhileConnectionsDrop"},
	{mutation.NoMandatory, "internal/messaging", "TestAJobThatNoQueueTakesIsNotAccepted"},
	{mutation.NoTombstone, "inventory", "TestRollbackBeforeReserveKeepsTheShelfFull"},
	{mutation.FirstLineOnly, "inventory", "TestNoHistoryOversells|TestRollbackGivesBackWhatIsHeldAndWhatIsSold"},
	{mutation.NoUnitCheck, "inventory", "TestNoHistoryOversells|TestTwoReplicasOneLastUnit"},
	{mutation.NoDedup, "cartmanager", "TestTheSameJobTenTimesOnTwoReplicasIsDoneOnce"},
	{mutation.NewKeyEachTry, "payments", "TestSilentProviderIsAskedAgainAndChargesOnce|TestRowLeftByACrashIsDecidedByTheProvider"},
	{mutation.NoCancel, "payments", "TestChargeThatWakesUpAfterItsRefundIsRefused|TestSlowChargeIsCancelledBeforeItHappens"},
	{mutation.UnitsBeforeMoney, "checkoutmanager", "TestEveryHistoryOfACheckoutEndsWhole"},
	{mutation.UnguardedFinish, "checkoutmanager", "TestManyArePlacedTogether|TestOneOfTwoMovesWins"},
	{mutation.SilenceIsNo, "checkoutmanager", "TestSilenceIsNoAnswerWhilePatienceLasts"},
	{mutation.EventsOutside, "internal/outbox", "TestOnlyWhatWasCommittedIsTold"},
	{mutation.ForgetUnconfirmed, "internal/outbox", "TestEventsWaitForTheBroker"},
	{mutation.AnyAnswer, "gateway", "TestOnlyTheAnswerToOnesOwnJobEndsAWait"},
}

// Each mechanism that keeps the promises is taken away, and some test notices; with nothing taken
// away, the same tests are green.
func TestEveryMutationIsCaught(t *testing.T) {
	t.Parallel()
	for _, m := range mutation.Mutations() {
		if !slices.ContainsFunc(mutants, func(x mutant) bool { return x.mutation == m }) {
			t.Errorf("nobody is to notice %s", m)
		}
	}
	chosen := chosenMutants(t)
	var table strings.Builder
	rows := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	programs := map[string]string{}
	dir := t.TempDir()
	for _, m := range chosen {
		if programs[m.folder] == "" {
			programs[m.folder] = compileTests(t, dir, m.folder)
		}
		if out, red := runTests(t, programs[m.folder], m, ""); red {
			t.Errorf("%s: red with nothing taken away:\n%s", m.tests, out)
			continue
		}
		out, red := runTests(t, programs[m.folder], m, m.mutation)
		caughtBy := strings.Join(redTests(out), ", ")
		switch {
		case !red:
			t.Errorf("nothing notices %s", m.mutation)
			caughtBy = "NOTHING"
		case caughtBy == "":
			t.Errorf("%s: no test says why it is red:\n%s", m.mutation, out)
		}
		t.Logf("%s: %s", m.mutation, caughtBy)
		fmt.Fprintf(rows, "%s\t%s\t%s\n", m.mutation, m.folder, caughtBy)
	}
	rows.Flush() //nolint:errcheck // into a string
	t.Logf("mutation and what catches it:\n%s", table.String())
}

// chosenMutants are those that were asked for, or some.
func chosenMutants(t *testing.T) (chosen []mutant) {
	t.Helper()
	asked := os.Getenv(mutationsKey)
	for _, m := range mutants {
		if asked == "" || asked == "all" || slices.Contains(strings.Split(asked, ","), string(m.mutation)) {
			chosen = append(chosen, m)
		}
	}
	if asked != "" {
		if len(chosen) == 0 {
			t.Fatalf("%s=%s names no mutation", mutationsKey, asked)
		}
		return chosen
	}
	seed := seedOf(t)
	rand.New(rand.NewPCG(seed, 0)).Shuffle(len(chosen), func(i, j int) { chosen[i], chosen[j] = chosen[j], chosen[i] })
	return chosen[:mutationsDrawn]
}

// compileTests makes the test program of a folder, with all mutations in it and none on.
func compileTests(t *testing.T, dir, folder string) (program string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), buildLimit)
	defer cancel()
	program = filepath.Join(dir, strings.ReplaceAll(folder, "/", "-")+".test")
	if out, err := exec.CommandContext(ctx, "go", "test", "-c", "-tags", "mutations", "-o", program, "cartwright/"+folder).CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return program
}

// runTests runs the tests that are to notice, on the servers of this test program.
func runTests(t *testing.T, program string, m mutant, on mutation.Mutation) (output string, red bool) {
	t.Helper()
	dsn, url := testenv.Servers(t)
	ctx, cancel := context.WithTimeout(t.Context(), mutantLimit+10*time.Second)
	defer cancel()
	c := exec.CommandContext(ctx, program, "-test.run", "^("+m.tests+")$", "-test.v", "-test.timeout", mutantLimit.String())
	c.Dir = filepath.Join("..", m.folder)
	c.Env = append(os.Environ(), mutation.Variable+"="+string(on), "RAPID_NOFAILFILE=1",
		"CARTWRIGHT_TEST_ADMIN_DSN="+dsn, "CARTWRIGHT_TEST_AMQP_URL="+url, "CARTWRIGHT_TEST_BROKER_ADMIN_URL="+testenv.BrokerAdmin(t))
	out, err := c.CombinedOutput()
	return string(out), err != nil
}

var redTest = regexp.MustCompile(`(?m)^--- FAIL: (\S+)|running tests:\s+(\S+)`)

// redTests names the tests that have failed, or hung.
func redTests(output string) (names []string) {
	for _, m := range redTest.FindAllStringSubmatch(output, -1) {
		names = append(names, m[1]+m[2])
	}
	return names
}
