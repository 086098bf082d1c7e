package stage

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

// The test program stands in for the program whose subcommands the stage runs.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-test.") {
		if err := standIn(os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func standIn(command string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	switch command {
	case "supervise":
		s, err := New()
		if err != nil {
			return err
		}
		return s.Supervise(ctx, nil)
	case "migrate":
		fmt.Println("migrated with", os.Getenv("CARTWRIGHT_ADMIN_DSN"))
		return nil
	case "demo":
		fmt.Println("one order at", os.Getenv("CARTWRIGHT_URL"))
		return nil
	}
	return serve(ctx, strings.ToUpper(command))
}

// serve is a service that is ready at once, or, where the settings say so, dies at once.
func serve(ctx context.Context, upper string) error {
	if os.Getenv("CARTWRIGHT_BROKEN") == upper {
		return fmt.Errorf("%s is out of order", upper)
	}
	l, err := net.Listen("tcp", os.Getenv("CARTWRIGHT_"+upper+"_LISTEN"))
	if err != nil {
		return err
	}
	defer l.Close()
	for _, pair := range os.Environ() {
		if strings.Contains(pair, "_ADDR=") {
			fmt.Println(pair)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/readyz", func(http.ResponseWriter, *http.Request) {})
	srv := &http.Server{Addr: os.Getenv("CARTWRIGHT_" + upper + "_DEBUG_LISTEN"), Handler: mux}
	failed := make(chan error, 1)
	go func() { failed <- srv.ListenAndServe() }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return srv.Close()
	}
}
