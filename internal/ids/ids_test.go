package ids

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// FuzzValid compares with the shape that error messages tell.
func FuzzValid(f *testing.F) {
	shape := regexp.MustCompile(`^[A-Za-z0-9._:-]{1,64}$`)
	for _, s := range []string{"", "tea", "a.b_c:d-E9", "x' OR '1'='1", "a b", "a\n", "a\x00", "é", "\xff", strings.Repeat("a", 64), strings.Repeat("a", 65)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		want := shape.MatchString(s) && !strings.HasSuffix(s, "\n")
		if got := Valid(s); got != want {
			t.Errorf("Valid(%q) = %v, want %v", s, got, want)
		}
	})
}

func TestNewIDsAreValidAndGrow(t *testing.T) {
	t.Parallel()
	made := make([]string, 10_000)
	for i := range made {
		made[i] = New()
		if !Valid(made[i]) {
			t.Fatalf("%q is no valid ID", made[i])
		}
	}
	if !slices.IsSorted(made) {
		t.Error("IDs do not grow")
	}
	if len(slices.Compact(made)) != 10_000 {
		t.Error("an ID came twice")
	}
}

func TestDeriveGivesTheSameForTheSame(t *testing.T) {
	t.Parallel()
	if a, b := Derive("cart.add", "client", "key"), Derive("cart.add", "client", "key"); a != b {
		t.Errorf("%s and %s", a, b)
	}
	// Stored IDs must be found again by every later version.
	if got, want := Derive("cart.add", "client", "key"), "8951cc78-70bb-82ea-b3d9-4bc0f11682e1"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	id, err := uuid.Parse(Derive())
	if err != nil || id.Version() != 8 || id.Variant() != uuid.RFC4122 {
		t.Errorf("%v version %d variant %v, %v", id, id.Version(), id.Variant(), err)
	}
}

func TestDeriveTellsListsApart(t *testing.T) {
	t.Parallel()
	lists := [][]string{{}, {""}, {"", ""}, {"a"}, {"a", ""}, {"", "a"}, {"ab"}, {"a", "b"}, {"b", "a"}, {"a", "b", ""}, {"\x00\x00\x00\x01a"}}
	seen := map[string][]string{}
	for _, list := range lists {
		id := Derive(list...)
		if other, twice := seen[id]; twice {
			t.Errorf("%q and %q are both %s", list, other, id)
		}
		seen[id] = list
	}
}
