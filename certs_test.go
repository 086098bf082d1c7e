package main

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cartwright/access"
)

// certsIn runs the command as people do.
func certsIn(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := certs(&out, dir)(t.Context(), args)
	return out.String(), err
}

// X1, X2: one run makes all, the next shows them, and what is asked for is done to the one only.
func TestCertsMakesListsAndRenews(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "certs")
	t.Setenv("CARTWRIGHT_TLS_DIR", "")
	if said, err := certsIn(t, dir, "--list"); err == nil {
		t.Errorf("listed before there was anything:\n%s", said)
	}
	said, err := certsIn(t, dir, "--host", "shop.example", "--host", "10.0.0.1", "--days", "30")
	if n := strings.Count(said, " made\n"); err != nil || n != len(access.Subjects()) {
		t.Errorf("made %d: %v\n%s", n, err, said)
	}
	first, err := certsIn(t, dir, "--list")
	if n := strings.Count(first, " good\n"); err != nil || n != len(access.Subjects()) {
		t.Errorf("%d are good: %v\n%s", n, err, first)
	}
	said, err = certsIn(t, dir, "--renew", "payments", "--renew", "operator")
	if err != nil || strings.Count(said, " made\n") != 2 || strings.Count(said, " good\n") != len(access.Subjects())-2 {
		t.Errorf("%v\n%s", err, said)
	}
	list := filepath.Join(dir, "allowed.txt")
	if err := os.WriteFile(list, []byte("# nobody\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if said, err = certsIn(t, dir); err != nil || strings.Count(said, "--renew payments makes a new one") != 1 || strings.Contains(said, " made\n") {
		t.Errorf("%v\n%s", err, said)
	}
}

func TestCertsSaysWhatIsWrongWithItsFlags(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--days", "0"}, "--days is 0, want 1 to 825"},
		{[]string{"--days", "soon"}, "-days"},
		{[]string{"--host", "not a host"}, "-host"},
		{[]string{"--owner", "gateway"}, "want name=uid"},
		{[]string{"--owner", "gateway=root"}, "want name=uid"},
		{[]string{"--owner", "stranger=1"}, `no certificate for "stranger"`},
		{[]string{"--renew", "stranger"}, `"stranger"`},
		{[]string{"everything"}, `"everything"`},
		{[]string{"--dir", ""}, "--dir is empty"},
	} {
		if _, err := certsIn(t, dir, c.args...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %s in it", c.args, err, c.want)
		}
	}
	if said, err := certsIn(t, dir, "--help"); !errors.Is(err, flag.ErrHelp) || !strings.Contains(said, "Usage: cartwright certs") {
		t.Errorf("%v\n%s", err, said)
	}
}

// X4: no service starts without certificates, and each says what would help.
func TestNoServiceStartsWithoutCertificates(t *testing.T) {
	for _, key := range []string{"CARTWRIGHT_TLS_DIR", "CARTWRIGHT_INSECURE"} {
		t.Setenv(key, "")
	}
	t.Setenv("CARTWRIGHT_AMQP_URL", "amqp://nobody@127.0.0.1:1/")
	t.Setenv("CARTWRIGHT_JOB_SECRET", "a secret of sixteen or more")
	for _, s := range access.Subjects() {
		if s.Person {
			continue
		}
		t.Setenv("CARTWRIGHT_"+strings.ToUpper(s.Name)+"_DSN", "nobody@tcp(127.0.0.1:1)/")
		err := run(t.Context(), []string{s.Name}, io.Discard)
		if err == nil || !strings.Contains(err.Error(), "CARTWRIGHT_TLS_DIR is not set") || !strings.Contains(err.Error(), "`cartwright certs`") {
			t.Errorf("%s: %v", s.Name, err)
		}
	}
}

func TestDevMakesCertificatesWhereNobodyChose(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("CARTWRIGHT_TLS_DIR", "")
	t.Setenv("CARTWRIGHT_INSECURE", "true")
	if err := certsForDev(dir); err != nil || os.Getenv("CARTWRIGHT_TLS_DIR") != "" {
		t.Errorf("made some against the choice: %v", err)
	}
	t.Setenv("CARTWRIGHT_INSECURE", "")
	if err := certsForDev(dir); err != nil || os.Getenv("CARTWRIGHT_TLS_DIR") != dir {
		t.Errorf("made none: %v", err)
	}
	if said, err := certsIn(t, dir, "--list"); err != nil || strings.Count(said, " good\n") != len(access.Subjects()) {
		t.Errorf("%v\n%s", err, said)
	}
}
