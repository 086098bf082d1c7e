package pauses

import (
	"strings"
	"testing"
	"unicode/utf8"

	"cartwright/internal/fault"
)

// B6: whoever pauses a queue is written down on one line, or refused.
func FuzzName(f *testing.F) {
	for _, seed := range []string{"ann", " ", "Jürgen von der Lippe", "a\nb", "\xff", "a\u2028b", strings.Repeat("ü", ByMax), strings.Repeat("u", ByMax+1)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, by string) {
		err := CheckName(by)
		switch {
		case err != nil && (!fault.Is(err, fault.Invalid) || fault.As(err).Field != "by" || !utf8.ValidString(err.Error())):
			t.Fatalf("%q: %v", by, err)
		case err == nil && (strings.TrimSpace(by) == "" || utf8.RuneCountInString(by) > ByMax || len(strings.Split(by, "\n")) > 1):
			t.Fatalf("%q was taken for a name", by)
		}
	})
}
