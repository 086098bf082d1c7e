package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// Names of files in the directory of certificates; each subject has a .crt and a .key.
const (
	caCert     = "ca.crt"
	caKey      = "ca.key"
	lockFile   = ".lock"
	certSuffix = ".crt"
	keySuffix  = ".key"
)

const (
	caLife     = 10 * 365 * 24 * time.Hour
	clockSlack = time.Hour // clocks differ, and a certificate is used as soon as it is made
	serialBits = 120       // random, so nobody can tell what the next will be
)

// Subject is who a certificate is for.
type Subject struct {
	Name   string
	Person bool // gets a certificate to call with, and none to be called with
}

// Authority makes certificates and keeps the list of those that are let in.
type Authority struct {
	Dir    string
	KeyDir string        // where the authority's own key is; Dir when empty
	Life   time.Duration // of a certificate; it is renewed when a third of it is left
	Hosts  []string      // names and addresses on certificates beside those that all have
	// Owners are the numbers of the users who alone can read a subject's key, for subjects that do
	// not run as who calls Ensure. Giving a file away takes root.
	Owners map[string]int
}

// State is how it stands with one certificate.
type State struct {
	Subject
	Serial string
	Until  time.Time
	Listed bool
	Fault  string // why it has to be made anew; empty when it is good
	Made   bool   // just now
}

// Ensure makes what is missing, broken, about to end, or named in renew, and leaves the rest as it
// is. One that was taken off the list stays so until it is named in renew. A certificate that is
// renewed in time stays on the list beside the new one until it ends; one that is named in renew
// leaves it at once.
func (a Authority) Ensure(subjects []Subject, renew []string) ([]State, error) {
	for _, name := range slices.AppendSeq(slices.Clone(renew), maps.Keys(a.Owners)) {
		if !slices.ContainsFunc(subjects, func(s Subject) bool { return s.Name == name }) {
			return nil, fmt.Errorf("there is no certificate for %q", name)
		}
	}
	if err := os.MkdirAll(a.Dir, 0o700); err != nil {
		return nil, err
	}
	unlock, err := a.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := a.ensureCA(); err != nil {
		return nil, err
	}
	states, err := a.States(subjects)
	if err != nil {
		return nil, err
	}
	for i := range states {
		s := &states[i]
		named, revoked := slices.Contains(renew, s.Name), s.Serial != "" && !s.Listed
		if named || !revoked && s.Fault != "" {
			if err := a.issue(s, named); err != nil {
				return nil, fmt.Errorf("%s: %w", s.Name, err)
			}
		}
		if owner, other := a.Owners[s.Name]; other {
			if err := os.Chown(a.in(s.Name+keySuffix), owner, -1); err != nil {
				return nil, fmt.Errorf("%s: %w", s.Name, err)
			}
		}
	}
	return states, nil
}

// States tells how it stands with each certificate, and changes nothing.
func (a Authority) States(subjects []Subject) ([]State, error) {
	ca, err := a.readCA()
	if err != nil {
		return nil, err
	}
	lines, err := a.lines()
	if err != nil {
		return nil, err
	}
	states := make([]State, len(subjects))
	for i, subject := range subjects {
		states[i] = a.state(subject, ca, lines)
	}
	return states, nil
}

func (a Authority) state(subject Subject, ca *x509.Certificate, lines []line) State {
	s := State{Subject: subject}
	pair, err := tls.LoadX509KeyPair(a.in(subject.Name+certSuffix), a.in(subject.Name+keySuffix))
	if err != nil {
		s.Fault = "missing"
		if !errors.Is(err, fs.ErrNotExist) {
			s.Fault = err.Error()
		}
		return s
	}
	who, err := bearerOf(pair.Leaf)
	if err == nil && (who.name != subject.Name || who.person != subject.Person) {
		err = fmt.Errorf("it is the certificate of %s", who.name)
	}
	if err == nil {
		err = pair.Leaf.CheckSignatureFrom(ca)
	}
	if err != nil {
		s.Fault = err.Error()
		return s
	}
	s.Serial, s.Until = who.serial, who.until
	s.Listed = slices.ContainsFunc(lines, func(l line) bool { return l.serial == who.serial && l.name == who.name })
	for _, host := range a.hosts(subject) {
		if pair.Leaf.VerifyHostname(host) != nil {
			s.Fault = "does not name " + host
		}
	}
	if time.Until(who.until) < pair.Leaf.NotAfter.Sub(pair.Leaf.NotBefore)/3 {
		s.Fault = "ends soon"
	}
	return s
}

