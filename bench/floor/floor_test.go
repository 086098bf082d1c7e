package floor

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"cartwright/internal/messaging"
	"cartwright/internal/testenv"
)

// small is a load that any machine carries.
var small = Load{Buyers: 16, Products: 1200, WarmUp: time.Second, Length: time.Second}

// soon is how long what is told to end may take, on a machine that many tests share.
const soon = 30 * time.Second

func settingsOf(t *testing.T) Settings {
	t.Helper()
	dsn, url := testenv.Servers(t)
	return Settings{Broker: messaging.Settings{URL: url, Namespace: testenv.Namespace(t)}, AdminDSN: dsn}
}

// B9: what is measured is what the tables have, or Measure fails; and nothing is left.
func TestTheFloorIsMeasured(t *testing.T) {
	s := settingsOf(t)
	for _, products := range []int{small.Products, 1} {
		load := small
		load.Products = products
		r, err := Measure(t.Context(), s, load)
		if err != nil {
			t.Fatal(err)
		}
		t.Log(r)
		if r.Buyers != load.Buyers || r.Products != products || r.Checkouts < load.Buyers {
			t.Errorf("%+v", r)
		}
		// Nobody finishes before the load's end, and the last answers come soon after it.
		if r.PerSecond > float64(r.Checkouts) || r.PerSecond < float64(r.Checkouts)/10 || r.P50 <= 0 || r.P50 > r.P99 {
			t.Errorf("%d checkouts are %.0f a second, p50 %s, p99 %s", r.Checkouts, r.PerSecond, r.P50, r.P99)
		}
		wantNothingLeft(t, s)
		if parts := partsOf(t, os.Getpid()); len(parts) > 0 {
			t.Errorf("processes are left: %v", parts)
		}
	}
}

