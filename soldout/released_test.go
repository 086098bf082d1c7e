package soldout

import (
	"os"
	"testing"

	"cartwright/internal/messaging"
)

// A gateway of today hears what an inventory of yesterday tells.
func TestReleasedEventsAreHeard(t *testing.T) {
	t.Parallel()
	for kind, gone := range map[string]bool{ranOut: true, isBack: false} {
		event, err := os.ReadFile("../inventory/testdata/released/" + kind + ".json")
		if err != nil {
			t.Fatal(err)
		}
		l := New(messaging.Broker{}, "released", nil)
		l.add("tea", &entry{gone: !gone, sequence: "00000000000000000006.000000"})
		l.hear(event)
		if l.Has("tea") != gone {
			t.Errorf("after %s, tea is sold out: %t", event, !gone)
		}
	}
}
