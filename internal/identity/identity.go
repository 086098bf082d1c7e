// Package identity is the authority on who is at the other end of a connection. A process shows a
// certificate of the private authority, and its certificate's serial number stands on a list; who
// has lost either is nobody. Files that change are read again while the process runs.
package identity

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/peer"
)

// Settings of every process that speaks gRPC.
type Settings struct {
	Dir      string `env:"TLS_DIR" help:"directory with the certificates that cartwright certs makes; required unless CARTWRIGHT_INSECURE is true"`
	Insecure bool   `env:"INSECURE" envDefault:"false" help:"true lets everybody call everything, in plain text: for development only"`
}

// Check returns what is wrong with the settings.
func (s Settings) Check() []error {
	switch {
	case s.Dir == "" && !s.Insecure:
		return []error{errors.New("CARTWRIGHT_TLS_DIR is not set: `cartwright certs` makes certificates; name their directory, or for development set CARTWRIGHT_INSECURE=true")}
	case s.Dir != "" && s.Insecure:
		return []error{errors.New("CARTWRIGHT_TLS_DIR is set and CARTWRIGHT_INSECURE is true: only one of them can be meant")}
	}
	return nil
}

const (
	// lookEvery is how often the files are looked at, and settled how long ago they must have been
	// written by then: one that was written a moment ago may be half of itself. Together they are
	// far below the five seconds within which a certificate that was taken back is refused.
	lookEvery = time.Second
	settled   = time.Second

	fileMax = 1 << 20 // bytes; a list of thousands of certificates is smaller

	// expiryWarning is how long before its end a certificate is spoken of in the log, each day.
	expiryWarning = 14 * 24 * time.Hour
)

// Identity is who a process is, and how it tells others. It looks at its files when it is used,
// and so needs nobody to run it.
type Identity struct {
	name   string
	dir    string
	log    *slog.Logger
	often  *seldom
	papers atomic.Pointer[papers] // nil without certificates

	born   time.Time
	looked atomic.Int64 // nanoseconds from born to the last look
	mu     sync.Mutex
	seen   []byte // what the files said at the last look, good or bad
}

// papers are what the files say, read and found good.
type papers struct {
	own     tls.Certificate
	roots   *x509.CertPool
	allowed allowed
}

// Insecure is the identity of a process that shows no certificate and asks for none.
func Insecure() *Identity { return &Identity{} }

// Open reads the certificate of name, the authority's, and the list. Its error says what to do
// about a file that is missing or broken.
func Open(s Settings, name string, log *slog.Logger) (*Identity, error) {
	if err := errors.Join(s.Check()...); err != nil {
		return nil, err
	}
	if s.Insecure {
		log.Warn("INSECURE: gRPC is in plain text and anybody may call it, because CARTWRIGHT_INSECURE is true. Never do this outside development.")
		return Insecure(), nil
	}
	i := &Identity{name: name, dir: s.Dir, log: log, often: newSeldom(), born: time.Now()}
	found := i.read()
	now, err := found.parse(name)
	if err != nil {
		return nil, fmt.Errorf("CARTWRIGHT_TLS_DIR=%s: %w; `cartwright certs` makes what is missing", s.Dir, err)
	}
	i.papers.Store(now)
	i.seen = found.text()
	i.warnOfExpiry(now)
	return i, nil
}

// Name is what the process is called on its certificate; empty without one.
func (i *Identity) Name() string { return i.name }

// Secure tells whether there are certificates at all.
func (i *Identity) Secure() bool { return i.papers.Load() != nil }

// Caller is the name on the certificate with which a call came. Its error says why a certificate
// that was good when the connection was made is so no longer; the connection is then closed, so
// that a caller who has a new certificate comes back with it.
func (i *Identity) Caller(ctx context.Context) (string, error) {
	from, ok := peer.FromContext(ctx)
	if !ok {
		return "", errors.New("the call comes from nowhere")
	}
	who, ok := from.AuthInfo.(caller)
	if !ok {
		return "", errors.New("the call shows no certificate")
	}
	if err := i.current().allows(who.bearer, time.Now()); err != nil {
		i.often.warn(i.log, "caller refused", err.Error(), "from", from.Addr.String())
		who.conn.Close() //nolint:errcheck // nobody is to hear from it again
		return "", err
	}
	return who.name, nil
}

