package stage

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"cartwright/internal/servers"
)

// Shop is what another program needs to use a shop, and to look behind its counter.
type Shop struct {
	URLs      []string // the HTTP API, of each gateway
	StaffKey  string
	JobSecret string
	AMQPURL   string // the broker; this account may do everything
	AdminDSN  string // the database; this account may do everything
	DSN       string // the database; this account may read everything
	LogDir    string // a file for each process
}

// Secrets are those of the shop's words that must be in no log.
func (s Shop) Secrets() []string { return []string{s.StaffKey, s.JobSecret} }

// Start brings up a shop for another program: as Up does, and without a demonstration. scale says
// how many replicas there are of a service; of others there is one.
func (s *Stage) Start(ctx context.Context, scale map[string]int) (Shop, error) {
	held, err := s.hold()
	if err != nil {
		return Shop{}, err
	}
	defer held.Close()
	ctx, cancel := context.WithTimeout(ctx, upLimit)
	defer cancel()
	_, p, sec, err := s.up(ctx, scale)
	if err != nil {
		return Shop{}, err
	}
	shop := Shop{
		StaffKey: sec.StaffKey, JobSecret: sec.JobSecret, AMQPURL: p.brokerURL(),
		AdminDSN: p.adminDSN(), DSN: p.readerDSN(sec), LogDir: s.in(logDir),
	}
	for _, process := range p.Processes {
		if process.Service == "gateway" {
			shop.URLs = append(shop.URLs, "http://"+reachable(process.Listen))
		}
	}
	return shop, nil
}

// Stop ends the shop and waits until it has ended.
func (s *Stage) Stop(ctx context.Context) error { return s.down(ctx) }

// Ready tells whether every process of the shop runs and says that it is ready. Errors: ErrNotReady,
// with who is not.
func (s *Stage) Ready(ctx context.Context) error {
	st, err := s.readState()
	if err != nil {
		return fmt.Errorf("ready: %w", err)
	}
	var unready []string
	for _, p := range st.Processes {
		if err := p.ready(ctx); err != nil {
			unready = append(unready, p.Name)
		}
	}
	if len(unready) > 0 || len(st.Processes) == 0 {
		return fmt.Errorf("%s: %w", strings.Join(unready, " "), ErrNotReady)
	}
	return nil
}

// ControlBroker runs rabbitmqctl on the shop's own broker.
func (s *Stage) ControlBroker(ctx context.Context, args ...string) error {
	var p plan
	if err := readJSON(s.in(planFile), &p); err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	return servers.ControlRabbitMQ(ctx, servers.RabbitMQConfig{
		Dir: s.in(rabbitMQ), Port: p.Broker.Port, AdminPort: p.Broker.AdminPort, DistPort: p.Broker.DistPort, EPMDPort: p.Broker.EPMDPort,
	}, args...)
}

// FreePorts are settings that give every process of a shop a port that nobody listens on, with room
// for a number of replicas, as KEY=value.
func FreePorts(replicas int) ([]string, error) {
	var env []string
	var taken []int
	names := []string{"MARIADB_PORT", "RABBITMQ_PORT", "RABBITMQ_DIST_PORT", "EPMD_PORT", "RABBITMQ_ADMIN_PORT"}
	for _, sv := range services {
		names = append(names, sv.listenSetting(false), sv.listenSetting(true))
	}
	for _, name := range names {
		port, err := freeColumn(replicas, taken)
		if err != nil {
			return nil, err
		}
		for i := range replicas {
			taken = append(taken, port+i*replicaStep)
		}
		value := strconv.Itoa(port)
		if strings.HasSuffix(name, "_LISTEN") {
			value = net.JoinHostPort("127.0.0.1", value)
		}
		env = append(env, prefix+name+"="+value)
	}
	return env, nil
}

// freeColumn is a port that is free for the first replica, and for each further one.
func freeColumn(replicas int, taken []int) (int, error) {
	const tries = 100 // most of a machine's ports are free
	for range tries {
		port, err := servers.FreePort()
		if err != nil {
			return 0, err
		}
		free := true
		for i := range replicas {
			other := port + i*replicaStep
			free = free && !slices.Contains(taken, other) && (i == 0 || servers.PortIsFree(other) == nil)
		}
		if free {
			return port, nil
		}
	}
	return 0, fmt.Errorf("there are no %d free ports for a service", replicas)
}
