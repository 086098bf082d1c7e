package chaos

import (
	"errors"
	"flag"
	"reflect"
	"slices"
	"testing"
	"time"
)

var someGround = ground{[]string{"gateway", "inventory", "inventory-2"}, []string{"gateway>inventory", "gateway>inventory-2", "inventory>mariadb"}}

func TestAPlanFollowsFromItsSeed(t *testing.T) {
	t.Parallel()
	const length = 5 * time.Minute
	first := plan(3, length, someGround)
	if !reflect.DeepEqual(first, plan(3, length, someGround)) {
		t.Error("the same seed gave another plan")
	}
	if reflect.DeepEqual(first, plan(4, length, someGround)) {
		t.Error("another seed gave the same plan")
	}
}

// Ten minutes break more than a hundred things, in all ways that there are.
func TestAPlanBreaksEverything(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		counts := map[string]int{}
		faults := plan(seed, 10*time.Minute, someGround)
		for _, f := range faults {
			counts[f.Kind]++
			if f.At > 10*time.Minute || f.Lasts < 0 {
				t.Errorf("seed %d: %s", seed, f)
			}
		}
		if len(faults) < 110 || len(counts) != len(kinds()) {
			t.Errorf("seed %d: %d faults of %d kinds", seed, len(faults), len(counts))
		}
		short := map[string]bool{}
		for _, f := range faults[:10] {
			short[f.Kind] = true
		}
		if len(short) != 10 {
			t.Errorf("seed %d: the first ten faults are of %d kinds", seed, len(short))
		}
	}
}

func TestALinkIsHitByItsEnds(t *testing.T) {
	t.Parallel()
	l := newLinks()
	t.Cleanup(func() {
		if err := l.close(); err != nil {
			t.Error(err)
		}
	})
	detour := l.detour(t.Context())
	for _, name := range someGround.links {
		from, to := ends(name)
		at, err := detour(from, to, "127.0.0.1:9")
		again, _ := detour(from, to, "127.0.0.1:9")
		if err != nil || at != again {
			t.Errorf("%s is at %s, then at %s, %v", name, at, again, err)
		}
	}
	for target, want := range map[string]int{"gateway>inventory": 1, "gateway>*": 2, "*>inventory": 1, "*>*": 3, "inventory-2>*": 0} {
		if n := len(l.hit(target)); n != want {
			t.Errorf("%s hits %d links, want %d", target, n, want)
		}
	}
	if !slices.Equal(l.names(), someGround.links) {
		t.Errorf("links: %q", l.names())
	}
}

func TestOptionsAreRead(t *testing.T) {
	t.Parallel()
	for _, wrong := range [][]string{
		{"--minutes", "0"}, {"--minutes", "x"}, {"--seed", "x"}, {"--seeds", "1,2"}, {"--document", "p.md"}, {"more"},
		{"--document", "p.md", "--seeds", "1", "--seed", "2"}, {"--document", "p.md", "--seeds", "1,,2"},
	} {
		if _, err := parseOptions(wrong); err == nil {
			t.Errorf("%q is accepted", wrong)
		}
	}
	o, err := parseOptions([]string{"--document", "p.md", "--seeds", "1, 2", "--minutes", "0.5"})
	if err != nil || !slices.Equal(o.seeds, []uint64{1, 2}) || o.length() != 30*time.Second || o.command(2) != "cartwright chaos --minutes 0.5 --seed 2" {
		t.Errorf("%+v, %v", o, err)
	}
	if _, err := parseOptions([]string{"--help"}); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("--help: %v", err)
	}
}
