package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

const (
	bodyMax        = 64 << 10 // far above any cart
	headMax        = 8 << 10  // request line and headers, what most servers allow
	connectionsMax = 16 << 10 // each may hold a body and a goroutine: about 1.5 GB at worst
	readMax        = 10 * time.Second
	writeMax       = 30 * time.Second
	idleMax        = 60 * time.Second

	// drainTimeout is for the waits in hand when the process is asked to stop; then they are
	// answered 202, which is as true.
	drainTimeout = 8 * time.Second
	stopTimeout  = drainTimeout + 2*time.Second
)

// newApp makes the HTTP server.
func (g *gateway) newApp() *fiber.App {
	app := fiber.New(fiber.Config{
		// Fiber reuses the memory of a request for the next one, and our strings travel on: into
		// jobs, into the room where requests wait. They must be copies.
		Immutable:                    true,
		CaseSensitive:                true,
		BodyLimit:                    bodyMax,
		ReadBufferSize:               headMax,
		Concurrency:                  connectionsMax,
		ReadTimeout:                  readMax,
		WriteTimeout:                 writeMax,
		IdleTimeout:                  idleMax,
		DisablePreParseMultipartForm: true,
		DisableStartupMessage:        true,
		ErrorHandler:                 g.refuseUnread,
		JSONEncoder:                  func(v any) ([]byte, error) { return json.Marshal(v) },
	})
	g.routes(app)
	return app
}

// serve answers HTTP on addr until ctx ends, then lets the requests in hand finish, for a bounded
// time.
func (g *gateway) serve(ctx context.Context, addr string) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("HTTP port: %w", err)
	}
	door := newDoor(listener)
	app := g.newApp()
	app.Server().Handler = g.knownMethods(app.Server().Handler)
	stopped := make(chan error, 1)
	go func() {
		<-ctx.Done()
		stopped <- g.stop(context.WithoutCancel(ctx), app, door)
	}()
	if err := app.Listener(door); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("HTTP port: %w", err)
	}
	return <-stopped
}

// stop closes the door, ends the waits that take too long, and cuts off who is still not through.
func (g *gateway) stop(ctx context.Context, app *fiber.App, door *door) error {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	enough := time.AfterFunc(drainTimeout, g.room.endAll)
	defer enough.Stop()
	door.hurry()
	err := app.ShutdownWithContext(ctx)
	door.Close() //nolint:errcheck // closed already, unless the server had not begun yet
	door.cutOff()
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("HTTP port: %w", err)
	}
	return nil
}

// knownMethods answers methods that HTTP does not know with 405 in the route's own shape. Fiber
// would answer them itself, with a plain text.
func (g *gateway) knownMethods(next fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		if !slices.Contains(fiber.DefaultMethods, string(ctx.Method())) {
			ctx.Request.Header.SetMethod(fiber.MethodTrace) // known, and served nowhere
		}
		next(ctx)
	}
}
