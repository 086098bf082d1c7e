package stage

import (
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// choices are what people asked of this shop with up, and what later starts keep to.
type choices struct {
	Scale    map[string]int    `json:"scale"`    // replicas by service
	Settings map[string]string `json:"settings"` // without the prefix
	Shown    bool              `json:"shown"`    // the demonstration has run on this data
}

// made are the settings that the stage works out itself. They are not taken from the
// environment, where those of this or of another shop may stand after `env`.
func made() []string {
	names := []string{"HOME", "URL", "AMQP_URL", "JOB_SECRET", "STAFF_KEY", "ADMIN_DSN", "MYSQL_DSN", "BROKER_ADMIN_URL", "TLS_DIR"}
	for _, s := range services {
		names = append(names, s.upper()+"_DSN", s.upper()+"_AMQP_URL", s.upper()+"_ADDR")
	}
	return names
}

// readChoices returns the choices kept so far, with those of this command merged in: a
// setting in the environment replaces the kept one, and an empty value forgets it.
func (s *Stage) readChoices(scale map[string]int) (choices, error) {
	c := choices{Scale: map[string]int{}, Settings: map[string]string{}}
	if err := readJSON(s.in(choicesFile), &c); err != nil {
		return c, err
	}
	maps.Copy(c.Scale, scale)
	own := made()
	for _, pair := range s.Environ {
		key, value, _ := strings.Cut(pair, "=")
		name, ours := strings.CutPrefix(key, prefix)
		if !ours || strings.HasPrefix(name, "TEST_") || slices.Contains(own, strings.TrimSuffix(name, "_FILE")) {
			continue
		}
		if value == "" {
			delete(c.Settings, name)
			continue
		}
		c.Settings[name] = value
	}
	return c, nil
}

// replicas is how many there should be of a service.
func (c choices) replicas(service string) int {
	if n := c.Scale[service]; n > 0 {
		return n
	}
	return 1
}

// scaleFlag reads --scale service=number, which may be given several times.
type scaleFlag map[string]int

func (f scaleFlag) String() string { return "" }

func (f scaleFlag) Set(text string) error {
	name, digits, _ := strings.Cut(text, "=")
	if _, err := serviceNamed(name); err != nil {
		return err
	}
	n, err := strconv.Atoi(digits)
	if err != nil || n < 1 || n > replicasMax {
		return fmt.Errorf("%s must be %s=1 to %s=%d", text, name, name, replicasMax)
	}
	f[name] = n
	return nil
}

// secrets are made at the first start and kept with the data that they open.
type secrets struct {
	Admin       string            `json:"admin"`          // password of the database account that may do everything
	Reader      string            `json:"reader"`         // of the one that may read everything
	Services    map[string]string `json:"services"`       // of each service's own, by service
	BrokerAdmin string            `json:"broker"`         // of the broker's administrator
	Broker      map[string]string `json:"brokerServices"` // of each service's own account there, by service
	JobSecret   string            `json:"jobSecret"`      // signs jobs
	StaffKey    string            `json:"staffKey"`
}

// readSecrets returns the kept secrets, and makes and keeps those that are missing.
func (s *Stage) readSecrets() (secrets, error) {
	var kept secrets
	if err := readJSON(s.in(secretsFile), &kept); err != nil {
		return kept, err
	}
	changed := false
	fill := func(secret *string) {
		if *secret == "" {
			*secret, changed = rand.Text(), true
		}
	}
	for _, secret := range []*string{&kept.Admin, &kept.Reader, &kept.BrokerAdmin, &kept.JobSecret, &kept.StaffKey} {
		fill(secret)
	}
	for _, own := range []*map[string]string{&kept.Services, &kept.Broker} {
		if *own == nil {
			*own = map[string]string{}
		}
		for _, sv := range services {
			password := (*own)[sv.name]
			fill(&password)
			(*own)[sv.name] = password
		}
	}
	if !changed {
		return kept, nil
	}
	return kept, writeJSON(s.in(secretsFile), kept)
}
