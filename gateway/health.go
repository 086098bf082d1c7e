package gateway

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health/grpc_health_v1"

	"cartwright/internal/fault"
	"cartwright/internal/identity"
	"cartwright/internal/messaging"
)

const (
	healthInterval = 250 * time.Millisecond // with two asks, a lost database is known within a second
	healthTimeout  = 500 * time.Millisecond
	// strikesMax is how many times in a row a service must say that it is not serving. One may be
	// a replica that starts or stops.
	strikesMax = 2
)

// health knows which workers have said that they cannot work, because their database is away.
// Jobs for those are refused at the door, where the shopper can be told at once. A worker that
// says nothing at all is no reason to refuse: jobs wait on the queue until it is back.
type health struct {
	services map[messaging.Queue][]*replica
}

// replica is one address at which a service is asked. Behind a name there may be several
// processes, which are then asked in turn.
type replica struct {
	conn  *grpc.ClientConn
	state atomic.Int32 // asks in a row that were answered with "not serving"; serving or silent
}

const (
	serving = -1
	silent  = 0
)

func newHealth(addrs map[messaging.Queue]string, self *identity.Identity) (*health, error) {
	h := &health{services: map[messaging.Queue][]*replica{}}
	for queue, list := range addrs {
		targets := []string{list}
		if !strings.Contains(list, "://") {
			targets = strings.Split(list, ",")
		}
		for _, target := range targets {
			conn, err := dialHealth(strings.TrimSpace(target), self.Client(string(queue))) // a queue has the name of its service
			if err != nil {
				return nil, errors.Join(fmt.Errorf("%s: address %q: %w", queue, target, err), h.close())
			}
			h.services[queue] = append(h.services[queue], &replica{conn: conn})
		}
	}
	return h, nil
}

// dialHealth makes a client that asks each replica, also one that says it is not serving: a
// client that balances by health would hide exactly those.
func dialHealth(target string, creds credentials.TransportCredentials) (*grpc.ClientConn, error) {
	return grpc.NewClient(target,
		grpc.WithTransportCredentials(creds),
		grpc.WithDisableServiceConfig(),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}]}`),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: healthTimeout, Backoff: backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, MaxDelay: time.Second}}),
	)
}

// refuses returns fault.Unavailable when the workers of a queue have said that they cannot work.
func (h *health) refuses(queue messaging.Queue) error {
	away := false
	for _, r := range h.services[queue] {
		state := r.state.Load()
		if state == serving {
			return nil
		}
		away = away || state >= strikesMax
	}
	if !away {
		return nil
	}
	return fault.New(fault.Unavailable, "unavailable", "%s is not available now", queue)
}

// Run asks all replicas until ctx ends.
func (h *health) Run(ctx context.Context) error {
	var all errgroup.Group
	for _, replicas := range h.services {
		for _, r := range replicas {
			all.Go(func() error { r.watch(ctx); return nil })
		}
	}
	return errors.Join(all.Wait(), h.close())
}

func (r *replica) watch(ctx context.Context) {
	client := grpc_health_v1.NewHealthClient(r.conn)
	tick := time.NewTicker(healthInterval)
	defer tick.Stop()
	for {
		r.ask(ctx, client)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (r *replica) ask(ctx context.Context, client grpc_health_v1.HealthClient) {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	answer, err := client.Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	switch {
	case err != nil:
		r.state.Store(silent)
	case answer.GetStatus() == grpc_health_v1.HealthCheckResponse_NOT_SERVING:
		r.state.Store(max(r.state.Load(), silent) + 1)
	default:
		r.state.Store(serving)
	}
}

func (h *health) close() (err error) {
	for _, replicas := range h.services {
		for _, r := range replicas {
			err = errors.Join(err, r.conn.Close())
		}
	}
	return err
}