// issue makes one certificate. The list comes first: a certificate that is used before it is
// listed would be refused.
func (a Authority) issue(s *State, instead bool) error {
	ca, err := tls.LoadX509KeyPair(a.in(caCert), a.caKey())
	if err != nil {
		return fmt.Errorf("the authority's key is needed to make a certificate: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template, err := a.template(s.Subject)
	if err != nil {
		return err
	}
	if template.NotAfter.After(ca.Leaf.NotAfter) {
		template.NotAfter = ca.Leaf.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.Leaf, key.Public(), ca.PrivateKey)
	if err != nil {
		return err
	}
	if err := a.list(line{template.SerialNumber.Text(16), s.Name, template.NotAfter}, instead); err != nil {
		return err
	}
	if err := a.writePair(a.in(s.Name+certSuffix), a.in(s.Name+keySuffix), der, key); err != nil {
		return err
	}
	s.Serial, s.Until, s.Listed, s.Fault, s.Made = template.SerialNumber.Text(16), template.NotAfter, true, "", true
	return nil
}

func (a Authority) template(subject Subject) (*x509.Certificate, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: subject.Name, Organization: []string{"Cartwright"}},
		NotBefore:    time.Now().Add(-clockSlack),
		NotAfter:     time.Now().Add(a.Life),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		URIs:         []*url.URL{{Scheme: uriScheme, Host: uriPeople, Path: "/" + subject.Name}},
	}
	if !subject.Person {
		template.URIs[0].Host = uriServices
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	for _, host := range a.hosts(subject) {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	return template, nil
}

// hosts are the names under which a service is found. Our own clients ask for the first, whatever
// the address; the others are for tools.
func (a Authority) hosts(subject Subject) []string {
	if subject.Person {
		return nil
	}
	return append([]string{subject.Name, "localhost", "127.0.0.1", "::1"}, a.Hosts...)
}

func newSerial() (*big.Int, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), serialBits))
	if err == nil && serial.Sign() == 0 {
		err = errors.New("the random serial number is 0")
	}
	return serial, err
}

// ensureCA makes the authority itself, once.
func (a Authority) ensureCA() error {
	if _, err := os.Stat(a.in(caCert)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := newSerial()
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "Cartwright private authority", Organization: []string{"Cartwright"}},
		NotBefore: time.Now().Add(-clockSlack), NotAfter: time.Now().Add(caLife),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(a.caKey()), 0o700); err != nil {
		return err
	}
	return a.writePair(a.in(caCert), a.caKey(), der, key)
}

func (a Authority) readCA() (*x509.Certificate, error) {
	text, err := os.ReadFile(a.in(caCert))
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s holds no certificate", a.in(caCert))
	}
	ca, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a.in(caCert), err)
	}
	if time.Now().After(ca.NotAfter) {
		return nil, fmt.Errorf("the authority of %s has ended: remove the directory's files, and all certificates are made anew", a.Dir)
	}
	return ca, nil
}

// list adds a line, in place of all others of its name if so asked.
func (a Authority) list(add line, instead bool) error {
	lines, err := a.lines()
	if err != nil {
		return err
	}
	lines = slices.DeleteFunc(current(lines, time.Now()), func(l line) bool { return instead && l.name == add.name })
	return writeFile(a.in(allowedFile), formatLines(append(lines, add)), 0o644)
}

// lines is the list; it is empty when there is none yet.
func (a Authority) lines() ([]line, error) {
	text, err := os.ReadFile(a.in(allowedFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	lines, err := parseLines(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a.in(allowedFile), err)
	}
	return lines, nil
}

// writePair writes a key, which only its owner can read, and then its certificate.
func (a Authority) writePair(certPath, keyPath string, der []byte, key *ecdsa.PrivateKey) error {
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	err = writeFile(keyPath, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600)
	if err != nil {
		return err
	}
	return writeFile(certPath, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}

// writeFile writes a file in one step: whoever reads it sees the old text or the new, whole.
func writeFile(path string, text []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, errWrite := f.Write(text)
	err = errors.Join(errWrite, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("%s: %w", path, err), os.Remove(f.Name()))
	}
	return nil
}

// lock keeps two runs from making two authorities.
func (a Authority) lock() (unlock func(), err error) {
	f, err := os.OpenFile(a.in(lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", a.in(lockFile), err), f.Close())
	}
	return func() { f.Close() }, nil
}

func (a Authority) in(name string) string { return filepath.Join(a.Dir, name) }

func (a Authority) caKey() string {
	if a.KeyDir != "" {
		return filepath.Join(a.KeyDir, caKey)
	}
	return a.in(caKey)
}
