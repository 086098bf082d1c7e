package rpc

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	_ "google.golang.org/grpc/health" // lets clients avoid replicas that say they are not serving
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/dns"
	"google.golang.org/grpc/resolver/manual"

	"cartwright/internal/fault"
)

// serviceConfig shares calls among the replicas that are serving. Every call of ours is
// idempotent by its ID, so one that found nobody home is made again at once, elsewhere.
const serviceConfig = `{
	"loadBalancingConfig": [{"round_robin": {}}],
	"healthCheckConfig": {"serviceName": ""},
	"methodConfig": [{"name": [{}], "retryPolicy": {
		"maxAttempts": 3, "initialBackoff": "0.02s", "maxBackoff": "0.2s", "backoffMultiplier": 3,
		"retryableStatusCodes": ["UNAVAILABLE"]}}]
}`

// resolvePause is the least time between two looks at the name of a service. gRPC's own is 30 s,
// in which a new replica would have nothing to do.
const resolvePause = time.Second

// lookOften must come before the first client, which is where Dial calls it.
var lookOften = sync.OnceFunc(func() { dns.SetMinResolutionInterval(resolvePause) })

// Dial makes a client of the service at addr: host:port, several of those divided by commas, or a
// gRPC target such as dns:///inventory:9100. creds are those of the identity's Client for that
// service. Nothing is connected yet. Each call is to have a deadline; its error keeps the kind that
// the server gave it.
func Dial(addr string, creds credentials.TransportCredentials) (*grpc.ClientConn, error) {
	lookOften()
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithUnaryInterceptor(keepKind),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(messageMax)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 3 * time.Second, PermitWithoutStream: true}),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: 3 * time.Second, Backoff: backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second}}),
	}
	target := addr
	if !strings.Contains(addr, "://") {
		list := manual.NewBuilderWithScheme("list")
		list.InitialState(resolver.State{Endpoints: endpoints(addr)})
		options = append(options, grpc.WithResolvers(list))
		target = list.Scheme() + ":///" + addr
	}
	conn, err := grpc.NewClient(target, options...)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", addr, err)
	}
	return conn, nil
}

func endpoints(addr string) (all []resolver.Endpoint) {
	for _, a := range strings.Split(addr, ",") {
		all = append(all, resolver.Endpoint{Addresses: []resolver.Address{{Addr: strings.TrimSpace(a)}}})
	}
	return all
}

func keepKind(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return fault.FromStatus(invoke(ctx, method, req, reply, conn, opts...))
}
