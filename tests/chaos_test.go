package tests

import (
	"bytes"
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"cartwright/chaos"
	"cartwright/internal/settings"
)

const (
	// chaosMinutes is a run of 25 s; starting the shop and waiting until it is at rest come on top.
	chaosMinutes = "0.42"
	chaosLimit   = 8 * time.Minute
	// chaosFaults, of as many kinds, are done in such a run on the slowest machine.
	chaosFaults = 4
)

// A short run of chaos, with another seed each time: a shop of its own is broken in several ways while
// people buy, and nothing is lost. It leaves nothing behind. A longer one: cartwright chaos --minutes 10.
func TestChaosLosesNothing(t *testing.T) {
	home := t.TempDir()
	seed := rand.Uint64N(1_000_000)
	t.Logf("seed %d", seed)
	r := runChaos(t, home, "--minutes", chaosMinutes, "--seed", strconv.FormatUint(seed, 10), "--json")
	injected := r.Injected()
	done := 0
	for _, n := range injected {
		done += n
	}
	t.Logf("%d faults of %d kinds, %d checkouts, at rest after %.1f s", done, len(injected), r.Checkouts(), r.Rest)
	if done < chaosFaults || len(injected) < chaosFaults {
		t.Errorf("only %d faults of %d kinds were done: %+v", done, len(injected), r.Faults)
	}
	if r.Checkouts() == 0 || r.Books.Paid == 0 {
		t.Errorf("%d checkouts, %d paid: nobody could buy anything", r.Checkouts(), r.Books.Paid)
	}
	if len(r.Violations) > 0 {
		t.Errorf("seed %d: %+v", seed, r.Violations)
	}
	if left, err := filepath.Glob(filepath.Join(home, "chaos", "*")); err != nil || len(left) > 0 && !t.Failed() {
		t.Errorf("left behind: %q, %v", left, err)
	}
}

// runChaos runs the command as a process of the real program, and asks it to end when the time is up:
// then it heals and ends its shop.
func runChaos(t *testing.T, home string, args ...string) (r chaos.Report) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), chaosLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, build(t, ""), append([]string{"chaos"}, args...)...)
	cmd.Env = append(os.Environ(), settings.Prefix+"HOME="+home)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = time.Minute
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	if jsonErr := json.Unmarshal(out.Bytes(), &r); jsonErr != nil {
		t.Fatalf("%v, %v\n%s\n%s", err, jsonErr, said.String(), out.String())
	}
	if err != nil {
		t.Errorf("%v\n%s", err, said.String())
		logsOf(t, home)
	}
	return r
}

// logsOf shows what the shop said last, since the folder goes with the test.
func logsOf(t *testing.T, home string) {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(home, "chaos", "*", "shop", "log", "*.log"))
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err == nil && strings.TrimSpace(string(text)) != "" {
			t.Logf("%s:\n%s", filepath.Base(path), text[max(0, len(text)-3000):])
		}
	}
}
