package servers

import (
	"context"
	"database/sql"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	testLimit = 2 * time.Minute
	password  = `it's a "pass\word"`
)

// place makes a directory for a server that the packages' users may reach, which those of
// t.TempDir are not.
func place(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "servers")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func limited(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), testLimit)
	t.Cleanup(cancel)
	return ctx
}

type stopper interface{ Stop(context.Context) error }

func stop(t *testing.T, s stopper) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testLimit)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Error(err)
	}
}

func startMariaDB(t *testing.T, cfg MariaDBConfig) *MariaDB {
	t.Helper()
	m, err := StartMariaDB(limited(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, m) })
	return m
}

func startRabbitMQ(t *testing.T, cfg RabbitMQConfig) *RabbitMQ {
	t.Helper()
	r, err := StartRabbitMQ(limited(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, r) })
	return r
}

// The directory is deeper than a socket's path may be long.
func TestMariaDBKeepsWhatItCommittedThroughAKill(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(place(t), strings.Repeat("deep/", 30), "mariadb")
	m := startMariaDB(t, MariaDBConfig{Dir: dir, Admin: "chief", Password: password, OnParentDeath: syscall.SIGKILL})
	ctx := limited(t)
	execute(t, m.DSN(), "CREATE DATABASE shelf", "CREATE TABLE shelf.box (n INT PRIMARY KEY)", "INSERT INTO shelf.box VALUES (7)")

	if err := m.Kill(); err != nil {
		t.Fatal(err)
	}
	again := startMariaDB(t, m.Config)
	if again.DSN() != m.DSN() {
		t.Errorf("after the restart the DSN is %q, want %q", again.DSN(), m.DSN())
	}
	db := open(t, again.DSN())
	var n int
	if err := db.QueryRowContext(ctx, "SELECT n FROM shelf.box").Scan(&n); err != nil || n != 7 {
		t.Errorf("box = %d, %v; want 7", n, err)
	}
}

func TestMariaDBKeepsToItself(t *testing.T) {
	t.Parallel()
	m := startMariaDB(t, MariaDBConfig{Dir: filepath.Join(place(t), "m"), Admin: "chief", Password: password, OnParentDeath: syscall.SIGKILL})
	ctx := limited(t)
	rows, err := open(t, m.DSN()).QueryContext(ctx, "SELECT user FROM mysql.user WHERE user <> 'mariadb.sys'")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var users []string
	for rows.Next() {
		var user string
		if err := rows.Scan(&user); err != nil {
			t.Fatal(err)
		}
		users = append(users, user)
	}
	if err := rows.Err(); err != nil || len(users) != 1 || users[0] != "chief" {
		t.Errorf("accounts: %q, %v; want only chief", users, err)
	}
	var temporary string
	if err := open(t, m.DSN()).QueryRowContext(ctx, "SELECT @@tmpdir").Scan(&temporary); err != nil || temporary != m.Config.Dir {
		t.Errorf("temporary files are in %q, %v; want %q, which no other server cleans", temporary, err, m.Config.Dir)
	}
	socket := "unix(" + filepath.Join(m.Config.Dir, "data", mariaDBSocket) + ")"
	port := "tcp(127.0.0.1:" + strconv.Itoa(m.Config.Port) + ")"
	for _, dsn := range []string{"root@" + socket + "/", "root@" + port + "/", "chief@" + port + "/", "mysql@" + socket + "/"} {
		if err := open(t, dsn).PingContext(ctx); err == nil {
			t.Errorf("%s was let in", dsn)
		}
	}
}