// Each way in which the tables can differ from the answers fails the measurement.
func TestTablesThatDifferAreAnError(t *testing.T) {
	s := settingsOf(t)
	site, err := takeGround(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := site.clear(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	if err := site.build(t.Context(), 1001); err != nil {
		t.Fatal(err)
	}
	if err := site.agrees(t.Context(), 0); err != nil {
		t.Errorf("untouched tables: %v", err)
	}
	db := testenv.Open(t, s.database())
	exec := func(statement string) {
		t.Helper()
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	// One checkout, stage by stage: it agrees with one answer at the end, and not before.
	for _, statement := range []string{
		"INSERT INTO orders (id, client, state) VALUES ('o', 'c', 0)",
		"UPDATE stock SET reserved = 1 WHERE product = 1000",
		"INSERT INTO reservations (id, product, units, state) VALUES ('o', 1000, 1, 0)",
		"UPDATE reservations SET state = 1",
		"UPDATE stock SET on_hand = on_hand - 1 WHERE product = 1000",
		"UPDATE stock SET reserved = 0 WHERE product = 1000",
	} {
		exec(statement)
		for _, answers := range []int{0, 1} {
			if err := site.agrees(t.Context(), answers); err == nil {
				t.Errorf("%d answers are taken for right after %s", answers, statement)
			}
		}
	}
	exec("UPDATE orders SET state = 1")
	if err := site.agrees(t.Context(), 1); err != nil {
		t.Error(err)
	}
	exec("UPDATE stock SET reserved = 1 WHERE product = 0")
	if err := site.agrees(t.Context(), 1); err == nil {
		t.Error("a unit is reserved for nobody")
	}
}

// An order's product follows from its ID, and all products are wanted.
func TestOrdersWantAllProducts(t *testing.T) {
	t.Parallel()
	const orders, products = 10000, 100
	var packed strings.Builder
	for i := range orders {
		fmt.Fprintf(&packed, "01890a5d-ac96-774b-bcce-%012x", i*7919)
	}
	i := &inventory{products: products}
	got, err := i.unpack(packed.String())
	if err != nil {
		t.Fatal(err)
	}
	if len(got.orders) != orders || len(got.rows) != 2*orders || len(got.products) != products || len(got.units) != 2*products {
		t.Errorf("%d orders, %d rows, %d products, %d units", len(got.orders), len(got.rows), len(got.products), len(got.units))
	}
	if _, err := i.unpack("01890a5d-ac96-774b-bcce-no-such-hexa"); err == nil {
		t.Error("what is no ID is taken for one")
	}
}

// Whoever interrupts a measurement finds nothing of it on the servers, and no process.
func TestAnInterruptLeavesNothing(t *testing.T) {
	s := settingsOf(t)
	command, said := startCommand(t, s)
	parts := allParts(t, command.Process.Pid)
	if err := command.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	err := command.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(said.String(), "floor: interrupt signal received") {
		t.Errorf("%v, and it says: %s", err, said)
	}
	wantNothingLeft(t, s)
	wantNoParts(t, parts)
}

// A measurement that is killed can take nothing away. Its processes end all the same, and the
// next measurement builds the ground anew.
func TestAKillLeavesNoProcess(t *testing.T) {
	s := settingsOf(t)
	command, _ := startCommand(t, s)
	parts := allParts(t, command.Process.Pid)
	if err := command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	command.Wait() //nolint:errcheck // it was killed
	wantNoParts(t, parts)
	// The server gives up the lock when it finds that the connection has ended.
	testenv.Eventually(t, soon, "the ground is free", func() bool {
		site, err := takeGround(t.Context(), s)
		return err == nil && site.leave() == nil
	})
	if _, err := Measure(t.Context(), s, small); err != nil {
		t.Errorf("on what was left: %v", err)
	}
	wantNothingLeft(t, s)
}

// The end of one process ends the measurement, with its name, and not in silence.
func TestThePartThatDiesIsNamed(t *testing.T) {
	for _, role := range []string{"gateway", "worker", "inventory"} {
		s := settingsOf(t)
		failed := make(chan error, 1)
		go func() {
			_, err := Measure(t.Context(), s, Load{Buyers: 16, Products: 10, Length: time.Minute})
			failed <- err
		}()
		testenv.Eventually(t, soon, "checkouts go through", func() bool { return orders(t, s) > 0 })
		parts := allParts(t, os.Getpid())
		if err := syscall.Kill(parts[role], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		// Whoever noticed it first may be told instead: then the error names what it misses.
		if err := <-failed; err == nil || !strings.Contains(err.Error(), role) || strings.Contains(err.Error(), "buyer") {
			t.Errorf("%s was killed, and the error is: %v", role, err)
		}
		wantNothingLeft(t, s)
		wantNoParts(t, parts)
	}
}

// Two measurements on one server would spoil each other's figures and tables.
func TestTheGroundIsForOneAtATime(t *testing.T) {
	s := settingsOf(t)
	site, err := takeGround(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Measure(t.Context(), s, small); err == nil || !strings.Contains(err.Error(), "another floor is being measured") {
		t.Errorf("%v", err)
	}
	if err := site.clear(t.Context()); err != nil {
		t.Fatal(err)
	}
	if site, err = takeGround(t.Context(), s); err != nil {
		t.Fatalf("after the first has left: %v", err)
	}
	if err := site.leave(); err != nil {
		t.Error(err)
	}
}

// A server that is away is named, its address too, and no password.
func TestAServerThatIsAwayIsNamed(t *testing.T) {
	here := settingsOf(t)
	nowhere := testenv.FreeAddress(t)
	for _, c := range []struct {
		change func(*Settings)
		want   string
	}{
		{func(s *Settings) { s.AdminDSN = "admin:secret@tcp(" + nowhere + ")/" }, "the database is not available now: dial tcp " + nowhere},
		{func(s *Settings) { s.AdminDSN = "admin:secret" }, "database address"},
		{func(s *Settings) { s.Broker.URL = "amqp://admin:secret@" + nowhere + "/" }, "the broker is not available now: dial tcp " + nowhere},
		{func(s *Settings) { s.Broker.URL = "http://admin:secret@" + nowhere + "/" }, "CARTWRIGHT_AMQP_URL must be amqp://user:password@host:port/vhost"},
	} {
		s := here
		c.change(&s)
		_, err := Measure(t.Context(), s, small)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") || strings.Count(err.Error(), "\n") > 0 {
			t.Errorf("the error is: %v\nwant %s", err, c.want)
		}
		wantNothingLeft(t, here)
	}
}

func TestArgumentsThatMakeNoSenseAreRefused(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"--buyers 0 --products 1000001 --seconds 0 --warmup 601": "buyers must be 1 to 4096; products must be 1 to 1000000; seconds must be 1 to 600; warmup must be 0 to 600",
		"--buyers many":  "--help",
		"--shoppers 3":   "--help",
		"now":            `unknown argument "now"`,
		"--role nothing": "not set", // that there is no such part is found when the settings are read
	} {
		if _, err := Run(t.Context(), &bytes.Buffer{}, strings.Fields(args)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", args, err, want)
		}
	}
	if err := (part{role: "nothing"}).play(t.Context(), &bytes.Buffer{}, Settings{}); err == nil || !strings.Contains(err.Error(), "nothing") {
		t.Errorf("%v", err)
	}
}

func TestHelpNamesEveryFlagAndSetting(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if _, err := Run(t.Context(), &out, []string{"--help"}); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("%v", err)
	}
	for _, want := range []string{"--buyers 256", "--seconds 8", "--products 10000", "--warmup 2", "CARTWRIGHT_ADMIN_DSN", "CARTWRIGHT_AMQP_URL", "CARTWRIGHT_NAMESPACE"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("help does not say %s", want)
		}
	}
}

// startCommand starts a measurement as people do, and returns when checkouts go through.
func startCommand(t *testing.T, s Settings) (command *exec.Cmd, said *bytes.Buffer) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	said = &bytes.Buffer{}
	command = exec.Command(program, "bench", "floor", "--buyers", "16", "--products", "10", "--warmup", "0", "--seconds", "600")
	command.Env, command.Stdout, command.Stderr = environ(s), said, said
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if command.ProcessState == nil {
			command.Process.Kill() //nolint:errcheck // the test has failed already
			command.Wait()         //nolint:errcheck // the test has failed already
		}
	})
	testenv.Eventually(t, soon, "checkouts go through", func() bool { return orders(t, s) > 0 })
	return command, said
}

