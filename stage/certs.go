package stage

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"cartwright/access"
	"cartwright/internal/identity"
)

const (
	certLife = 90 * 24 * time.Hour
	// certsEvery is how often the supervisor looks whether one has to be renewed: a shop may run for
	// longer than they last.
	certsEvery = 12 * time.Hour
)

// Certs is the directory of the certificates.
func (s *Stage) Certs() string { return s.in(certsDir) }

// ensureCerts makes the certificates that are missing or about to end.
func (s *Stage) ensureCerts() error {
	states, err := identity.Authority{Dir: s.Certs(), Life: certLife}.Ensure(access.Subjects(), nil)
	if err != nil {
		return fmt.Errorf("certificates: %w", err)
	}
	var made []string
	for _, one := range states {
		if one.Made {
			made = append(made, one.Name)
		}
	}
	if len(made) > 0 {
		s.say("Made certificates in %s: %s", s.Certs(), strings.Join(made, " "))
	}
	return nil
}

// insecure tells whether people chose to go without certificates. A word that says neither yes nor
// no is refused by the services.
func (c choices) insecure() bool {
	chosen, _ := strconv.ParseBool(c.Settings["INSECURE"])
	return chosen
}
