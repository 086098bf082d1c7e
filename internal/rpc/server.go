// Package rpc is the authority on gRPC between our processes: how a server is run and stopped,
// how a client finds and shares its calls among replicas, and how errors keep their kind.
package rpc

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"cartwright/internal/debugport"
	"cartwright/internal/fault"
	"cartwright/internal/identity"
)

const (
	messageMax     = 4 << 20
	streamsMax     = 4096
	callTimeout    = 10 * time.Second       // for a caller who set no deadline
	connectionAge  = 5 * time.Second        // then clients look again, and find new replicas
	healthInterval = 250 * time.Millisecond // so a database that is gone is known within half a second
	stopTimeout    = 15 * time.Second
)

// Server is what one process serves.
type Server struct {
	Addr     string
	Log      *slog.Logger
	Register func(grpc.ServiceRegistrar)
	// Identity is shown to callers, and knows who they are. Allows says whether caller may call a
	// method of the server; without it nobody may call anything, unless Identity is insecure.
	Identity *identity.Identity
	Allows   func(caller, called, method string) bool
	// Checks decide the standard health service's answer.
	Checks []debugport.Check
}

// Run serves until ctx ends, then finishes the calls in hand, for a bounded time.
func (s Server) Run(ctx context.Context) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.Addr)
	if err != nil {
		return fmt.Errorf("gRPC port: %w", err)
	}
	server := grpc.NewServer(
		grpc.MaxRecvMsgSize(messageMax),
		grpc.MaxConcurrentStreams(streamsMax),
		grpc.Creds(s.Identity.Server()),
		grpc.ChainUnaryInterceptor(s.admitCall, s.guard),
		grpc.ChainStreamInterceptor(s.admitStream),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: connectionAge, MaxConnectionAgeGrace: 2 * callTimeout, Time: 20 * time.Second, Timeout: 5 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
	)
	s.Register(server)
	status := health.NewServer()
	status.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	grpc_health_v1.RegisterHealthServer(server, status)
	reflection.Register(server)

	watched := make(chan struct{})
	go func() {
		defer close(watched)
		s.watch(ctx, status)
		bounded := time.AfterFunc(stopTimeout, server.Stop)
		defer bounded.Stop()
		server.GracefulStop()
	}()
	if err := server.Serve(listener); err != nil {
		return fmt.Errorf("gRPC: %w", err)
	}
	<-watched
	return nil
}

// watch keeps the health service's answer true until ctx ends.
func (s Server) watch(ctx context.Context, status *health.Server) {
	tick := time.NewTicker(healthInterval)
	defer tick.Stop()
	defer status.Shutdown()
	for {
		answer := grpc_health_v1.HealthCheckResponse_SERVING
		if _, ready := debugport.Run(ctx, s.Checks); !ready {
			answer = grpc_health_v1.HealthCheckResponse_NOT_SERVING
		}
		status.SetServingStatus("", answer)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// guard gives each call a deadline, turns a panic into an error, writes the line about what went
// wrong, and gives errors their form for the wire. The words of an internal error stay here.
func (s Server) guard(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (resp any, err error) {
	if _, has := ctx.Deadline(); !has {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, callTimeout)
		defer cancel()
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
		switch fault.KindOf(err) {
		case fault.Internal, fault.Unavailable:
			if err != nil {
				s.Log.WarnContext(ctx, "call failed", "method", info.FullMethod, "error", err)
			}
		}
		err = fault.ToStatus(err)
	}()
	return handle(ctx, req)
}
