// Package debugport serves what operators ask of a process, on a port of its own: is it alive, is
// it ready, its metrics and its profiles.
package debugport

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	checkTimeout  = 800 * time.Millisecond // for all checks together: a prober waits about a second
	headerTimeout = 5 * time.Second
	stopTimeout   = 2 * time.Second
)

// Check is one thing that a process needs in order to be useful.
type Check struct {
	Name string
	Ask  func(context.Context) error
	Note func() string // if any, what to say of it while all is well; "ok" when it returns nothing
}

// Serve answers on addr until ctx ends:
//
//	/livez         200 while the process can answer at all
//	/readyz        200 when every check passes, else 503; the body names each check
//	/metrics       in Prometheus' text format
//	/debug/pprof/  Go's profiles
func Serve(ctx context.Context, addr string, reg *prometheus.Registry, checks []Check) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) { answer(r.Context(), w, checks) })
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)

	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("debug port: %w", err)
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: headerTimeout}
	stopped := make(chan error, 1)
	go func() {
		<-ctx.Done()
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		err := server.Shutdown(end)
		if errors.Is(err, context.DeadlineExceeded) {
			err = server.Close() // somebody takes a profile, which may last minutes
		}
		stopped <- err
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("debug port: %w", err)
	}
	return <-stopped
}

// Run asks all checks at once and returns what each said; nil is well.
func Run(ctx context.Context, checks []Check) (results map[string]error, ready bool) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	type said struct {
		name string
		err  error
	}
	answers := make(chan said, len(checks))
	for _, c := range checks {
		go func() { answers <- said{c.Name, c.Ask(ctx)} }()
	}
	results, ready = map[string]error{}, true
	for range checks {
		a := <-answers
		results[a.name] = a.err
		ready = ready && a.err == nil
	}
	return results, ready
}

// word is what people read of a check.
func (c Check) word(err error) string {
	if err != nil {
		return err.Error()
	}
	if c.Note != nil {
		if note := c.Note(); note != "" {
			return note
		}
	}
	return "ok"
}

func answer(ctx context.Context, w http.ResponseWriter, checks []Check) {
	results, ready := Run(ctx, checks)
	words := map[string]string{}
	for _, c := range checks {
		words[c.Name] = c.word(results[c.Name])
	}
	w.Header().Set("Content-Type", "application/json")
	if !ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	json.NewEncoder(w).Encode(map[string]any{"ready": ready, "checks": words}) //nolint:errcheck // the prober has gone
}
