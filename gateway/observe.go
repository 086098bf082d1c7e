package gateway

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"google.golang.org/grpc/metadata"

	"cartwright/internal/ids"
)

const (
	traceHeader = "traceparent"
	noRoute     = "none" // in logs and metrics: paths that nobody serves could be any number
)

// trace is what is known of a request from its beginning.
type trace struct {
	parent    string // W3C traceparent, the client's or a new one
	requestID string // the client's X-Request-ID, or the trace's ID
	began     time.Time
}

type traceKey struct{}

func traceOf(c *fiber.Ctx) trace {
	t, _ := c.UserContext().Value(traceKey{}).(trace)
	return t
}

// observe is around every request: it gives it a trace and its safe headers, turns a panic into
// an error, and writes the request's one log line.
func (g *gateway) observe(c *fiber.Ctx) error {
	t := newTrace(c)
	ctx := context.WithValue(c.UserContext(), traceKey{}, t)
	c.SetUserContext(metadata.AppendToOutgoingContext(ctx, traceHeader, t.parent))
	harden(c)
	c.Set(fiber.HeaderXRequestID, t.requestID)
	err := guarded(c)
	if err != nil {
		if writeErr := writeError(c, err); writeErr != nil {
			return writeErr
		}
	}
	route := c.Route().Path
	if route == "/" { // only this middleware was found
		route = noRoute
	}
	g.note(c, t, route, err)
	return nil
}

// guarded runs the rest of the request; a panic is an error of ours.
func guarded(c *fiber.Ctx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return c.Next()
}

// note counts a request and writes its line: quietly for a read that went well, because clients
// poll; with the error's own words, which the client may not see, for a fault of ours.
func (g *gateway) note(c *fiber.Ctx, t trace, route string, err error) {
	status, took := c.Response().StatusCode(), time.Since(t.began)
	g.metrics.requests.WithLabelValues(c.Method(), route, strconv.Itoa(status)).Observe(took.Seconds())
	level := slog.LevelInfo
	if c.Method() == fiber.MethodGet && status < fiber.StatusMultipleChoices {
		level = slog.LevelDebug
	}
	attrs := []any{"request_id", t.requestID, "trace", t.parent, "method", c.Method(), "route", route, "status", status, "took_ms", took.Milliseconds()}
	if err != nil {
		attrs = append(attrs, "error", err)
	}
	if status >= fiber.StatusInternalServerError {
		level = slog.LevelWarn
	}
	g.log.Log(c.UserContext(), level, "request", attrs...)
}

// unreadable is said of a request that ends too soon, or is not even HTTP.
const unreadable = "the request did not arrive as whole and valid HTTP"

// refuseUnread answers a request that could not even be read, such as one that is too large.
func (g *gateway) refuseUnread(c *fiber.Ctx, err error) error {
	if e, ok := err.(*fiber.Error); ok && (e.Code == fiber.StatusBadGateway || e.Code == fiber.StatusBadRequest) {
		err = fiber.NewError(fiber.StatusBadRequest, unreadable) // whose own words repeat what was sent
	}
	linger(c)
	t := newTrace(c)
	c.Set(fiber.HeaderXRequestID, t.requestID)
	if writeErr := writeError(c, err); writeErr != nil {
		return writeErr
	}
	g.note(c, t, noRoute, err)
	return nil
}

// harden sets the headers that keep browsers from guessing, framing, storing or sending on.
func harden(c *fiber.Ctx) {
	c.Set(fiber.HeaderXContentTypeOptions, "nosniff")
	c.Set(fiber.HeaderXFrameOptions, "DENY")
	c.Set(fiber.HeaderReferrerPolicy, "no-referrer")
	c.Set(fiber.HeaderContentSecurityPolicy, "default-src 'none'; frame-ancestors 'none'")
	c.Set(fiber.HeaderCacheControl, "no-store")
}

var parentShape = regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$`)

const (
	noTraceID = "00000000000000000000000000000000"
	noSpanID  = "0000000000000000"
)

// newTrace goes on with the client's trace, or begins one.
func newTrace(c *fiber.Ctx) trace {
	t := trace{parent: c.Get(traceHeader), requestID: c.Get(fiber.HeaderXRequestID), began: time.Now()}
	parts := strings.Split(t.parent, "-")
	if !parentShape.MatchString(t.parent) || parts[1] == noTraceID || parts[2] == noSpanID {
		var random [24]byte
		rand.Read(random[:]) // never fails (crypto/rand)
		t.parent = "00-" + hex.EncodeToString(random[:16]) + "-" + hex.EncodeToString(random[16:]) + "-00"
		parts = strings.Split(t.parent, "-")
	}
	if !ids.Valid(t.requestID) {
		t.requestID = parts[1]
	}
	return t
}
