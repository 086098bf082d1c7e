package gateway

import (
	"crypto/sha256"
	"crypto/subtle"
	"strings"

	"github.com/gofiber/fiber/v2"
)

// staffOnly lets a request through that carries the staff key. Without a configured key there
// are no staff routes. Hashes are compared, so that the time tells nothing, not even a length.
func (g *gateway) staffOnly(c *fiber.Ctx) error {
	if g.staffKey == nil {
		return fiber.NewError(fiber.StatusNotFound, "there is nothing here: staff routes are off")
	}
	scheme, key, _ := strings.Cut(c.Get(fiber.HeaderAuthorization), " ")
	given := sha256.Sum256([]byte(strings.TrimSpace(key)))
	if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(given[:], g.staffKey[:]) != 1 {
		return fiber.NewError(fiber.StatusUnauthorized, "Authorization: must be Bearer and the staff key")
	}
	return c.Next()
}
