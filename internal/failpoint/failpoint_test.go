package failpoint

import (
	"testing"
)

// A point is armed until it goes off, or until it is taken back, and nobody is named without need.
func TestArmedIsNotHit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := Arm(dir, JobMade, Kill); err != nil {
		t.Fatal(err)
	}
	if pid, err := HitBy(dir, JobMade); pid != 0 || err != nil {
		t.Errorf("hit by %d, %v; want nobody", pid, err)
	}
	if err := Disarm(dir, JobMade); err != nil {
		t.Error(err)
	}
	if err := Disarm(dir, JobMade); err == nil {
		t.Error("it was still armed")
	}
}
