// Package lifecycle runs the parts of a process together, and stops them one by one in the
// reverse of the order in which they were started.
package lifecycle

import (
	"context"
	"fmt"
	"log/slog"
)

// Part is something that runs until its context ends.
type Part struct {
	Name string
	Run  func(context.Context) error
}

// Run starts all parts, in order, and returns when all have ended. They are stopped when ctx ends
// or when any of them ends by itself: the last first, each with all its work done before the one
// it may lean on is stopped. The error is the first that any part returned.
func Run(ctx context.Context, log *slog.Logger, parts ...Part) error {
	type end struct {
		part int
		err  error
	}
	ends := make(chan end, len(parts))
	stops := make([]context.CancelFunc, len(parts))
	ended := make([]chan struct{}, len(parts))
	for i, p := range parts {
		own, stop := context.WithCancel(context.WithoutCancel(ctx))
		stops[i], ended[i] = stop, make(chan struct{})
		go func() {
			defer close(ended[i])
			ends <- end{i, p.Run(own)}
		}()
	}
	var first error
	select {
	case <-ctx.Done():
		log.Info("stopping")
	case e := <-ends:
		first = fmt.Errorf("%s: %w", parts[e.part].Name, orEnded(e.err))
		log.Error("stopping", "because", first)
	}
	for i := len(parts) - 1; i >= 0; i-- {
		stops[i]()
		<-ended[i]
	}
	close(ends)
	for e := range ends {
		if first == nil && e.err != nil {
			first = fmt.Errorf("%s: %w", parts[e.part].Name, e.err)
		}
	}
	return first
}

func orEnded(err error) error {
	if err == nil {
		return fmt.Errorf("ended by itself")
	}
	return err
}
