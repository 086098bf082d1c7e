// Package ids is the authority on identifiers: what they may look like, how new ones are made,
// and how one follows from an idempotency key.
package ids

import (
	"crypto/sha256"

	"github.com/google/uuid"
)

// LenMax is the longest identifier that anybody may give to anything.
const LenMax = 64

// Shape describes a valid identifier, for error messages.
const Shape = "must be 1 to 64 characters of A-Z a-z 0-9 . _ : -"

// Valid tells whether s is 1 to 64 characters of A-Z a-z 0-9 . _ : -
func Valid(s string) bool {
	if len(s) == 0 || len(s) > LenMax {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == ':' || c == '-') {
			return false
		}
	}
	return true
}

// New makes a UUIDv7: unique everywhere, and growing with time, so that rows are added at the
// end of a primary key and not all over it.
func New() string { return uuid.Must(uuid.NewV7()).String() }

// Derive makes the ID that a request has by its idempotency key: the same parts give the same
// ID, on every gateway and without asking anybody. It is a UUIDv8 (RFC 9562, section 5.8) from
// SHA-256 of the parts, each with its length in front, so that no two lists read alike.
func Derive(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		n := len(p)
		h.Write([]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
		h.Write([]byte(p))
	}
	var id uuid.UUID
	copy(id[:], h.Sum(nil))
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return id.String()
}
