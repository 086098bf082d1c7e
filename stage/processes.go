package stage

import (
	"context"
	"fmt"
	"strings"
)

// Process is one process of a shop that runs.
type Process struct {
	Service string // or mariadb, or rabbitmq
	Name    string // the service's, and for further replicas with its number: inventory-2
	PID     int
	Listen  string // where this machine can reach it; empty for the servers
	Debug   string // where it shows its metrics; empty for the servers
}

// Processes are those of this directory's shop that run now; none where no shop runs.
func (s *Stage) Processes() (all []Process, err error) {
	st, err := s.readState()
	if err != nil {
		return nil, fmt.Errorf("processes: %w", err)
	}
	for _, p := range st.Processes {
		if p.alive() {
			service, _, _ := strings.Cut(p.Name, "-")
			all = append(all, Process{service, p.Name, p.PID, reachable(p.Listen), reachable(p.Debug)})
		}
	}
	return all, nil
}

// Versions are the names and versions of a database server and a broker, as people say them. A
// broker that nobody named is left out.
func Versions(ctx context.Context, dsn, amqpURL string) (database, broker string, err error) {
	product, version, err := databaseVersion(ctx, dsn)
	if err != nil || amqpURL == "" {
		return product + " " + version, "", err
	}
	broker, err = brokerVersion(amqpURL)
	return product + " " + version, "RabbitMQ " + broker, err
}