func TestRabbitMQKeepsConfirmedMessagesThroughAKill(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(place(t), "rabbitmq")
	r := startRabbitMQ(t, RabbitMQConfig{Dir: dir, User: "chief", Password: "secret", OnParentDeath: syscall.SIGKILL})
	publish(t, r.URL(), "kept")
	waitForQueueOnDisk(t, dir)

	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	again := startRabbitMQ(t, r.Config)
	if again.URL() != r.URL() {
		t.Errorf("after the restart the URL is %q, want %q", again.URL(), r.URL())
	}
	ch := channel(t, again.URL())
	got, err := ch.ConsumeWithContext(limited(t), "line", "", true, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	if d := <-got; string(d.Body) != "kept" {
		t.Errorf("body = %q, want kept", d.Body)
	}
	if _, err := amqp.Dial("amqp://guest:guest@127.0.0.1:" + strconv.Itoa(r.Config.Port) + "/"); err == nil {
		t.Error("guest was let in")
	}
}

// waitForQueueOnDisk waits until the broker has written down that the queue exists. RabbitMQ does
// that up to a second after it confirmed the declaration, and forgets a quorum queue with its
// messages when it is killed before. A service that starts is long past that when it is asked
// for anything.
func waitForQueueOnDisk(t *testing.T, dir string) {
	t.Helper()
	registry := filepath.Join(dir, "data", nodeName, "quorum", nodeName, "names.dets")
	wait(t, "the queue's name in "+registry, func() bool {
		text, err := os.ReadFile(registry)
		return err == nil && strings.Contains(string(text), "2F_line")
	})
}

// A crash from outside takes the port mapper along, or the next start would find its port taken.
func TestRabbitMQLeavesNoPortMapperBehind(t *testing.T) {
	t.Parallel()
	r := startRabbitMQ(t, RabbitMQConfig{Dir: filepath.Join(place(t), "r"), User: "chief", Password: "secret", OnParentDeath: syscall.SIGKILL})
	isControlled(t, r)
	if err := syscall.Kill(r.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-r.Done()
	if ControlRabbitMQ(limited(t), r.Config, "status") == nil {
		t.Error("a broker that is gone answers")
	}
	for _, port := range []int{r.Config.Port, r.Config.DistPort, r.Config.EPMDPort} {
		if err := PortIsFree(port); err != nil {
			t.Error(err)
		}
	}
	if r.Err() == nil {
		t.Error("a killed broker ended without an error")
	}
}

// isControlled reaches the broker, and no other, by the package's tool.
func isControlled(t *testing.T, r *RabbitMQ) {
	t.Helper()
	if err := ControlRabbitMQ(limited(t), r.Config, "set_disk_free_limit", diskFreeLimit); err != nil {
		t.Error(err)
	}
	if err := ControlRabbitMQ(limited(t), r.Config, "no_such_command"); err == nil || !strings.Contains(err.Error(), "no_such_command") {
		t.Errorf("error = %v, want one that quotes the tool", err)
	}
}

func TestMariaDBSaysWhyItDoesNotStart(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cfg := MariaDBConfig{Dir: filepath.Join(place(t), "m"), Port: l.Addr().(*net.TCPAddr).Port, Admin: "chief", OnParentDeath: syscall.SIGKILL}
	_, err = StartMariaDB(limited(t), cfg)
	if err == nil || !strings.Contains(err.Error(), "Address already in use") {
		t.Errorf("error = %v, want one that quotes the server", err)
	}
}

func TestFreePortsAreFree(t *testing.T) {
	t.Parallel()
	port, err := FreePort()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if PortIsFree(port) == nil {
		t.Errorf("port %d counts as free while it is listened on", port)
	}
	if claim(port) == nil {
		t.Errorf("port %d was given away twice", port)
	}
}

func TestMissingPackagesAreNamed(t *testing.T) {
	t.Parallel()
	if missing := Missing(); missing != nil {
		t.Errorf("missing %q on a machine that has just run both", missing)
	}
	var err error = &MissingError{Packages: []string{"mariadb-server", "rabbitmq-server"}}
	want := "not installed: mariadb-server rabbitmq-server (./setup.sh installs what is missing, or: apt-get install mariadb-server rabbitmq-server)"
	if err.Error() != want {
		t.Errorf("error = %q\nwant    %q", err, want)
	}
	if _, err := find("no-such-program"); err == nil {
		t.Error("found a program that does not exist")
	}
}

func execute(t *testing.T, dsn string, statements ...string) {
	t.Helper()
	db := open(t, dsn)
	for _, s := range statements {
		if _, err := db.ExecContext(limited(t), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func open(t *testing.T, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func channel(t *testing.T, url string) *amqp.Channel {
	t.Helper()
	conn, err := amqp.Dial(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

// publish puts one durable message on the quorum queue "line" and waits for the confirm.
func publish(t *testing.T, url, body string) {
	t.Helper()
	ch := channel(t, url)
	_, errQueue := ch.QueueDeclare("line", true, false, false, false, amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeQuorum})
	if err := errors.Join(errQueue, ch.Confirm(false)); err != nil {
		t.Fatal(err)
	}
	confirm, err := ch.PublishWithDeferredConfirmWithContext(limited(t), "", "line", true, false,
		amqp.Publishing{Body: []byte(body), DeliveryMode: amqp.Persistent})
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := confirm.WaitContext(limited(t)); !ok || err != nil {
		t.Fatalf("confirmed = %v, %v", ok, err)
	}
}
