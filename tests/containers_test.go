package tests

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"cartwright/internal/testenv"
)

const (
	composeLimit   = 8 * time.Minute // images are built in it
	engineLimit    = time.Minute     // one question to the Docker engine
	containerLimit = 2 * time.Minute // until a container that died or was added is healthy
)

// composed is a shop in containers, under a project and on ports of its own.
type composed struct {
	*shop
	project  string
	environ  []string
	replicas map[string]int
}

// container is what the engine says of one.
type container struct {
	ID, Name     string
	RestartCount int
	Config       struct{ User string }
	State        struct {
		Running bool
		Pid     int
		Health  *struct{ Status string }
	}
	NetworkSettings struct {
		Networks map[string]struct{ IPAddress string }
	}
}

func (c container) healthy() bool {
	return c.State.Running && c.State.Health != nil && c.State.Health.Status == "healthy"
}

func (c container) address() string {
	for _, n := range c.NetworkSettings.Networks {
		return n.IPAddress
	}
	return ""
}

// newComposed thinks up passwords and ports. Nothing is started yet; whatever is started later
// ends with the test.
func newComposed(t *testing.T) *composed {
	t.Helper()
	if os.Getenv("CARTWRIGHT_TEST_COMPOSE") != "1" {
		t.Skip("CARTWRIGHT_TEST_COMPOSE is not 1: ./setup.sh test sets it where a Docker engine answers")
	}
	gateway, database, broker := testenv.FreeAddress(t), testenv.FreeAddress(t), testenv.FreeAddress(t)
	admin := rand.Text()
	c := &composed{project: "cartwright-test-" + strings.ToLower(rand.Text()[:8]), replicas: map[string]int{}}
	c.shop = &shop{t: t, adminDSN: "root:" + admin + "@tcp(" + database + ")/", url: "http://" + gateway, slack: slack,
		pools: map[string]*sql.DB{}, client: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 1024}}}
	t.Cleanup(c.client.CloseIdleConnections)
	c.environ = append(os.Environ(), "COMPOSE_PROJECT_NAME="+c.project, "CARTWRIGHT_IMAGE=cartwright:"+c.project,
		"GATEWAY_PORT="+port(gateway), "MYSQL_PORT="+port(database), "RABBITMQ_PORT="+port(broker), "INVENTORY_PORTS=0", "BROKER_PAGE_PORT=0", "DATABASE_PAGE_PORT=0",
		"ADMIN_PASSWORD="+admin, "JOB_SECRET="+rand.Text(), "STAFF_KEY="+staffKey)
	for _, of := range []string{"READER", "BROKER", "BROKER_GATEWAY"} {
		c.environ = append(c.environ, of+"_PASSWORD="+rand.Text())
	}
	for _, of := range []string{"CATALOGUE", "INVENTORY", "PAYMENTS", "CARTMANAGER", "CHECKOUTMANAGER"} { // at the database and at the broker
		c.environ = append(c.environ, of+"_PASSWORD="+rand.Text(), "BROKER_"+of+"_PASSWORD="+rand.Text())
	}
	t.Cleanup(c.leavesNothing)
	return c
}

func port(addr string) string {
	_, p, _ := net.SplitHostPort(addr)
	return p
}

// compose runs docker compose on the shop's file, without the .env of this folder, and returns
// what it prints.
func (c *composed) compose(args ...string) string {
	c.t.Helper()
	return c.composeGiven(nil, args...)
}

// composeGiven is compose with something on its standard input.
func (c *composed) composeGiven(input io.Reader, args ...string) string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), composeLimit) // also when the test has ended
	defer cancel()
	args = append([]string{"compose", "--project-name", c.project, "--project-directory", "..", "--file", "../docker-compose.yml", "--env-file", os.DevNull}, args...)
	command := exec.CommandContext(ctx, "docker", args...)
	command.Env, command.Stdin = c.environ, input
	var said bytes.Buffer
	command.Stderr = &said
	out, err := command.Output()
	if err != nil {
		text := said.String()
		c.t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, text[max(0, len(text)-4000):])
	}
	return strings.TrimSpace(string(out))
}

// docker asks the engine itself.
func (c *composed) docker(args ...string) string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), engineLimit)
	defer cancel()
	out, err := exec.CommandContext(ctx, "docker", args...).CombinedOutput()
	if err != nil {
		c.t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// standIn sees to it that there is an image of that name, the real one if it can be had.
func (c *composed) standIn(name string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), composeLimit)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "../deploy/standins/standins.sh", name).CombinedOutput(); err != nil {
		c.t.Fatalf("image %s: %v\n%s", name, err, out)
	}
}

