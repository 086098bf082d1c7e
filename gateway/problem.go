package gateway

import (
	"errors"
	"net/http"
	"strings"

	"github.com/gofiber/fiber/v2"

	"cartwright/internal/fault"
)

// retryAfter is what a client is told to wait, in seconds, when something is away: about the time
// in which a lost connection is rebuilt.
const retryAfter = "1"

// The paths that answer {"status", "error"} whatever happens.
const (
	addToCartPath    = "/addToCart"
	checkOutCartPath = "/checkOutCart"
)

// problem is an error in the form of RFC 9457.
type problem struct {
	Type   string `json:"type" example:"about:blank"`
	Title  string `json:"title" example:"Conflict"`
	Status int    `json:"status" example:"409"`
	// One sentence for people.
	Detail string `json:"detail" example:"only 3 of tea left"`
	// Stable, for programs.
	Code string `json:"code,omitempty" example:"out_of_stock"`
	// What is wrong with the request, if it is one field.
	Field string `json:"field,omitempty" example:"quantity"`
	// The job that may have been accepted, so that it can be asked for.
	JobID string `json:"jobID,omitempty"`
} // @name Problem

// shopAnswer is the answer of the two routes that shoppers' programs have always used.
type shopAnswer struct {
	Status string `json:"status" enums:"Success,Failed,Accepted" example:"Success"`
	// Why it failed; empty otherwise.
	Error string `json:"error" example:""`
	// Of a change of the cart: where to ask for it is /v1/jobs/{jobID}. Absent when no job was made of it.
	JobID string `json:"jobID,omitempty"`
	// Of a checkout: where to ask for it is /v1/orders/{orderID}.
	OrderID string `json:"orderID,omitempty"`
} // @name Answer

// jobError is an error about a job that has an ID, so that the answer can name it.
type jobError struct {
	jobID string
	err   error
}

func (e *jobError) Error() string { return e.err.Error() }
func (e *jobError) Unwrap() error { return e.err }

// describe finds the words and the code for an error. Words of an internal error stay in the log.
func describe(err error) problem {
	p := problem{Type: "about:blank"}
	var coded *fiber.Error
	if errors.As(err, &coded) {
		p.Status, p.Detail = coded.Code, coded.Message
	} else {
		f := fault.As(err)
		p.Status, p.Detail, p.Code, p.Field = statusOf(f), f.Message, f.Code, f.Field
	}
	var job *jobError
	if errors.As(err, &job) {
		p.JobID = job.jobID
	}
	if p.Status >= fiber.StatusInternalServerError && p.Status != fiber.StatusServiceUnavailable {
		p.Status, p.Detail = fiber.StatusInternalServerError, "internal error"
	}
	p.Detail = strings.ToValidUTF8(p.Detail, "?") // it may repeat a path, which can be any bytes
	p.Title = http.StatusText(p.Status)
	return p
}

// statusOf says what kind of no a fault is in HTTP.
func statusOf(f *fault.Error) int {
	switch f.Kind {
	case fault.Invalid:
		return fiber.StatusBadRequest
	case fault.NotFound:
		return fiber.StatusNotFound
	case fault.Mismatch:
		return fiber.StatusUnprocessableEntity
	case fault.Unavailable:
		return fiber.StatusServiceUnavailable
	case fault.Refused:
		return statusOfRefusal(f.Code)
	}
	return fiber.StatusInternalServerError
}

func statusOfRefusal(code string) int {
	switch {
	case code == "unknown_product":
		return fiber.StatusNotFound
	case code == "card_declined", code == "unknown_payment_method", strings.HasPrefix(code, "payment_"):
		return fiber.StatusPaymentRequired
	}
	return fiber.StatusConflict
}

// writeError is the only writer of errors.
func writeError(c *fiber.Ctx, err error) error {
	p := describe(err)
	harden(c)
	c.Status(p.Status)
	if p.Status == fiber.StatusServiceUnavailable {
		c.Set(fiber.HeaderRetryAfter, retryAfter)
	}
	if p.Status == fiber.StatusUnauthorized {
		c.Set(fiber.HeaderWWWAuthenticate, `Bearer realm="cartwright staff"`)
	}
	switch strings.TrimSuffix(c.Path(), "/") {
	case addToCartPath:
		return c.JSON(shopAnswer{Status: failed, Error: p.Detail, JobID: p.JobID})
	case checkOutCartPath:
		return c.JSON(shopAnswer{Status: failed, Error: p.Detail, OrderID: p.JobID})
	}
	return c.JSON(p, "application/problem+json")
}
