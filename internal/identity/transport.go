package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// bearer is who a certificate says its holder is.
type bearer struct {
	name   string
	person bool // people call, and are not called
	serial string
	until  time.Time
}

// Who a certificate is for stands in it as a URI: cartwright://service/<name>, or person for service.
const (
	uriScheme   = "cartwright"
	uriServices = "service"
	uriPeople   = "person"
)

func bearerOf(leaf *x509.Certificate) (b bearer, err error) {
	if len(leaf.URIs) != 1 {
		return b, fmt.Errorf("the certificate has %d URIs, want one that says whose it is", len(leaf.URIs))
	}
	uri := leaf.URIs[0]
	name := strings.TrimPrefix(uri.Path, "/")
	if uri.Scheme != uriScheme || uri.Host != uriServices && uri.Host != uriPeople || !nameShape.MatchString(name) {
		return b, fmt.Errorf("the certificate is for %.100q, which is neither a service nor a person here", uri)
	}
	return bearer{name: name, person: uri.Host == uriPeople, serial: serialOf(leaf), until: leaf.NotAfter}, nil
}

func serialOf(leaf *x509.Certificate) string { return leaf.SerialNumber.Text(16) }

// caller is what a server knows of a connection; it is worked out once, at the handshake.
type caller struct {
	credentials.TLSInfo
	bearer
	conn net.Conn
}

// transport is gRPC's security on either side. Every handshake uses the files as they are then.
type transport struct {
	of      *Identity
	service string // to be called; empty for a server
}

// Server lets callers in that show a certificate of the authority which is on the list.
func (i *Identity) Server() credentials.TransportCredentials { return i.Client("") }

// Client calls the named service, and nobody who is another, wherever its address may lead.
func (i *Identity) Client(service string) credentials.TransportCredentials {
	if !i.Secure() {
		return insecure.NewCredentials()
	}
	return &transport{of: i, service: service}
}

func (t *transport) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	now := t.of.current()
	var who bearer
	config := &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{now.own},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: now.roots,
		SessionTicketsDisabled: true, // a resumed session would skip the list
		VerifyConnection: func(state tls.ConnectionState) (err error) {
			if who, err = bearerOf(state.PeerCertificates[0]); err != nil {
				return err
			}
			return now.allows(who, time.Now())
		},
	}
	conn, info, err := credentials.NewTLS(config).ServerHandshake(raw)
	if err != nil {
		if !errors.Is(err, io.EOF) { // somebody who only looked whether the port is open
			t.of.often.warn(t.of.log, "caller refused at the handshake", err.Error(), "from", raw.RemoteAddr().String())
		}
		return nil, nil, err
	}
	return conn, caller{info.(credentials.TLSInfo), who, conn}, nil
}

func (t *transport) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	now := t.of.current()
	config := &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{now.own},
		RootCAs: now.roots, ServerName: t.service, // each service's certificate bears its name, so addresses do not matter
		VerifyConnection: func(state tls.ConnectionState) error {
			who, err := bearerOf(state.PeerCertificates[0])
			switch {
			case err != nil:
				return err
			case who.person || who.name != t.service:
				return fmt.Errorf("the certificate is of %s, and %s was called", who.name, t.service)
			}
			return now.allows(who, time.Now())
		},
	}
	conn, info, err := credentials.NewTLS(config).ClientHandshake(ctx, authority, raw)
	if err != nil {
		if wrongCertificate(err) { // that nobody is there is said where calls end
			t.of.often.warn(t.of.log, t.service+" shows a wrong certificate", err.Error(), "at", raw.RemoteAddr().String())
		}
		return nil, nil, err
	}
	return &heard{Conn: conn, by: t}, info, nil
}

func wrongCertificate(err error) bool {
	var verify *tls.CertificateVerificationError
	return errors.As(err, &verify) || strings.Contains(err.Error(), "certificate")
}

// heard is a client's connection, which says so when the server refuses our certificate: under TLS
// 1.3 the client has shaken hands by then, and hears of it when it reads.
type heard struct {
	net.Conn
	by *transport
}

func (h *heard) Read(b []byte) (int, error) {
	n, err := h.Conn.Read(b)
	var said *net.OpError
	if errors.As(err, &said) && said.Op == "remote error" { // a TLS alert
		h.by.of.often.warn(h.by.of.log, h.by.service+" refuses our certificate", err.Error(), "at", h.RemoteAddr().String())
	}
	return n, err
}

func (t *transport) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls", ServerName: t.service}
}

func (t *transport) Clone() credentials.TransportCredentials { return &transport{t.of, t.service} }

func (t *transport) OverrideServerName(string) error {
	return errors.New("a service is known by its own name")
}

// seldom keeps a line that would be said again and again to one in a while.
type seldom struct {
	mu   sync.Mutex
	last map[string]time.Time
}

const (
	sayEvery   = 10 * time.Second
	reasonsMax = 256 // others can make up reasons, by the names on their certificates
)

func newSeldom() *seldom { return &seldom{last: map[string]time.Time{}} }

func (s *seldom) each(every time.Duration, key string, say func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.last[key]) < every {
		return
	}
	if len(s.last) >= reasonsMax {
		clear(s.last)
	}
	s.last[key] = time.Now()
	say()
}

func (s *seldom) warn(log interface{ Warn(string, ...any) }, what, why string, more ...any) {
	s.each(sayEvery, what+why, func() { log.Warn(what, append([]any{"reason", why}, more...)...) })
}
