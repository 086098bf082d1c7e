package identity

import (
	"maps"
	"slices"
	"testing"
)

// X2: a list of certificates that can be read is written again to the same effect, and lets nobody in
// whose serial number has more than one form.
func FuzzAllowed(f *testing.F) {
	f.Add([]byte(allowedHeader + "0a1b2c gateway 2026-12-31\nff:00:01 operator\n"))
	f.Add([]byte("# a comment\r\n0A1B clerk 2026-12-31 # and another\r\n\r\nff visitor\n"))
	f.Add([]byte("0 gateway\n"))
	f.Add([]byte("1 gateway\n01 cartmanager\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		first, err := parseAllowed(text)
		if err != nil {
			return
		}
		for serial, name := range first {
			if same, err := ParseSerial(serial); err != nil || same != serial || !nameShape.MatchString(name) {
				t.Fatalf("%q of %q reads %q, %v", serial, name, same, err)
			}
		}
		lines, err := parseLines(text)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseAllowed(formatLines(lines))
		if err != nil || !maps.Equal(again, first) {
			t.Fatalf("%v became %v, %v", slices.Sorted(maps.Keys(first)), slices.Sorted(maps.Keys(again)), err)
		}
	})
}
