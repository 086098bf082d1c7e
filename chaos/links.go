package chaos

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"cartwright/internal/wire"
)

// What the stage calls the servers.
const (
	broker   = "rabbitmq"
	database = "mariadb"
)

// A link is named by both ends, and all of them at one end by a star.
const (
	linkSign  = ">"
	everybody = "*"
)

// links are all connections between the processes of a shop, each through a proxy of its own.
type links struct {
	mu      sync.Mutex
	proxies map[string]*wire.Proxy
}

func newLinks() *links { return &links{proxies: map[string]*wire.Proxy{}} }

// detour leads from one process to another through their proxy, which it makes.
func (l *links) detour(ctx context.Context) func(from, to, address string) (string, error) {
	return func(from, to, address string) (string, error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		name := from + linkSign + to
		if known := l.proxies[name]; known != nil {
			return known.Addr(), nil
		}
		p, err := wire.New(ctx, address)
		if err != nil {
			return "", err
		}
		l.proxies[name] = p
		return p.Addr(), nil
	}
}

// names lists all links in order.
func (l *links) names() (names []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name := range l.proxies {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// hit are the proxies that a target names.
func (l *links) hit(target string) (hit []*wire.Proxy) {
	from, to := ends(target)
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, p := range l.proxies {
		f, t := ends(name)
		if (from == everybody || from == f) && (to == everybody || to == t) {
			hit = append(hit, p)
		}
	}
	return hit
}

// heal carries everything again.
func (l *links) heal() {
	for _, p := range l.hit(everybody + linkSign + everybody) {
		p.Heal()
	}
}

func (l *links) close() error {
	var errs []error
	for _, p := range l.hit(everybody + linkSign + everybody) {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}

func ends(link string) (from, to string) {
	from, to, _ = strings.Cut(link, linkSign)
	return from, to
}
