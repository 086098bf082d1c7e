package store

import (
	"strings"
	"testing"
)

// What others say fits a column: characters count, not bytes, and what is no UTF-8 is not sent.
func TestClipFitsAColumn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, want string }{
		{"", ""}, {"away", "away"}, {"öäüß", "öäüß"}, {"öäüßö", "öäüß"}, {"a\xffb", "a?b"}, {strings.Repeat("\xff", 9) + "end", "?end"},
	} {
		if got := Clip(c.text, 4); got != c.want {
			t.Errorf("%q: got %q, want %q", c.text, got, c.want)
		}
	}
}
