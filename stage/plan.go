package stage

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// Where the private servers listen if nothing else is asked for: next to the services.
const (
	defaultMariaDBPort  = 9150
	defaultRabbitMQPort = 9160
	defaultRabbitDist   = 9161
	defaultEPMDPort     = 9162
	defaultRabbitAdmin  = 9163
)

// Accounts of the database and the broker.
const (
	adminAccount  = "cartwright_admin"
	readerAccount = "cartwright_reader"
	brokerAccount = "cartwright" // its administrator
)

// A plan says which processes there should be. It holds all that the supervisor needs.
type plan struct {
	Asked     string        `json:"asked"`   // when; tells the supervisor's answer to this plan from earlier ones
	Program   string        `json:"program"` // runs every service; its name holds a digest of its content
	Database  databasePlan  `json:"database"`
	Broker    brokerPlan    `json:"broker"`
	Migrate   processPlan   `json:"migrate"`   // runs once before the services
	Processes []processPlan `json:"processes"` // in the order in which they are replaced
}

type databasePlan struct {
	Port     int    `json:"port"`
	Password string `json:"password"`
}

type brokerPlan struct {
	Port      int    `json:"port"`
	DistPort  int    `json:"distPort"`
	EPMDPort  int    `json:"epmdPort"`
	AdminPort int    `json:"adminPort"`
	Password  string `json:"password"`
}

// processPlan is one replica of one service.
type processPlan struct {
	Service string            `json:"service"`
	Replica int               `json:"replica"` // from 1
	Env     map[string]string `json:"env"`
	Listen  string            `json:"listen,omitempty"`
	Debug   string            `json:"debug,omitempty"` // where /readyz is
}

// name is what a process is called in logs and tables: inventory, inventory-2, …
func (p processPlan) name() string {
	if p.Replica <= 1 {
		return p.Service
	}
	return p.Service + "-" + strconv.Itoa(p.Replica)
}

// id is a digest of the plan; two plans with one ID ask for the same.
func (p plan) id() string {
	p.Asked = ""
	return digest(p)
}

// fingerprint is a digest of all that a process is started with.
func (p plan) fingerprint(process processPlan) string { return digest([]any{p.Program, process}) }

