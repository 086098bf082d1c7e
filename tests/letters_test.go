package tests

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"cartwright/internal/lifecycle"
	"cartwright/internal/settings"
	"cartwright/internal/testenv"
	"cartwright/jobs"
	schema "cartwright/sql"
)

// command prepares the program as people run it, with the settings of an administrator.
func (f *fleet) command(args ...string) *exec.Cmd {
	command := exec.CommandContext(f.t.Context(), f.program, args...)
	for key, value := range map[string]string{"AMQP_URL": f.brokerURL, "MYSQL_DSN": f.adminDSN, "ADMIN_DSN": f.adminDSN, "NAMESPACE": f.namespace,
		"TLS_DIR": f.certs, "CHECKOUTMANAGER_ADDR": f.env["CHECKOUTMANAGER_ADDR"]} {
		command.Env = append(command.Env, settings.Prefix+key+"="+value)
	}
	return command
}

// says runs the program and returns what it prints.
func (f *fleet) says(args ...string) string {
	f.t.Helper()
	out, err := f.command(args...).CombinedOutput()
	if err != nil {
		f.t.Fatalf("%q: %v\n%s", args, err, out)
	}
	return string(out)
}

// recorded counts what was done by hand with dead letters of checkouts.
func (f *fleet) recorded() (n int) {
	f.t.Helper()
	if err := f.database(schema.Checkouts).QueryRow("SELECT COUNT(*) FROM interventions").Scan(&n); err != nil {
		f.t.Fatal(err)
	}
	return n
}

// B4: the jobs of a crowd are among the dead letters. The replay of all of them is killed again and again in
// the midst of it: every job is on one of the two queues after each kill, and in the end each order is
// paid once.
func TestAReplayThatIsKilledLosesNothing(t *testing.T) {
	t.Parallel()
	const crowd, kills = 24, 8
	f := newFleet(t, options{env: map[string]string{"GATEWAY_ANSWER_TIMEOUT": shortAnswer.String()}})
	f.product("tea", 100, crowd)
	all := f.crowd("c", crowd, "")
	f.fillAll(all, "tea")
	f.pause(jobs.Checkoutmanager, "ann")
	f.areAccepted(all)
	w, dead := f.wire(), jobs.Checkoutmanager.Dead()
	for range all {
		w.put("cartwright.queues", f.namespace+string(dead), w.take(jobs.Checkoutmanager))
	}
	testenv.Eventually(t, readyLimit, "all jobs are dead letters", func() bool { return w.depth(dead).Waiting == crowd })

	for i := range kills {
		if w.depth(dead).Waiting == 0 {
			break // it was quicker
		}
		before := f.recorded()
		replay := f.command("queues", "replay", string(dead), "--all", "--by", "ann")
		if err := replay.Start(); err != nil {
			t.Fatal(err)
		}
		testenv.Eventually(t, readyLimit, "it begins to move letters", func() bool { return f.recorded() > before })
		lifecycle.Pause(t.Context(), time.Duration(i)*10*time.Millisecond)
		replay.Process.Kill() //nolint:errcheck // it may have ended
		replay.Wait()         //nolint:errcheck // how it ended is what differs
		testenv.Eventually(t, readyLimit, "nothing is in anybody's hand", func() bool {
			return w.depth(dead).Waiting+w.depth(jobs.Checkoutmanager).Waiting >= crowd
		})
		t.Logf("killed: %d are dead letters, %d are on the work queue", w.depth(dead).Waiting, w.depth(jobs.Checkoutmanager).Waiting)
	}
	f.says("queues", "replay", string(dead), "--all", "--by", "bob")
	if n := w.depth(dead).Waiting; n != 0 {
		t.Errorf("%d dead letters are left", n)
	}
	f.says("queues", "resume", string(jobs.Checkoutmanager), "--by", "ann")
	for _, b := range all {
		if o, n := f.ends(b.order), f.charges(b.order); o.Status != "PAID" || n != 1 {
			t.Errorf("%s: order is %s, with %d charges", b.client, o.Status, n)
		}
	}
	w.settled(jobs.Checkoutmanager)
	if n := w.depth(dead).Waiting; n != 0 {
		t.Errorf("%d were buried again", n)
	}
	if got := f.stock("tea"); got != (stock{}) {
		t.Errorf("stock: got %+v, want none", got)
	}
	log := f.says("queues", "log", "--limit", "1000")
	for _, b := range all {
		if !strings.Contains(log, fmt.Sprintf("replay  %s  %s", jobs.Checkoutmanager, b.order)) {
			t.Errorf("nothing is on record of %s", b.order)
		}
	}
	f.agrees()
}