// up starts what is missing, with so many replicas as are asked for so far and now, and waits
// until all are healthy.
func (c *composed) up(replicas map[string]int, args ...string) {
	c.t.Helper()
	args = append([]string{"up", "--detach", "--wait"}, args...)
	for service, n := range replicas {
		c.replicas[service] = n
	}
	for service, n := range c.replicas {
		args = append(args, "--scale", service+"="+strconv.Itoa(n))
	}
	c.compose(args...)
}

// containers of a service, running or not.
func (c *composed) containers(service string) (all []container) {
	c.t.Helper()
	names := strings.Fields(c.compose("ps", "--all", "--quiet", service))
	if len(names) == 0 {
		return nil
	}
	if err := json.Unmarshal([]byte(c.docker(append([]string{"inspect"}, names...)...)), &all); err != nil {
		c.t.Fatal(err)
	}
	return all
}

// kill ends a container's process on the host with SIGKILL: to the engine that is a crash, and
// its restart policy acts.
func (c *composed) kill(victim container) {
	c.t.Helper()
	if err := syscall.Kill(victim.State.Pid, syscall.SIGKILL); err != nil {
		c.t.Fatalf("kill -9 of %s, process %d of this machine: %v", victim.Name, victim.State.Pid, err)
	}
}

// isBack waits until a container that was killed has been started again and is healthy.
func (c *composed) isBack(service string, victim container) {
	c.t.Helper()
	testenv.Eventually(c.t, containerLimit, victim.Name+" is back", func() bool {
		for _, now := range c.containers(service) {
			if now.ID == victim.ID {
				return now.RestartCount > victim.RestartCount && now.healthy()
			}
		}
		return false
	})
}

// served counts the requests on a route that each gateway has answered, by container.
func (c *composed) served(route string) map[string]int {
	c.t.Helper()
	counts := map[string]int{}
	for _, g := range c.containers("gateway") {
		counts[g.Name] = c.sum(g, "5004", func(sample string) bool {
			return strings.HasPrefix(sample, "http_requests_seconds_count{") && strings.Contains(sample, `route="`+route+`"`)
		})
	}
	return counts
}

// gauge is one metric of a gateway.
func (c *composed) gauge(g container, name string) int {
	c.t.Helper()
	return c.sum(g, "5004", func(sample string) bool { return sample == name })
}

// sum adds up some of the metrics that a container shows on its debug port.
func (c *composed) sum(of container, port string, counts func(sample string) bool) (total int) {
	c.t.Helper()
	resp, err := c.client.Get("http://" + net.JoinHostPort(of.address(), port) + "/metrics")
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	for line := range lines(c.t, io.LimitReader(resp.Body, 1<<20)) {
		sample, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !counts(sample) {
			continue
		}
		n, err := strconv.Atoi(value)
		if err != nil {
			c.t.Fatalf("%q: %v", line, err)
		}
		total += n
	}
	return total
}

// leavesNothing takes the shop away and holds it to be gone.
func (c *composed) leavesNothing() {
	if c.t.Failed() {
		c.keepLogs()
	}
	c.compose("--profile", "tools", "down", "--volumes", "--timeout", "20")
	filter := "label=com.docker.compose.project=" + c.project
	for what, list := range map[string][]string{
		"containers": {"ps", "--all", "--quiet", "--filter", filter},
		"volumes":    {"volume", "ls", "--quiet", "--filter", filter},
		"networks":   {"network", "ls", "--quiet", "--filter", filter},
	} {
		if left := c.docker(list...); left != "" {
			c.t.Errorf("%s are left behind: %s", what, left)
		}
	}
	c.docker("image", "rm", "cartwright:"+c.project)
}

// keepLogs leaves what the containers said in a file, beside which the reason of a failure would not
// be found again.
func (c *composed) keepLogs() {
	file := filepath.Join(os.TempDir(), c.project+".log")
	if err := os.WriteFile(file, []byte(c.compose("logs", "--timestamps")), 0o600); err != nil {
		c.t.Error(err)
	}
	c.t.Logf("what the containers said is in %s", file)
}

// charges counts what was taken and not given back.
func (c *composed) charges() (kept int) {
	c.t.Helper()
	err := c.database("payments").QueryRow("SELECT COUNT(*) FROM test_provider_charges WHERE outcome = 'charged' AND refunded_minor = 0").Scan(&kept)
	if err != nil {
		c.t.Fatal(err)
	}
	return kept
}
