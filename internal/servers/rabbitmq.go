package servers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	rabbitMQPackage = "rabbitmq-server"
	rabbitMQUser    = "rabbitmq" // the package's own user

	// rabbitMQScript starts the node in place of itself. The one in /usr/sbin insists on root or
	// the package's user, and keeps the log to itself.
	rabbitMQScript = "/usr/lib/rabbitmq/bin/rabbitmq-server"

	// nodeName need not be unique: a node is found through its epmd, and each has its own.
	nodeName = "rabbit@localhost"

	// diskFreeLimit is where the broker stops accepting messages rather than fill the disk:
	// enough for what is in its write-ahead log at the time.
	diskFreeLimit = "200MB"

	// filesMax is enough for thousands of connections. "Unlimited" would do harm: Erlang sizes
	// tables by this number.
	filesMax = 65536
)

// RabbitMQConfig says where a RabbitMQ lives and who administers it.
type RabbitMQConfig struct {
	Dir       string // made when missing; everything the server keeps is below it
	Port      int    // AMQP, on 127.0.0.1; 0 means a free one
	AdminPort int    // the HTTP API of its administration, on 127.0.0.1; 0 means a free one
	DistPort  int    // Erlang's own protocol, on 127.0.0.1; 0 means a free one
	EPMDPort  int    // the Erlang port mapper, on 127.0.0.1; 0 means a free one
	User      string // the administrator. Set at the first start in Dir, fixed from then on; there is no other account then.
	Password  string

	Output        io.Writer      // the server's log; nil means nowhere
	OnParentDeath syscall.Signal // see Command
}

// RabbitMQ is a running broker together with the port mapper that its Erlang node needs.
type RabbitMQ struct {
	*Process                // the broker
	Config   RabbitMQConfig // as it runs: ports are filled in. Start with it again after a Kill.
	Note     string         // why it does not run under its package's own user; empty when it does

	epmd *Process
	gone chan struct{}
}

// StartRabbitMQ starts a broker and returns when it lets its user in. Errors: *MissingError
// without the package; else what the server said.
func StartRabbitMQ(ctx context.Context, cfg RabbitMQConfig) (*RabbitMQ, error) {
	r := &RabbitMQ{Config: cfg, gone: make(chan struct{})}
	if err := r.start(ctx); err != nil {
		return nil, fmt.Errorf("rabbitmq: %w", err)
	}
	return r, nil
}

func (r *RabbitMQ) start(ctx context.Context) error {
	programs, err := rabbitMQPrograms()
	if err != nil {
		return err
	}
	account, err := r.prepare()
	if err != nil {
		return err
	}
	command := Command{
		Dir: r.Config.Dir, Env: rabbitMQEnv(&r.Config),
		Output: r.Config.Output, Account: account, OnParentDeath: r.Config.OnParentDeath,
	}
	mapper := command
	mapper.Path, mapper.Args = programs.epmd, []string{"-port", strconv.Itoa(r.Config.EPMDPort), "-address", "127.0.0.1"}
	if r.epmd, err = Start("epmd", mapper); err != nil {
		return err
	}
	broker := command
	broker.Path, broker.Args = "/bin/sh", []string{"-c", raiseFiles + `exec "$0"`, programs.server}
	if r.Process, err = Start("rabbitmq", broker); err != nil {
		return errors.Join(err, r.epmd.Kill())
	}
	go r.outlive()
	if err := untilAnswers(ctx, r.Process, r.ask); err != nil {
		return errors.Join(err, r.Kill())
	}
	return nil
}

// raiseFiles lets the broker open filesMax files, or as many as this user may.
var raiseFiles = fmt.Sprintf(`ulimit -n %d 2>/dev/null || ulimit -n "$(ulimit -H -n)"; `, filesMax)

// outlive ends the port mapper after the broker, whatever ended that one, so that a new start
// finds its port free. Done waits for it.
func (r *RabbitMQ) outlive() {
	<-r.Process.Done()
	_ = r.epmd.Kill() // only a process that is gone already cannot be killed
	close(r.gone)
}

// Done is closed when the broker and its port mapper have ended.
func (r *RabbitMQ) Done() <-chan struct{} { return r.gone }

// Stop asks the broker to end and waits until it and its port mapper have. When ctx ends
// first, the broker is killed, and Stop says so.
func (r *RabbitMQ) Stop(ctx context.Context) error {
	err := r.Process.Stop(ctx)
	<-r.gone
	return err
}

// Kill ends the broker with SIGKILL, as a crash would, and waits until it is gone.
func (r *RabbitMQ) Kill() error {
	err := r.Process.Kill()
	<-r.gone
	return err
}

// URL is how the user connects with AMQP 0-9-1.
func (r *RabbitMQ) URL() string {
	u := url.URL{
		Scheme: "amqp", User: url.UserPassword(r.Config.User, r.Config.Password),
		Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(r.Config.Port)), Path: "/",
	}
	return u.String()
}

// AdminURL is where the user administers the broker over HTTP.
func (r *RabbitMQ) AdminURL() string {
	u := url.URL{
		Scheme: "http", User: url.UserPassword(r.Config.User, r.Config.Password),
		Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(r.Config.AdminPort)),
	}
	return u.String()
}

