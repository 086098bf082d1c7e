package servers

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/go-sql-driver/mysql"
)

const (
	mariaDBPackage = "mariadb-server"
	mariaDBUser    = "mysql" // the package's own user

	// The socket lies in the data directory and is named relative to it: a path of more than
	// 107 bytes cannot be bound, and people clone into deep directories.
	mariaDBSocket = "m.sock"

	// What is enough for a test.
	smallBufferPool = "256M"
	smallRedoLog    = "128M"

	// connectionsMax is room for many replicas with a pool each; an idle connection costs little.
	connectionsMax = 1000
)

// MariaDBConfig says where a MariaDB lives and who may administer it.
type MariaDBConfig struct {
	Dir      string // made when missing; everything the server keeps is below it
	Port     int    // on 127.0.0.1; 0 means a free one
	Admin    string // the one account that exists: it may do everything, over TCP, with Password
	Password string

	BufferPool string // memory for pages, such as 512M; empty is enough for a test
	RedoLog    string // on disk; what is changed faster than this comes round waits for pages to be written

	Output        io.Writer      // the server's log; nil means nowhere
	OnParentDeath syscall.Signal // see Command
}

// MariaDB is a running server.
type MariaDB struct {
	*Process
	Config MariaDBConfig // as it runs: the port is filled in. Start with it again after a Kill.
	Note   string        // why it does not run under its package's own user; empty when it does
}

// StartMariaDB starts a server, having made its data directory if there is none, and returns
// when a query is answered. Errors: *MissingError without the package; else what the server said.
func StartMariaDB(ctx context.Context, cfg MariaDBConfig) (*MariaDB, error) {
	m := &MariaDB{Config: cfg}
	if err := m.start(ctx); err != nil {
		return nil, fmt.Errorf("mariadb: %w", err)
	}
	return m, nil
}

func (m *MariaDB) start(ctx context.Context) error {
	cfg := &m.Config
	programs, err := mariaDBPrograms()
	if err != nil {
		return err
	}
	if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(cfg.Dir), 0o755); err != nil {
		return err
	}
	account, why, err := accountFor(mariaDBUser, cfg.Dir)
	if err != nil {
		return err
	}
	m.Note = why
	if err := errors.Join(homeFor(account, cfg.Dir), fillPorts(&cfg.Port)); err != nil {
		return err
	}
	if err := initialise(ctx, programs.install, account, cfg.Dir); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if err := writeSecret(account, filepath.Join(cfg.Dir, "accounts.sql"), accountsSQL(cfg)); err != nil {
		return err
	}
	m.Process, err = Start("mariadb", Command{
		Path: programs.server, Args: mariaDBArgs(cfg, account), Dir: cfg.Dir, Env: plainEnv(cfg.Dir),
		Output: cfg.Output, Account: account, OnParentDeath: cfg.OnParentDeath,
	})
	if err != nil {
		return err
	}
	if err := untilAnswers(ctx, m.Process, m.ask); err != nil {
		return errors.Join(err, m.Kill())
	}
	return nil
}

// DSN is how the administrator connects with go-sql-driver; it names no database.
func (m *MariaDB) DSN() string {
	c := mysql.NewConfig()
	c.User, c.Passwd = m.Config.Admin, m.Config.Password
	c.Net, c.Addr = "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(m.Config.Port))
	return c.FormatDSN()
}

func (m *MariaDB) ask(ctx context.Context) error {
	cfg, err := mysql.ParseDSN(m.DSN())
	if err != nil {
		return err
	}
	cfg.Logger = &mysql.NopLogger{} // that the server does not answer yet is no news
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return err
	}
	db := sql.OpenDB(connector)
	var one int
	return errors.Join(db.QueryRowContext(ctx, "SELECT 1").Scan(&one), db.Close())
}

type mariaDBPaths struct{ server, install string }