// orders counts the finished orders; a database that is not there yet has none.
func orders(t *testing.T, s Settings) (n int) {
	t.Helper()
	err := testenv.Open(t, "").QueryRowContext(t.Context(), "SELECT COUNT(*) FROM `"+s.database()+"`.orders WHERE state = 1").Scan(&n)
	if err != nil {
		return 0
	}
	return n
}

// partsOf finds the processes that a measurement has started, by role.
func partsOf(t *testing.T, parent int) map[string]int {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	parts := map[string]int{}
	for _, dir := range all {
		arguments, _ := os.ReadFile(dir + "/cmdline") // a process that has just ended has none
		_, after, is := strings.Cut(string(arguments), "\x00bench\x00floor\x00--role\x00")
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if is && parentOf(pid) == parent {
			role, _, _ := strings.Cut(after, "\x00")
			parts[role] = pid
		}
	}
	return parts
}

// allParts are the processes of a measurement that is under way.
func allParts(t *testing.T, parent int) map[string]int {
	t.Helper()
	parts := partsOf(t, parent)
	for _, role := range []string{"gateway", "worker", "inventory"} {
		if parts[role] == 0 {
			t.Fatalf("there is no %s among %v", role, parts)
		}
	}
	return parts
}

// parentOf is 0 for a process that has ended, also when nobody has asked yet how it did.
func parentOf(pid int) (parent int) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, after, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(after)
	if err != nil || len(fields) < 2 || fields[0] == "Z" || fields[0] == "X" {
		return 0
	}
	parent, _ = strconv.Atoi(fields[1])
	return parent
}

// wantNoParts waits until none of these processes is there any more.
func wantNoParts(t *testing.T, parts map[string]int) {
	t.Helper()
	for role, pid := range parts {
		testenv.Eventually(t, soon, fmt.Sprintf("%s, process %d, has ended", role, pid), func() bool { return parentOf(pid) == 0 })
	}
}

// wantNothingLeft looks for the database and the queues.
func wantNothingLeft(t *testing.T, s Settings) {
	t.Helper()
	var databases int
	err := testenv.Open(t, "").QueryRowContext(t.Context(), "SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = ?", s.database()).Scan(&databases)
	if err != nil || databases != 0 {
		t.Errorf("%d databases are left, %v", databases, err)
	}
	conn, err := amqp.Dial(s.Broker.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, queue := range []string{s.queue(), s.answers()} {
		testenv.Eventually(t, soon, "no queue "+queue, func() bool { return missing(t, conn, queue) })
	}
}

func missing(t *testing.T, conn *amqp.Connection, queue string) bool {
	t.Helper()
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	_, err = ch.QueueDeclarePassive(queue, false, false, false, false, nil)
	var refused *amqp.Error
	if errors.As(err, &refused) {
		return refused.Code == amqp.NotFound
	}
	ch.Close()
	return false
}