// allows checks a certificate that once was good against the list and the clock. It runs for
// every call.
func (p *papers) allows(b bearer, now time.Time) error {
	if now.After(b.until) {
		return fmt.Errorf("certificate %s of %s has expired", b.serial, b.name)
	}
	if p.allowed[b.serial] != b.name {
		return fmt.Errorf("certificate %s of %s is not on the list %s", b.serial, b.name, allowedFile)
	}
	return nil
}

// current is what the files say, as of at most a moment ago.
func (i *Identity) current() *papers {
	since := int64(time.Since(i.born))
	if since-i.looked.Load() > int64(lookEvery) && i.mu.TryLock() {
		i.look()
		i.looked.Store(since)
		i.mu.Unlock()
	}
	return i.papers.Load()
}

// look reads the files, and uses them if they have changed to something good. What is bad is told
// once, and the old stays.
func (i *Identity) look() {
	found := i.read()
	text := found.text()
	if bytes.Equal(text, i.seen) {
		i.warnOfExpiry(i.papers.Load())
		return
	}
	if age := time.Since(found.written); age >= 0 && age < settled {
		return
	}
	i.seen = text
	now, err := found.parse(i.name)
	if err != nil {
		i.log.Error("the new certificates are of no use, so the old stay", "dir", i.dir, "error", err)
		return
	}
	i.papers.Store(now)
	i.log.Info("certificates read again", "dir", i.dir, "serial", serialOf(now.own.Leaf), "until", now.own.Leaf.NotAfter)
	i.warnOfExpiry(now)
}

func (i *Identity) warnOfExpiry(p *papers) {
	if left := time.Until(p.own.Leaf.NotAfter); left < expiryWarning {
		i.often.each(24*time.Hour, "expiry", func() {
			i.log.Warn("the certificate ends soon; `cartwright certs` renews it", "name", i.name, "until", p.own.Leaf.NotAfter)
		})
	}
}

// files are the texts of the files, or why they could not be read.
type files struct {
	ca, allowed, cert, key []byte
	written                time.Time // the newest
	err                    error
}

func (i *Identity) read() (f files) {
	for _, one := range []struct {
		name string
		text *[]byte
	}{{caCert, &f.ca}, {allowedFile, &f.allowed}, {i.name + certSuffix, &f.cert}, {i.name + keySuffix, &f.key}} {
		path := filepath.Join(i.dir, one.name)
		info, err := os.Stat(path)
		if err == nil && info.Size() > fileMax {
			err = fmt.Errorf("%s has %d bytes, at most %d", path, info.Size(), fileMax)
		}
		if err == nil {
			*one.text, err = os.ReadFile(path)
		}
		if err != nil {
			f.err = errors.Join(f.err, err)
			continue
		}
		if info.ModTime().After(f.written) {
			f.written = info.ModTime()
		}
	}
	return f
}

// text is equal for equal files.
func (f files) text() []byte {
	all := [][]byte{f.ca, f.allowed, f.cert, f.key}
	if f.err != nil {
		all = append(all, []byte(f.err.Error()))
	}
	return bytes.Join(all, []byte{0})
}

func (f files) parse(name string) (*papers, error) {
	if f.err != nil {
		return nil, f.err
	}
	p := &papers{roots: x509.NewCertPool()}
	if !p.roots.AppendCertsFromPEM(f.ca) {
		return nil, fmt.Errorf("%s holds no certificate", caCert)
	}
	var err error
	if p.own, err = tls.X509KeyPair(f.cert, f.key); err != nil {
		return nil, fmt.Errorf("%s%s and %s%s: %w", name, certSuffix, name, keySuffix, err)
	}
	self, err := bearerOf(p.own.Leaf)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s%s: %w", name, certSuffix, err)
	case self.name != name:
		return nil, fmt.Errorf("%s%s is the certificate of %s", name, certSuffix, self.name)
	}
	if p.allowed, err = parseAllowed(f.allowed); err != nil {
		return nil, fmt.Errorf("%s: %w", allowedFile, err)
	}
	return p, nil
}
