// Package fault is the authority on errors that cross a boundary: it gives each a kind, decided
// once where it is understood, and carries it whole through gRPC and through messages.
package fault

import (
	"context"
	"errors"
	"fmt"
)

// Kind says what a caller can do about an error.
type Kind int

// The zero value is Internal, so an error that nobody labelled is ours to mend.
const (
	Internal    Kind = iota
	Invalid          // the request can never succeed as written
	NotFound         // there is no such thing
	Refused          // a definite no: sold out, card declined
	Mismatch         // the same idempotency key came with another request
	Unavailable      // silence: it may have happened, ask again with the same ID
)

func (k Kind) String() string {
	return [...]string{"internal", "invalid", "not found", "refused", "mismatch", "unavailable"}[k]
}

// Error is an error with a kind. Code is stable and for machines, Message a sentence for people.
type Error struct {
	Kind    Kind
	Code    string
	Message string
	Field   string            // the request field at fault, for Invalid
	Details map[string]string // what the code is about, such as product and available
	cause   error
}

func (e *Error) Error() string {
	if e.cause != nil {
		return e.Message + ": " + e.cause.Error()
	}
	return e.Message
}

func (e *Error) Unwrap() error { return e.cause }

// New makes an error of a kind. The message is shown to users, unless the kind is Internal.
func New(kind Kind, code, format string, args ...any) *Error {
	return &Error{Kind: kind, Code: code, Message: fmt.Sprintf(format, args...)}
}

// InvalidField says that a request can never succeed because of one field.
func InvalidField(field, format string, args ...any) *Error {
	return &Error{Kind: Invalid, Code: "invalid_field", Field: field, Message: field + ": " + fmt.Sprintf(format, args...)}
}

// Away says that what is behind noun cannot be reached now; cause stays for the log.
func Away(noun string, cause error) *Error {
	return &Error{Kind: Unavailable, Code: "unavailable", Message: noun + " is not available now", cause: cause}
}

// With adds a detail and returns the same error.
func (e *Error) With(key, value string) *Error {
	if e.Details == nil {
		e.Details = map[string]string{}
	}
	e.Details[key] = value
	return e
}

// As finds the labelled error in err; an unlabelled one becomes Internal, and a deadline or a
// cancellation becomes Unavailable, because the work may have happened.
func As(err error) *Error {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return &Error{Kind: Unavailable, Code: "timeout", Message: "no answer in time", cause: err}
	default:
		return &Error{Kind: Internal, Code: "internal", Message: "internal error", cause: err}
	}
}

// KindOf is the kind of err; Internal for an error that nobody labelled.
func KindOf(err error) Kind { return As(err).Kind }

// Is tells whether err is of the kind. A nil error is of none.
func Is(err error, kind Kind) bool { return err != nil && KindOf(err) == kind }