// ask tells whether the broker serves AMQP, and its administration answers.
func (r *RabbitMQ) ask(context.Context) error {
	conn, err := amqp.DialConfig(r.URL(), amqp.Config{Dial: amqp.DefaultDial(askLimit)})
	if err != nil {
		return err
	}
	admin, err := net.DialTimeout("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(r.Config.AdminPort)), askLimit)
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	return errors.Join(admin.Close(), conn.Close())
}

// prepare makes the directory and the files that the broker reads at its start.
func (r *RabbitMQ) prepare() (*Account, error) {
	cfg := &r.Config
	var err error
	if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(cfg.Dir), 0o755); err != nil {
		return nil, err
	}
	account, why, err := accountFor(rabbitMQUser, cfg.Dir)
	if err != nil {
		return nil, err
	}
	r.Note = why
	return account, errors.Join(
		homeFor(account, cfg.Dir),
		fillPorts(&cfg.Port, &cfg.AdminPort, &cfg.DistPort, &cfg.EPMDPort),
		writeSecret(account, filepath.Join(cfg.Dir, "rabbitmq.conf"), rabbitMQConf(cfg)),
		writeSecret(account, filepath.Join(cfg.Dir, "enabled_plugins"), "[rabbitmq_management].\n"),
	)
}

func rabbitMQConf(cfg *RabbitMQConfig) string {
	return strings.Join([]string{
		fmt.Sprintf("listeners.tcp.default = 127.0.0.1:%d", cfg.Port),
		"distribution.listener.interface = 127.0.0.1",
		fmt.Sprintf("distribution.listener.port_range.min = %d", cfg.DistPort),
		fmt.Sprintf("distribution.listener.port_range.max = %d", cfg.DistPort),
		"management.tcp.ip = 127.0.0.1",
		fmt.Sprintf("management.tcp.port = %d", cfg.AdminPort),
		"management_agent.disable_metrics_collector = true", // accounts are all it is there for; figures of every channel would cost speed
		"default_user = " + cfg.User,
		"default_pass = " + cfg.Password,
		"default_user_tags.administrator = true",
		"disk_free_limit.absolute = " + diskFreeLimit,
		"log.console = true",
		"log.console.level = info",
		"log.file = false",
		"",
	}, "\n")
}

// rabbitMQEnv keeps every path, port and name of the node apart from those of the system's.
func rabbitMQEnv(cfg *RabbitMQConfig) []string {
	in := func(name string) string { return filepath.Join(cfg.Dir, name) }
	return append(plainEnv(cfg.Dir), // the Erlang cookie lies in HOME
		"ERL_EPMD_PORT="+strconv.Itoa(cfg.EPMDPort),
		"ERL_EPMD_ADDRESS=127.0.0.1",
		"ERL_CRASH_DUMP="+in("erl_crash.dump"),
		"RABBITMQ_NODENAME="+nodeName,
		"RABBITMQ_CONF_ENV_FILE="+in("no-such-file"),
		"RABBITMQ_CONFIG_FILE="+in("rabbitmq.conf"),
		"RABBITMQ_ADVANCED_CONFIG_FILE="+in("no-such-file.config"),
		"RABBITMQ_ENABLED_PLUGINS_FILE="+in("enabled_plugins"),
		"RABBITMQ_MNESIA_BASE="+in("data"),
		"RABBITMQ_LOG_BASE="+in("log"),
		"RABBITMQ_LOGS=-",
		"RABBITMQ_NODE_IP_ADDRESS=127.0.0.1",
		"RABBITMQ_NODE_PORT="+strconv.Itoa(cfg.Port),
		"RABBITMQ_DIST_PORT="+strconv.Itoa(cfg.DistPort),
		// The script then becomes the broker instead of waiting for it, so that the number we
		// know is the broker's own; -noinput keeps its shell from reading our standard input.
		"RABBITMQ_ALLOW_INPUT=1",
		"RABBITMQ_SERVER_START_ARGS=-noinput",
		// Erlang's threads would spin for work where the machine's other programs need the cores.
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=+S "+schedulers()+" +sbwt none +sbwtdcpu none +sbwtdio none",
	)
}

// schedulers is half of the processors: the broker shares the machine with its clients, and more
// threads on few processors only wake each other.
func schedulers() string {
	n := max(1, runtime.GOMAXPROCS(0)/2)
	return fmt.Sprintf("%d:%d", n, n)
}

type rabbitMQPaths struct{ server, epmd string }

func rabbitMQPrograms() (rabbitMQPaths, error) {
	server, errServer := find(rabbitMQScript)
	epmd, errEPMD := find("epmd")
	if errServer != nil || errEPMD != nil {
		return rabbitMQPaths{}, &MissingError{Packages: []string{rabbitMQPackage}}
	}
	return rabbitMQPaths{server: server, epmd: epmd}, nil
}

// rabbitMQControl is the package's own tool; like rabbitMQScript, not the one that wants to be root.
const rabbitMQControl = "/usr/lib/rabbitmq/bin/rabbitmqctl"

// ControlRabbitMQ runs rabbitmqctl on the broker that was started with that configuration; only its
// directory and ports count. Errors: *MissingError without the package; else what the tool said.
func ControlRabbitMQ(ctx context.Context, cfg RabbitMQConfig, args ...string) error {
	tool, err := find(rabbitMQControl)
	if err != nil {
		return &MissingError{Packages: []string{rabbitMQPackage}}
	}
	cmd := exec.CommandContext(ctx, tool, args...)
	// Where no broker runs, the tool would start a port mapper, which would outlive it and take the port.
	cmd.Dir, cmd.Env = cfg.Dir, append(rabbitMQEnv(&cfg), "ERL_FLAGS=-start_epmd false")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("rabbitmqctl %s: %w\n%s", args[0], err, out)
	}
	return nil
}
