package debugport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve starts a port on an address that nobody else uses, and returns how to ask it and how to
// stop it.
func serve(t *testing.T, checks ...Check) (get func(path string) (int, string), stop func() error) {
	t.Helper()
	addr := fmt.Sprintf("127.%d.%d.%d:9000", 1+rand.IntN(250), 1+rand.IntN(250), 1+rand.IntN(250))
	reg := prometheus.NewRegistry()
	reg.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "orders_total", Help: "Orders."}))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, addr, reg, checks) }()
	get = func(path string) (int, string) {
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		for end := time.Now().Add(10 * time.Second); ; {
			resp, err := client.Get("http://" + addr + path) //nolint:noctx // our own server
			if err == nil {
				defer resp.Body.Close()
				body, _ := io.ReadAll(resp.Body)
				return resp.StatusCode, string(body)
			}
			if time.Now().After(end) {
				t.Error(err)
				return 0, ""
			}
		}
	}
	return get, func() error { cancel(); return <-ended }
}

func TestReadyWhileEveryCheckPasses(t *testing.T) { // Z7
	t.Parallel()
	well := Check{Name: "database", Ask: func(context.Context) error { return nil }}
	ill := Check{Name: "broker", Ask: func(context.Context) error { return errors.New("connection refused") }}
	hanging := Check{Name: "broker", Ask: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
	noted := func(c Check, note string) Check { c.Note = func() string { return note }; return c }
	for name, c := range map[string]struct {
		checks []Check
		code   int
		says   string
	}{
		"nothing to check":  {nil, 200, `"ready":true`},
		"all well":          {[]Check{well}, 200, `{"checks":{"database":"ok"},"ready":true}`},
		"one is ill":        {[]Check{well, ill}, 503, `{"checks":{"broker":"connection refused","database":"ok"},"ready":false}`},
		"well, with a note": {[]Check{noted(well, "paused")}, 200, `{"checks":{"database":"paused"},"ready":true}`},
		"an empty note":     {[]Check{noted(well, "")}, 200, `{"checks":{"database":"ok"},"ready":true}`},
		"ill, with a note":  {[]Check{noted(ill, "paused")}, 503, `{"checks":{"broker":"connection refused"},"ready":false}`},
		"one hangs":         {[]Check{well, hanging}, 503, `{"checks":{"broker":"context deadline exceeded","database":"ok"},"ready":false}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			get, stop := serve(t, c.checks...)
			if code, body := get("/readyz"); code != c.code || !strings.Contains(body, c.says) {
				t.Errorf("ready: %d %s, want %d %s", code, body, c.code, c.says)
			}
			if code, _ := get("/livez"); code != 200 {
				t.Errorf("live: %d", code)
			}
			if err := stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestMetricsAndProfilesAreServed(t *testing.T) { // Z9
	t.Parallel()
	get, stop := serve(t)
	for path, want := range map[string]string{"/metrics": "orders_total 0", "/debug/pprof/": "goroutine", "/debug/pprof/goroutine?debug=1": "goroutine profile:", "/debug/pprof/cmdline": "debugport"} {
		if code, body := get(path); code != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d, without %q", path, code, want)
		}
	}
	if code, _ := get("/"); code != 404 {
		t.Errorf("/: %d", code)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// A profile may take minutes: the process does not wait for it, and it is no fault either.
func TestStoppingCutsLongAnswersOff(t *testing.T) {
	t.Parallel()
	get, stop := serve(t)
	get("/livez")
	answer := make(chan string)
	go func() { _, body := get("/debug/pprof/trace?seconds=600"); answer <- body }()
	waitForTrace(t, get)
	began := time.Now()
	err := stop()
	if took := time.Since(began); err != nil || took > 2*stopTimeout {
		t.Errorf("%v after %s", err, took)
	}
	<-answer
}

// waitForTrace returns once a trace is being taken.
func waitForTrace(t *testing.T, get func(string) (int, string)) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		if _, stacks := get("/debug/pprof/goroutine?debug=1"); strings.Contains(stacks, "pprof.Trace") {
			return
		}
	}
	t.Error("no trace is taken")
}

func TestTakenPortIsAnError(t *testing.T) {
	t.Parallel()
	if err := Serve(t.Context(), "127.0.0.1:notaport", prometheus.NewRegistry(), nil); err == nil || !strings.HasPrefix(err.Error(), "debug port: ") {
		t.Errorf("%v", err)
	}
}
