package gateway

import (
	"context"
	"net/url"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/gofiber/fiber/v2"

	"cartwright/internal/fault"
	"cartwright/internal/ids"
)

const (
	// readTimeout is for everything that one question asks of the services, so that a client
	// hears within a second that something is away.
	readTimeout = 900 * time.Millisecond

	pageMax     = 100 // entries of a list in one answer
	pageDefault = 20
	cursorMax   = 256 // characters; ours are far shorter
)

// asking bounds the questions that a request asks of the services.
func asking(c *fiber.Ctx) (context.Context, context.CancelFunc) {
	return context.WithTimeout(c.UserContext(), readTimeout)
}

// pathID reads an identifier from the path, where it may be percent-encoded.
func pathID(c *fiber.Ctx, name string) (string, error) {
	id, err := url.PathUnescape(c.Params(name))
	if err != nil || !ids.Valid(id) {
		return "", fault.InvalidField(name, ids.Shape)
	}
	return id, nil
}

// page reads which part of a list is asked for.
func page(c *fiber.Ctx) (limit int32, cursor string, err error) {
	n := pageDefault
	if text := c.Query("limit"); text != "" {
		if n, err = strconv.Atoi(text); err != nil || n < 1 || n > pageMax {
			return 0, "", fault.InvalidField("limit", "must be a whole number from 1 to %d", pageMax)
		}
	}
	if cursor = c.Query("cursor"); len(cursor) > cursorMax || !utf8.ValidString(cursor) {
		return 0, "", fault.InvalidField("cursor", "must be the nextCursor of an earlier answer")
	}
	return int32(n), cursor, nil
}

// moment writes a time of microseconds since 1970 by RFC 3339; nil for none.
func moment(us int64) *string {
	if us == 0 {
		return nil
	}
	text := time.UnixMicro(us).UTC().Format("2006-01-02T15:04:05.000000Z07:00")
	return &text
}