func digest(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // a plan is strings and numbers
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// makePlan works out the plan for these choices. All faults of all settings come together in
// the one error.
func (s *Stage) makePlan(c choices, sec secrets, program string) (plan, error) {
	m := planner{choices: c, secrets: sec, certs: s.Certs(), detour: s.Detour}
	if _, m.shiftFault = shiftOf(c.Settings); m.shiftFault != nil {
		m.faults = append(m.faults, m.shiftFault)
	}
	p := plan{
		Program:  program,
		Database: databasePlan{Port: m.port("MARIADB_PORT", defaultMariaDBPort), Password: sec.Admin},
		Broker: brokerPlan{
			Port:      m.port("RABBITMQ_PORT", defaultRabbitMQPort),
			DistPort:  m.port("RABBITMQ_DIST_PORT", defaultRabbitDist),
			EPMDPort:  m.port("EPMD_PORT", defaultEPMDPort),
			AdminPort: m.port("RABBITMQ_ADMIN_PORT", defaultRabbitAdmin),
			Password:  sec.BrokerAdmin,
		},
	}
	m.plan = &p
	p.Migrate = processPlan{Service: "migrate", Env: m.migrateEnv()}
	for _, s := range services {
		for replica := 1; replica <= c.replicas(s.name); replica++ {
			p.Processes = append(p.Processes, m.process(s, replica))
		}
	}
	m.faults = append(m.faults, clashes(p)...)
	return p, errors.Join(m.faults...)
}

// planner gathers the faults that it meets.
type planner struct {
	choices choices
	secrets secrets
	certs   string // the directory of the certificates
	detour  func(from, to, address string) (string, error)
	plan    *plan
	faults  []error

	shiftFault error // concerns every address
}

func (m *planner) port(setting string, otherwise int) int {
	value := m.choices.Settings[setting]
	if value == "" {
		shift, _ := shiftOf(m.choices.Settings) // its fault is told once, by makePlan
		return otherwise + shift
	}
	port, err := strconv.Atoi(value)
	if err != nil || port < 1 || port > 65535 {
		m.faults = append(m.faults, fmt.Errorf("%s=%s: must be a port, 1 to 65535", prefix+setting, value))
	}
	return port
}

func (m *planner) address(s service, replica int, debug bool) string {
	address, err := s.address(m.choices.Settings, replica, debug)
	if err != nil && replica == 1 && m.shiftFault == nil { // others would only say it again
		m.faults = append(m.faults, err)
	}
	return address
}

// addresses lists where a process finds all replicas of a service.
func (m *planner) addresses(from string, s service) string {
	var list []string
	for replica := 1; replica <= m.choices.replicas(s.name); replica++ {
		address, _ := s.address(m.choices.Settings, replica, false) // a fault is told once, by address
		to := processPlan{Service: s.name, Replica: replica}
		list = append(list, m.way(from, to.name(), reachable(address)))
	}
	return strings.Join(list, ",")
}

// way is where a process finds another.
func (m *planner) way(from, to, address string) string {
	if m.detour == nil {
		return address
	}
	other, err := m.detour(from, to, address)
	if err != nil {
		m.faults = append(m.faults, fmt.Errorf("the way from %s to %s: %w", from, to, err))
	}
	return other
}

// A process is given the addresses of those whom it asks and of nobody else: it must be
// replaced when they change.
func (m *planner) process(s service, replica int) processPlan {
	env := m.common()
	p := processPlan{Service: s.name, Replica: replica, Env: env}
	p.Listen, p.Debug = m.address(s, replica, false), m.address(s, replica, true)
	env[prefix+s.listenSetting(false)], env[prefix+s.listenSetting(true)] = p.Listen, p.Debug
	env[prefix+"AMQP_URL"] = m.serviceURL(s, m.way(p.name(), rabbitMQ, local(m.plan.Broker.Port)))
	// Many processes share this machine. One that runs on few processors wakes fewer threads for
	// the same work, and its batches stay whole.
	env["GOMAXPROCS"] = strconv.Itoa(max(1, runtime.GOMAXPROCS(0)/2))
	if !m.choices.insecure() {
		env[prefix+"TLS_DIR"] = m.certs
	}
	if s.owns {
		env[prefix+s.upper()+"_DSN"] = m.serviceDSN(s, m.way(p.name(), mariaDB, local(m.plan.Database.Port)))
	}
	if s.jobs {
		env[prefix+"JOB_SECRET"] = m.secrets.JobSecret
	}
	if s.staff {
		env[prefix+"STAFF_KEY"] = m.secrets.StaffKey
	}
	for _, name := range s.asks {
		asked, err := serviceNamed(name)
		if err != nil {
			panic(err) // the table of services names one that it does not hold
		}
		env[prefix+asked.upper()+"_ADDR"] = m.addresses(p.name(), asked)
	}
	return p
}

// common is what every process is given: the settings that people chose, without those that
// place other processes.
func (m *planner) common() map[string]string {
	env := map[string]string{}
	for name, value := range m.choices.Settings {
		if !strings.HasSuffix(name, "_LISTEN") && !strings.HasSuffix(name, "_PORT") && name != "PORT_SHIFT" {
			env[prefix+name] = value
		}
	}
	return env
}

func (m *planner) migrateEnv() map[string]string {
	env := m.common()
	env[prefix+"ADMIN_DSN"] = m.plan.adminDSN()
	env[prefix+"MYSQL_DSN"] = m.plan.readerDSN(m.secrets)
	env[prefix+"AMQP_URL"] = m.plan.brokerURL()
	env[prefix+"BROKER_ADMIN_URL"] = m.plan.brokerAdminURL()
	for _, s := range services {
		env[prefix+s.upper()+"_AMQP_URL"] = m.serviceURL(s, local(m.plan.Broker.Port))
		if s.owns {
			env[prefix+s.upper()+"_DSN"] = m.serviceDSN(s, local(m.plan.Database.Port))
		}
	}
	return env
}

func (m *planner) serviceDSN(s service, at string) string {
	return dsn("cartwright_"+s.name, m.secrets.Services[s.name], at)
}

func (m *planner) serviceURL(s service, at string) string {
	return amqpURL("cartwright_"+s.name, m.secrets.Broker[s.name], at)
}

func (p *plan) adminDSN() string {
	return dsn(adminAccount, p.Database.Password, local(p.Database.Port))
}

func (p *plan) readerDSN(sec secrets) string {
	return dsn(readerAccount, sec.Reader, local(p.Database.Port))
}

func (p *plan) brokerURL() string {
	return amqpURL(brokerAccount, p.Broker.Password, local(p.Broker.Port))
}

// dsn needs no escaping: the passwords are letters and digits.
func dsn(account, password, at string) string {
	return fmt.Sprintf("%s:%s@tcp(%s)/", account, password, at)
}

func amqpURL(account, password, at string) string {
	return fmt.Sprintf("amqp://%s:%s@%s/", account, password, at)
}

func (p *plan) brokerAdminURL() string {
	return fmt.Sprintf("http://%s:%s@127.0.0.1:%d", brokerAccount, p.Broker.Password, p.Broker.AdminPort)
}

// listener is a port that a plan takes, and the setting that moves it.
type listener struct {
	address, setting, name string
}

func (p plan) listeners() []listener {
	all := []listener{
		{local(p.Database.Port), "MARIADB_PORT", mariaDB},
		{local(p.Broker.Port), "RABBITMQ_PORT", rabbitMQ},
		{local(p.Broker.DistPort), "RABBITMQ_DIST_PORT", rabbitMQ},
		{local(p.Broker.EPMDPort), "EPMD_PORT", rabbitMQ},
		{local(p.Broker.AdminPort), "RABBITMQ_ADMIN_PORT", rabbitMQ},
	}
	for _, process := range p.Processes {
		upper := strings.ToUpper(process.Service)
		all = append(all, listener{process.Listen, upper + "_LISTEN", process.name()}, listener{process.Debug, upper + "_DEBUG_LISTEN", process.name()})
	}
	return all
}

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// clashes are the ports that a plan gives out twice.
func clashes(p plan) []error {
	var faults []error
	taken := map[string]listener{}
	for _, l := range p.listeners() {
		_, port, err := net.SplitHostPort(l.address)
		if err != nil {
			continue // its own fault has been told
		}
		if other, twice := taken[port]; twice {
			faults = append(faults, fmt.Errorf("port %s is given to %s (%s) and to %s (%s)", port, other.name, prefix+other.setting, l.name, prefix+l.setting))
		}
		taken[port] = l
	}
	return faults
}

// environment is a process's whole environment: the supervisor's own without its settings, and those of the plan.
func (p processPlan) environment(base []string) []string {
	env := slices.DeleteFunc(slices.Clone(base), func(pair string) bool { return strings.HasPrefix(pair, prefix) })
	for _, key := range slices.Sorted(maps.Keys(p.Env)) {
		env = append(env, key+"="+p.Env[key])
	}
	return env
}
