package floor

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"cartwright/internal/testenv"
)

// The test program stands in for the program, which the floor starts again for each of its parts.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "bench" && os.Args[2] == "floor" {
		os.Exit(standIn(os.Args[3:]))
	}
	testenv.Main(m)
}

func standIn(args []string) (status int) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if _, err := Run(ctx, os.Stdout, args); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
