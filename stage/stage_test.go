package stage

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const testLimit = 3 * time.Minute

// A shop is a stage of its own with ports of its own; what its commands print is in said.
type shop struct {
	*Stage
	t    *testing.T
	said *bytes.Buffer
}

func newShop(t *testing.T, settings ...string) *shop {
	t.Helper()
	dir, err := os.MkdirTemp("", "stage")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil { // the packages' users must be able to pass
		t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	said := &bytes.Buffer{}
	s := &Stage{Home: filepath.Join(dir, "a shop"), Environ: ownPorts(t), Program: program, In: strings.NewReader(""), Out: said}
	s.Environ = append(s.Environ, settings...)
	sh := &shop{Stage: s, t: t, said: said}
	t.Cleanup(func() {
		sh.must(s.Down)
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return sh
}

// ownPorts moves every port of a shop away from those of other shops on this machine.
func ownPorts(t *testing.T) []string {
	t.Helper()
	env := slices.DeleteFunc(os.Environ(), func(pair string) bool { return strings.HasPrefix(pair, prefix+"TEST_") })
	ports, err := FreePorts(2)
	if err != nil {
		t.Fatal(err)
	}
	return append(env, ports...)
}

func (sh *shop) run(command func(context.Context, []string) error, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), testLimit)
	defer cancel()
	sh.said.Reset()
	err := command(ctx, args)
	return sh.said.String(), err
}

func (sh *shop) must(command func(context.Context, []string) error, args ...string) string {
	sh.t.Helper()
	said, err := sh.run(command, args...)
	if err != nil {
		sh.t.Fatalf("%v\n%s", err, said)
	}
	return said
}

// pids are the processes of the shop that run, by name.
func (sh *shop) pids() map[string]int {
	sh.t.Helper()
	st, err := sh.readState()
	if err != nil {
		sh.t.Fatal(err)
	}
	pids := map[string]int{}
	for _, p := range st.Processes {
		if p.alive() {
			pids[p.Name] = p.PID
		}
	}
	return pids
}

// shown are the services of the processes that others are told of, each with addresses that answer.
func (sh *shop) shown() (services []string) {
	sh.t.Helper()
	all, err := sh.Processes()
	if err != nil {
		sh.t.Fatal(err)
	}
	pids := sh.pids()
	for _, p := range all {
		services = append(services, p.Service)
		if !slices.Contains(slices.Collect(maps.Values(pids)), p.PID) {
			sh.t.Errorf("%s has the number %d, which is none of %v", p.Service, p.PID, pids)
		}
		if p.Service == mariaDB || p.Service == rabbitMQ {
			continue
		}
		if err := ready(context.Background(), p.Debug); err != nil {
			sh.t.Errorf("%s: %v", p.Service, err)
		}
		if _, _, err := net.SplitHostPort(p.Listen); err != nil {
			sh.t.Errorf("%s: %v", p.Service, err)
		}
	}
	slices.Sort(services)
	return services
}

// same are the names that have the same process in both.
func same(a, b map[string]int) []string {
	var names []string
	for name, pid := range a {
		if b[name] == pid {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (sh *shop) eventually(what string, holds func() bool) {
	sh.t.Helper()
	deadline := time.After(testLimit)
	for !holds() {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-deadline:
			sh.t.Fatalf("waited in vain until %s", what)
		}
	}
}

func wants(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is missing in:\n%s", part, text)
		}
	}
}

var everything = []string{"cartmanager", "catalogue", "checkoutmanager", "gateway", "inventory", "mariadb", "payments", "rabbitmq"}

// Z1, Z12: one command starts everything, another stops it; twice is once.
func TestAShopStartsScalesRestsAndStartsAgain(t *testing.T) {
	t.Parallel()
	sh := newShop(t)

	said := sh.must(sh.Up)
	wants(t, said, "starting MariaDB on port", "migrating the databases and the broker", "ready: gateway", "one order at http://127.0.0.1:", "/documentation")
	first := sh.pids()
	if got := same(first, first); !slices.Equal(got, everything) {
		t.Fatalf("running: %q, want %q", got, everything)
	}
	wants(t, sh.must(sh.Status), "SERVICE", "inventory", "rabbitmq")
	if got := sh.shown(); !slices.Equal(got, everything) {
		t.Errorf("shown are the processes %q, want %q", got, everything)
	}

	said = sh.must(sh.Up)
	wants(t, said, "nothing to change")
	if strings.Contains(said, "one order") || len(same(first, sh.pids())) != len(first) {
		t.Errorf("up changed a running shop:\n%s", said)
	}

	said = sh.must(sh.Up, "--scale", "inventory=2")
	wants(t, said, "starting inventory-2", "replacing checkoutmanager", "replacing gateway")
	scaled := sh.pids()
	if got, want := same(first, scaled), []string{"catalogue", "inventory", "mariadb", "payments", "rabbitmq"}; !slices.Equal(got, want) {
		t.Errorf("untouched by the scaling: %q, want %q", got, want)
	}
	if got := sh.shown(); len(got) != len(everything)+1 {
		t.Errorf("shown after the scaling are the processes %q", got)
	}

	wants(t, sh.must(sh.Down), "Stopped")
	if left, shown := sh.pids(), sh.shown(); len(left) > 0 || len(shown) > 0 {
		t.Errorf("still running: %v, shown %q", left, shown)
	}
	if said, err := sh.run(sh.Status); !errors.Is(err, ErrNotReady) {
		t.Errorf("status of a stopped shop: %v\n%s", err, said)
	}

	said = sh.must(sh.Up)
	if strings.Contains(said, "one order") || sh.pids()["inventory-2"] == 0 {
		t.Errorf("up did not start what was there:\n%s", said)
	}
	sh.must(sh.Up, "--scale=inventory=1")
	if sh.pids()["inventory-2"] != 0 {
		t.Error("the surplus replica still runs")
	}

	if said, err := sh.run(sh.Reset); err == nil || len(sh.pids()) == 0 {
		t.Errorf("reset went on without a yes: %v\n%s", err, said)
	}
	sh.must(sh.Reset, "--yes")
	if _, err := os.Stat(sh.in(mariaDB)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the data is still there: %v", err)
	}
}

func TestWhatDiesIsStartedAgain(t *testing.T) {
	t.Parallel()
	sh := newShop(t)
	sh.must(sh.Up)
	before := sh.pids()
	for _, name := range []string{"inventory", mariaDB, rabbitMQ} {
		if err := syscall.Kill(before[name], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	sh.eventually("all three run again", func() bool {
		now := sh.pids()
		for _, name := range []string{"inventory", mariaDB, rabbitMQ} {
			if now[name] == 0 || now[name] == before[name] {
				return false
			}
		}
		return true
	})
	wants(t, sh.must(sh.Up), "nothing to change")
	if got := same(before, sh.pids()); len(got) != len(everything)-3 {
		t.Errorf("untouched: %q", got)
	}
}

func TestAKilledSupervisorTakesItsProcessesAlong(t *testing.T) {
	t.Parallel()
	sh := newShop(t)
	sh.must(sh.Up)
	before := sh.pids()
	pid, err := holder(sh.in(keeperLock))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	wants(t, sh.must(sh.Up), "starting MariaDB")
	if got := same(before, sh.pids()); len(got) > 0 {
		t.Errorf("still the same: %q", got)
	}
	for name, pid := range before {
		if birth(pid) != 0 {
			t.Errorf("%s (process %d) was left behind", name, pid)
		}
	}
}

func TestANewBuildReplacesTheServicesAndNotTheServers(t *testing.T) {
	t.Parallel()
	sh := newShop(t)
	sh.must(sh.Up)
	var sec secrets // a new password, which somebody writes into the file, is migrate's to spread
	if err := readJSON(sh.in(secretsFile), &sec); err != nil {
		t.Fatal(err)
	}
	sec.Broker["payments"] = "another"
	if err := writeJSON(sh.in(secretsFile), sec); err != nil {
		t.Fatal(err)
	}
	wants(t, sh.must(sh.Up), "migrating", "replacing payments")
	before := sh.pids()

	text, err := os.ReadFile(sh.Program)
	if err != nil {
		t.Fatal(err)
	}
	sh.Program = filepath.Join(t.TempDir(), "rebuilt")
	if err := os.WriteFile(sh.Program, append(text, "a later build"...), 0o700); err != nil {
		t.Fatal(err)
	}
	wants(t, sh.must(sh.Up), "migrating", "replacing gateway")
	if got, want := same(before, sh.pids()), []string{"mariadb", "rabbitmq"}; !slices.Equal(got, want) {
		t.Errorf("untouched: %q, want %q", got, want)
	}
	kept, err := filepath.Glob(sh.in(binDir, "*"))
	if err != nil || len(kept) != 1 {
		t.Errorf("kept programs: %q, %v; want one", kept, err)
	}
}

func TestAServiceThatDiesAtOnceIsShownWithItsLog(t *testing.T) {
	t.Parallel()
	sh := newShop(t, "CARTWRIGHT_BROKEN=PAYMENTS")
	said, err := sh.run(sh.Up)
	if err == nil {
		t.Fatalf("up took it for ready:\n%s", said)
	}
	wants(t, err.Error(), "payments has ended 3 times", "| PAYMENTS is out of order")
	if _, err := sh.run(sh.Status); !errors.Is(err, ErrNotReady) {
		t.Errorf("status: %v", err)
	}
	sh.Environ = append(sh.Environ, "CARTWRIGHT_BROKEN=") // an empty value forgets the setting
	wants(t, sh.must(sh.Up), "ready: payments")
}

func TestAPortInUseIsNamedWithItsSetting(t *testing.T) {
	t.Parallel()
	sh := newShop(t)
	address, _ := sh.setting("INVENTORY_LISTEN")
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	said, err := sh.run(sh.Up)
	if err == nil {
		t.Fatalf("up started anyway:\n%s", said)
	}
	wants(t, err.Error(), "inventory cannot listen on "+address, "address already in use (CARTWRIGHT_INVENTORY_LISTEN moves it")
}

func TestEnvPrintsExportLinesAndNothingElse(t *testing.T) {
	t.Parallel()
	sh := newShop(t, "CARTWRIGHT_NAMESPACE=it's")
	if _, err := sh.run(sh.Env); !errors.Is(err, errNoShop) {
		t.Errorf("without a shop: %v", err)
	}
	sh.must(sh.Up)
	for _, line := range strings.Split(strings.TrimSpace(sh.must(sh.Env)), "\n") {
		if !strings.HasPrefix(line, "export CARTWRIGHT_") || !strings.HasSuffix(line, "'") {
			t.Errorf("line %q", line)
		}
	}
	wants(t, sh.must(sh.Env), "export CARTWRIGHT_ADMIN_DSN='cartwright_admin:", "export CARTWRIGHT_NAMESPACE='it'\\''s'")
	info, err := os.Stat(sh.in(secretsFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("secrets: %v, %v; want mode 0600", info.Mode(), err)
	}
}

func TestServersRunsACommandBesideServers(t *testing.T) {
	t.Parallel()
	sh := newShop(t)
	_, err := sh.run(sh.Servers, "sh", "-c", `test "$CARTWRIGHT_TEST_REQUIRE" = 1 && echo "$CARTWRIGHT_TEST_ADMIN_DSN" && exit 7`)
	var exit *ExitError
	if !errors.As(err, &exit) || exit.Status != 7 {
		t.Errorf("error = %v, want the command's status 7", err)
	}
	wants(t, sh.said.String(), "cartwright_admin:")
}

// The servers that are there already are used, and a run that ended well is noted in the row of
// its database, the other row left alone.
func TestServersTakesThoseThatThereAreAndRecordsTheRun(t *testing.T) {
	t.Parallel()
	sh := newShop(t)
	given, stop, err := startTestServers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}()
	sh.Environ = append(sh.Environ, prefix+"TEST_ADMIN_DSN="+given.adminDSN, prefix+"TEST_AMQP_URL="+given.amqpURL)
	if _, err := sh.run(sh.Servers, "true"); err == nil || !strings.Contains(err.Error(), "CARTWRIGHT_TEST_BROKER_ADMIN_URL") {
		t.Errorf("with two of three addresses: %v", err)
	}
	sh.Environ = append(sh.Environ, prefix+"TEST_BROKER_ADMIN_URL="+given.brokerAdminURL)

	file := filepath.Join(t.TempDir(), "tested.md")
	before := "before\n| MariaDB |\n| MySQL |\nafter\n"
	if err := os.WriteFile(file, []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := sh.run(sh.Servers, "--record", file, "false"); err == nil {
		t.Error("a command that failed went well")
	}
	if text, _ := os.ReadFile(file); string(text) != before {
		t.Errorf("a run that failed is recorded: %s", text)
	}
	said := sh.must(sh.Servers, "--record", file, "sh", "-c", `echo "$CARTWRIGHT_TEST_ADMIN_DSN"`)
	wants(t, said, given.adminDSN)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`(?m)^\| (MariaDB|MySQL) [0-9.]+ \| RabbitMQ [0-9.]+ \| Go [^|]+ \| \d+ processors \| \d+s \| \d{4}-\d\d-\d\d \|$`)
	if rows := row.FindAllString(string(text), -1); len(rows) != 1 || strings.Count(string(text), "\n") != 4 {
		t.Errorf("recorded:\n%s", text)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := sh.run(sh.Servers, "--record", file, "true"); err == nil {
		t.Error("recorded in a file that has no row for it")
	}
}

func TestLogsFollowsAcrossAFullFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, err := openLog(filepath.Join(dir, "inventory.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l.max = 20
	write := func(text string) {
		if _, err := io.WriteString(l, text); err != nil {
			t.Fatal(err)
		}
	}
	write("one\n")
	var out safeBuffer
	r := &logReader{path: l.path, out: &out}
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var following sync.WaitGroup
	following.Go(func() {
		if err := followAll(ctx, []*logReader{r}); err != nil {
			t.Error(err)
		}
	})
	sh := &shop{t: t}
	has := func(text string) func() bool { return func() bool { return out.String() == text } }
	write("half a ")
	write("line\n")
	sh.eventually("the line came", has("one\nhalf a line\n"))
	write("in a new file\n")
	sh.eventually("the line of the new file came", has("one\nhalf a line\nin a new file\n"))
	cancel()
	following.Wait()
	if old, err := os.ReadFile(l.path + ".1"); err != nil || string(old) != "one\nhalf a line\n" {
		t.Errorf("put aside: %q, %v", old, err)
	}
}

type safeBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
