package gateway

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"cartwright/internal/testenv"
)

// E4, E13: the broker falls silent before it has confirmed, and then all connections die. That
// the wait for the answer is over says nothing of the job: nobody is told that it was accepted.
func TestWhatWasNeverConfirmedIsNotAccepted(t *testing.T) {
	t.Parallel()
	proxy, amqpURL := testenv.BrokerProxy(t)
	s := openShop(t, func(s *Settings) { s.Broker.URL = amqpURL })
	proxy.Hold()
	const requests = 30
	var all sync.WaitGroup
	for range requests {
		all.Go(func() {
			r, err := s.tryAsk(t.Context(), "POST", checkOutCartPath, `{"clientID":"jo"}`)
			if err != nil || r.status != http.StatusServiceUnavailable {
				t.Errorf("got %d %s, %v", r.status, r.body, err)
			}
		})
	}
	testenv.Eventually(t, startLimit, "all of them wait", func() bool {
		resp, err := s.client.Get("http://" + s.settings.DebugListen + "/metrics")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		return err == nil && strings.Contains(string(text), "\nanswers_awaited 30\n")
	})
	proxy.Drop()
	all.Wait()
	proxy.Heal()
}
