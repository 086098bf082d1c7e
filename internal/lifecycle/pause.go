package lifecycle

import (
	"context"
	"time"
)

// Pause waits, and tells whether the wait ended by itself, and not because ctx did.
func Pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
