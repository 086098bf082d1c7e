package main

import (
	"context"
	"io"
	"os"
	"runtime"

	"cartwright/bench"
	"cartwright/stage"
)

// benchmark makes the command that loads a shop. Its processes can be seen when it is the stage's.
func benchmark(out io.Writer, st *stage.Stage) func(context.Context, []string) error {
	return func(ctx context.Context, args []string) error {
		if len(args) > 0 && args[0] == "floor" { // whose processes are as Go makes them
			return bench.Command{Out: out, Err: os.Stderr}.Run(ctx, args)
		}
		easeCollector(ctx)
		if _, chosen := os.LookupEnv("GOMAXPROCS"); !chosen {
			runtime.GOMAXPROCS(max(1, runtime.NumCPU()/2)) // as the shop's processes do, which need the rest
		}
		return bench.Command{Out: out, Err: os.Stderr, Environ: os.Environ(), Processes: st.Processes}.Run(ctx, args)
	}
}
