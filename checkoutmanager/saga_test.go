package checkoutmanager

import (
	"context"
	"testing"
	"time"

	"cartwright/internal/fault"
)

// K8: whoever does not answer has not said no, for as long as patience lasts; the same silence turns
// a checkout round that has waited for too long.
func TestSilenceIsNoAnswerWhilePatienceLasts(t *testing.T) {
	t.Parallel()
	opened := time.Unix(0, 0)
	mute := step{"mute",
		func(*saga, context.Context, *checkout) error { return silence },
		func(*saga, context.Context, *checkout) error { return nil }}
	for waited, want := range map[time.Duration]state{time.Second: placing, time.Hour: failed} {
		w := &world{choices: &choices{}, rules: allRules(), row: placing}
		s := &saga{steps: []step{mute}, book: modelBook{&modelWorker{world: w, turn: func() {}}},
			patience: time.Minute, now: func() time.Time { return opened.Add(waited) }}
		c := &checkout{id: "c", state: placing, opened: opened}
		err := s.walk(t.Context(), c)
		if w.row != want || c.state != want || fault.Is(err, fault.Unavailable) != (want == placing) {
			t.Errorf("after %s of silence: %v, the row is %s, want %s", waited, err, w.row, want)
		}
	}
}
