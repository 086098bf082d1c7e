package main

import (
	"context"
	"io"
	"os"

	"cartwright/chaos"
	"cartwright/stage"
)

// chaosOn makes the command that breaks a shop of its own, in a folder beside the stage's.
func chaosOn(out io.Writer, st *stage.Stage) func(context.Context, []string) error {
	return func(ctx context.Context, args []string) error {
		easeCollector(ctx)
		return chaos.Command{Out: out, Err: os.Stderr, Home: st.Home, Program: st.Program, Environ: os.Environ()}.Run(ctx, args)
	}
}
