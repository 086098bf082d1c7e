// Package chaos starts a whole shop of its own, buys from it, and breaks it meanwhile: its processes,
// its servers, and everything between them. Then it heals the shop and holds what clients were told to
// what the databases and queues say. What is broken follows from a seed.
package chaos

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"cartwright/internal/progress"
	"cartwright/stage"
)

// ErrWrong says that the shop was wrong, and that what shows it is kept.
var ErrWrong = errors.New("the shop was wrong")

// Command is chaos as a command.
type Command struct {
	Out     io.Writer // the report
	Err     io.Writer // what it is doing
	Home    string    // its folder is chaos/<run> in there
	Program string    // this program's executable
	Environ []string
}

// scale is how many replicas of a service there are: more than one wherever two could disagree.
var scale = map[string]int{"cartmanager": 2, "checkoutmanager": 2, "inventory": 2, "gateway": 2}

// shopSettings are those of the shop. What waits for minutes in a real one waits for seconds, so that
// a run of minutes sees it.
var shopSettings = []string{
	"CARTWRIGHT_PAYMENTS_TEST_SLOW=3s",
	"CARTWRIGHT_GATEWAY_ANSWER_TIMEOUT=3s",
}

// Run runs the seeds that the arguments ask for. Errors: ErrWrong when the shop was wrong under any.
func (c Command) Run(ctx context.Context, args []string) error {
	o, err := parseOptions(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(c.Out, strings.TrimSpace(help))
		return nil
	}
	if err != nil {
		return err
	}
	var reports []*Report
	var wrong []error
	for _, seed := range o.seeds {
		r, err := c.run(ctx, o, seed)
		if err != nil {
			return fmt.Errorf("chaos, seed %d: %w", seed, err)
		}
		reports, wrong = append(reports, r), append(wrong, r.wrong())
		if o.document == "" {
			wrong = append(wrong, r.write(c.Out, o.json))
		}
	}
	if o.document != "" {
		wrong = append(wrong, writePage(o, args, reports))
	}
	return errors.Join(wrong...)
}

// run runs one seed on a shop of its own.
func (c Command) run(ctx context.Context, o options, seed uint64) (*Report, error) {
	began := time.Now().UTC()
	name := fmt.Sprintf("%s-%d", began.Format("20060102-150405"), seed)
	folder := filepath.Join(c.Home, "chaos", name)
	if err := os.MkdirAll(folder, 0o755); err != nil { // the servers' own users must be able to pass
		return nil, err
	}
	r := &run{
		options: o, seed: seed, name: fmt.Sprintf("chaos-%d", seed), folder: folder, view: progress.New(c.Err), links: newLinks(), judge: newJudge(),
		report: &Report{Seed: seed, Minutes: o.minutes, Command: o.command(seed), Began: began, Commit: commit(c.Environ)},
	}
	r.view.Say("chaos with seed %d for %g minutes, in %s", seed, o.minutes, folder)
	err := r.prepare(ctx, c)
	if err == nil {
		err = r.play(ctx)
	}
	// What went wrong may be the shop's doing; who gives a run up wants nothing of it.
	keep := o.keep || ctx.Err() == nil && (err != nil || len(r.judge.found) > 0)
	err = errors.Join(err, r.clean(context.WithoutCancel(ctx), keep))
	if keep {
		r.report.Folder = folder
	}
	return r.report, err
}

// commit is the version of the program, where the environment says it.
func commit(environ []string) string {
	for _, pair := range environ {
		if value, is := strings.CutPrefix(pair, "CARTWRIGHT_COMMIT="); is {
			return value
		}
	}
	return ""
}

// prepare brings up the shop, with a proxy on each way.
func (r *run) prepare(ctx context.Context, c Command) error {
	ports, err := stage.FreePorts(slices.Max(slices.Collect(maps.Values(scale))))
	if err != nil {
		return err
	}
	foreign := func(pair string) bool { return strings.HasPrefix(pair, "CARTWRIGHT_") }
	environ := slices.Concat(slices.DeleteFunc(slices.Clone(c.Environ), foreign), ports, shopSettings)
	said, err := os.Create(filepath.Join(r.folder, "stage.log"))
	if err != nil {
		return err
	}
	r.stageLog = said
	r.stage = &stage.Stage{
		Home: filepath.Join(r.folder, "shop"), Environ: environ, Program: c.Program, Out: said,
		Detour: r.links.detour(context.WithoutCancel(ctx)), // the shop is ended through them
	}
	r.view.Say("starting a shop")
	r.shop, err = r.stage.Start(ctx, scale)
	return err
}
