package settings

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

type Inner struct {
	Format string `env:"FORMAT" envDefault:"json" help:"how"`
}

type some struct {
	Inner
	Inside port
	Secret string        `env:"SECRET,required" help:"what nobody may see"`
	Count  int           `env:"COUNT" envDefault:"3" help:"how many"`
	Wait   time.Duration `env:"WAIT" envDefault:"2s"`
}

type port struct {
	Port int `env:"PORT" envDefault:"1"`
}

func (s *some) Check() (faults []error) {
	if s.Count < 0 {
		faults = append(faults, errors.New("CARTWRIGHT_COUNT is negative"))
	}
	if s.Port() < 0 {
		faults = append(faults, errors.New("CARTWRIGHT_PORT is negative"))
	}
	return faults
}

func (s *some) Port() int { return s.Inside.Port }

func file(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "value")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDefaultsStandUnlessSet(t *testing.T) { // Z13
	t.Parallel()
	var got some
	if err := Load([]string{"CARTWRIGHT_SECRET=s", "CARTWRIGHT_COUNT=7", "COUNT=9", "PORT=9"}, &got); err != nil {
		t.Fatal(err)
	}
	want := some{Inner: Inner{"json"}, Inside: port{1}, Secret: "s", Count: 7, Wait: 2 * time.Second}
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestEveryFaultIsToldAtOnceByItsKey(t *testing.T) { // Z13
	t.Parallel()
	err := Load([]string{"CARTWRIGHT_COUNT=hunter2", "CARTWRIGHT_PORT=hunter3", "CARTWRIGHT_WAIT=hunter4"}, &some{})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"CARTWRIGHT_SECRET is not set", "the value of CARTWRIGHT_COUNT is no int", "the value of CARTWRIGHT_PORT is no int", "the value of CARTWRIGHT_WAIT is no time.Duration"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\ndoes not say: %s", err, want)
		}
	}
	if strings.Contains(err.Error(), "hunter") {
		t.Errorf("a value is shown: %v", err)
	}
}

func TestChecksAreAllToldAtOnce(t *testing.T) { // Z13
	t.Parallel()
	err := Load([]string{"CARTWRIGHT_SECRET=s", "CARTWRIGHT_COUNT=-1", "CARTWRIGHT_PORT=-1"}, &some{})
	if want := "wrong settings:\n  CARTWRIGHT_COUNT is negative\n  CARTWRIGHT_PORT is negative"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// part is a struct that others have inside them, with a rule of its own.
type part struct {
	Yes bool `env:"YES"`
	No  bool `env:"NO"`
}

func (p part) Check() []error {
	if p.Yes == p.No {
		return []error{errors.New("CARTWRIGHT_YES or CARTWRIGHT_NO")}
	}
	return nil
}

func TestChecksOfStructsInsideAreToldToo(t *testing.T) { // Z13
	t.Parallel()
	var outer struct{ Inside part }
	if err := Load(nil, &outer); err == nil || err.Error() != "wrong settings:\n  CARTWRIGHT_YES or CARTWRIGHT_NO" {
		t.Errorf("%v", err)
	}
	if err := Load([]string{"CARTWRIGHT_YES=true"}, &outer); err != nil {
		t.Error(err)
	}
}

func TestSecretComesFromAFile(t *testing.T) { // X6
	t.Parallel()
	var got some
	if err := Load([]string{"CARTWRIGHT_SECRET_FILE=" + file(t, "  s3cret\n"), "CARTWRIGHT_COUNT_FILE=" + file(t, "8\n"), "CARTWRIGHT_WAIT_FILE="}, &got); err != nil {
		t.Fatal(err)
	}
	if got.Secret != "s3cret" || got.Count != 8 || got.Wait != 2*time.Second {
		t.Errorf("%+v", got)
	}
}

func TestFaultsOfFilesAreTold(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "none")
	err := Load([]string{"CARTWRIGHT_SECRET=s", "CARTWRIGHT_SECRET_FILE=" + file(t, "t"), "CARTWRIGHT_COUNT_FILE=" + missing}, &some{})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"CARTWRIGHT_SECRET and CARTWRIGHT_SECRET_FILE are both set", "CARTWRIGHT_COUNT_FILE: ", missing} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\ndoes not say: %s", err, want)
		}
	}
}

func TestDescribeListsEveryKey(t *testing.T) { // Z13
	t.Parallel()
	want := []Setting{
		{"CARTWRIGHT_FORMAT", "json", "how", false},
		{"CARTWRIGHT_PORT", "1", "", false},
		{"CARTWRIGHT_SECRET", "", "what nobody may see", true},
		{"CARTWRIGHT_COUNT", "3", "how many", false},
		{"CARTWRIGHT_WAIT", "2s", "", false},
	}
	for _, dst := range []any{some{}, &some{}} {
		if got := Describe(dst); !reflect.DeepEqual(got, want) {
			t.Errorf("%+v\nwant %+v", got, want)
		}
	}
}
