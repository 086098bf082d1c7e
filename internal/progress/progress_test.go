package progress

import (
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Without a terminal, progress is a line now and then, and nothing after its end.
func TestProgressIsWrittenInLines(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	p := New(&out)
	if p.bar {
		t.Error("a bar is drawn where there is no terminal")
	}
	stop := p.Follow(Always("things"), 10, func() int { return 3 })
	stop()
	if out.Len() > 0 {
		t.Errorf("said %q at once", out.String())
	}
}