func mariaDBPrograms() (mariaDBPaths, error) {
	server, errServer := find("mariadbd")
	install, errInstall := find("mariadb-install-db")
	if errServer != nil || errInstall != nil {
		return mariaDBPaths{}, &MissingError{Packages: []string{mariaDBPackage}}
	}
	return mariaDBPaths{server: server, install: install}, nil
}

// initialise makes the system tables. They are made beside their place and moved there when
// they are whole, so that an interrupted first start is simply done again.
func initialise(ctx context.Context, install string, account *Account, dir string) error {
	data := filepath.Join(dir, "data")
	if _, err := os.Stat(data); err == nil {
		return nil
	}
	half := data + ".half"
	if err := os.RemoveAll(half); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, install, "--no-defaults", "--datadir="+half, "--skip-test-db", "--skip-name-resolve",
		"--auth-root-authentication-method=socket", "--innodb-log-file-size="+smallRedoLog)
	cmd.Dir, cmd.Env = dir, plainEnv(dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: account.credential()}
	if account == nil && os.Geteuid() == 0 {
		cmd.Args = append(cmd.Args, "--user=root")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", filepath.Base(install), err, out)
	}
	return os.Rename(half, data)
}

func mariaDBArgs(cfg *MariaDBConfig, account *Account) []string {
	args := []string{
		"--no-defaults", // first, or it is ignored: the system's configuration is not ours
		"--datadir=" + filepath.Join(cfg.Dir, "data"),
		"--socket=" + mariaDBSocket,
		"--pid-file=" + filepath.Join(cfg.Dir, "mariadb.pid"),
		"--init-file=" + filepath.Join(cfg.Dir, "accounts.sql"),
		"--bind-address=127.0.0.1",
		"--port=" + strconv.Itoa(cfg.Port),
		"--skip-name-resolve",
		"--local-infile=0",
		"--default-time-zone=+00:00",
		"--character-set-server=utf8mb4",
		"--innodb-flush-log-at-trx-commit=1", // a commit that was answered survives the power cut
		"--innodb-buffer-pool-size=" + cmp.Or(cfg.BufferPool, smallBufferPool),
		"--innodb-log-file-size=" + cmp.Or(cfg.RedoLog, smallRedoLog),
		"--max-connections=" + strconv.Itoa(connectionsMax),
		"--log-warnings=1", // 2 would log every client that goes without saying goodbye
	}
	if account == nil && os.Geteuid() == 0 {
		args = append(args, "--user=root") // without it mariadbd refuses to run as root
	}
	return args
}

// accountsSQL is run by the server before it accepts its first connection, at every start: the
// administrator's password is always the configured one, and the accounts that a fresh data
// directory comes with, which need no password from the right socket, are gone.
func accountsSQL(cfg *MariaDBConfig) string {
	admin := fmt.Sprintf("%s@'127.0.0.1'", quoted(cfg.Admin))
	return strings.Join([]string{
		fmt.Sprintf("CREATE USER IF NOT EXISTS %s IDENTIFIED BY %s;", admin, quoted(cfg.Password)),
		fmt.Sprintf("ALTER USER %s IDENTIFIED BY %s;", admin, quoted(cfg.Password)),
		fmt.Sprintf("GRANT ALL PRIVILEGES ON *.* TO %s WITH GRANT OPTION;", admin),
		"DROP USER IF EXISTS 'root'@'localhost', 'mysql'@'localhost', ''@'localhost';",
		"",
	}, "\n")
}

// quoted makes a string literal of s for a server in its default SQL mode.
func quoted(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\n", `\n`).Replace(s) + "'"
}

// plainEnv is all that a server gets from this process's environment: settings such as
// MYSQL_TCP_PORT or RABBITMQ_NODENAME are meant for the system's instances. Temporary files are
// kept at home too: a MariaDB that starts removes what it takes for left-overs of a crash, those
// of any other that shares the directory among them.
func plainEnv(home string) []string {
	return []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + home, "TMPDIR=" + home, "LANG=C.UTF-8", "TZ=UTC"}
}
