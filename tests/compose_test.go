package tests

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"cartwright/internal/lifecycle"
	"cartwright/internal/testenv"
)

const (
	composeBuyersAtOnce = 64
	// composeTestLimit is for everything but building the image.
	composeTestLimit = 13 * time.Minute
	// lateBy is how long the servers stay away at first.
	lateBy = 30 * time.Second
	// balancerNotices within this time that a gateway is ready: it looks for new ones, and asks
	// each, once a second.
	balancerNotices = 4 * time.Second
	// scalingTakes is how long a wave lasts in whose midst containers come and go.
	scalingTakes = 12 * time.Second
	// replicaNotices within this time every client of a service that there is a new replica of it,
	// and beginsToUse is a wave that lasts until then.
	replicaNotices = 10 * time.Second
	beginsToUse    = scalingTakes + replicaNotices
)

// composeServices are all that scale.
var composeServices = []string{"gateway", "cartmanager", "checkoutmanager", "inventory", "payments", "catalogue"}

// Z1, Z2, Z3, K8, E10, E11, E13, I11: a shop in containers whose servers come 30 s late. Then waves
// of shoppers, and in the middle of each something happens: every service is scaled to three and
// back, and a container of every kind is killed on the host, balancer, broker and database too.
// Nothing is lost, oversold or charged twice, every answer on the way is one that may be asked
// again, and the books agree. Nothing is left behind.
func TestInContainersAShopSurvivesWhatItsHostDoes(t *testing.T) {
	c := newComposed(t)
	ctx, cancel := context.WithTimeout(t.Context(), composeTestLimit)
	defer cancel()
	c.startsLate(ctx)

	victims := append(slices.Clone(composeServices), "balancer", "rabbitmq", "mysql")
	wave := crashCrowd(700, 5000)/(len(victims)+3) + 1
	c.product("tea", 100, int64(wave*(len(victims)+3)))
	var all []*shopper
	during := func(what string, over time.Duration, mayBreak bool, happens func()) []*shopper {
		t.Helper()
		began, before := time.Now(), len(all)
		crowd := c.crowd(what, wave, "")
		for _, b := range crowd {
			b.mayBreak = mayBreak
		}
		wait := c.shoppingOver(ctx, over, crowd, composeBuyersAtOnce)
		c.whenPlaced(before + wave/4)
		happens()
		wait()
		all = append(all, crowd...)
		t.Logf("%s: %d orders within %s", what, wave, time.Since(began).Round(100*time.Millisecond))
		report(t, crowd)
		return crowd
	}

	three, one := map[string]int{}, map[string]int{}
	for _, service := range composeServices {
		three[service], one[service] = 3, 1
	}
	c.keepsKeysApart()
	during("nothing", 0, false, func() {})
	during("to-three", beginsToUse, false, func() {
		c.up(three, "--no-recreate")
		c.usesEach("inventory", "9101", "stock_operations_total{")
	})
	c.isSharedEvenly()
	slow := c.isSentAgain(true) + c.isSentAgain(false)
	killed := map[string]container{}
	for _, service := range victims {
		killed[service] = c.containers(service)[0]
		during(service, 0, service == "balancer", func() { c.kill(killed[service]) })
	}
	for service, victim := range killed {
		c.isBack(service, victim)
	}
	during("to-one", scalingTakes, true, func() { c.up(one, "--no-recreate") })

	c.whenPlaced(len(all) + slow)
	c.soldTo(all, slow)
	if kept := c.charges(); kept != len(all)+slow {
		t.Errorf("%d charges for %d orders", kept, len(all)+slow)
	}
}

// isSentAgain kills one of three gateways while each has two checkouts in hand, whose payment is
// slow. What has a key is asked again elsewhere and nobody notices; what has none is never sent
// twice, and whoever asked is told. It returns how many orders come of it.
func (c *composed) isSentAgain(keyed bool) (orders int) {
	c.t.Helper()
	const each = 2
	gateways := c.containers("gateway")
	crowd := c.crowd(fmt.Sprint("slow-", keyed, "-"), each*len(gateways), "tok_slow")
	pot := fmt.Sprint("pot-", keyed) // a new one: for up to a second, other gateways remember that one was sold out
	c.product(pot, 100, int64(len(crowd)))
	c.fillAll(crowd, pot)
	// On connections of their own, or Go's client would send what has a key again by itself.
	alone := *c.shop
	alone.client = &http.Client{Timeout: c.client.Timeout, Transport: &http.Transport{DisableKeepAlives: true}}
	answers := make(chan answer, len(crowd)) // of which code 0 is a connection that was cut
	for _, b := range crowd {
		key := ""
		if keyed {
			key = b.key
		}
		go func() {
			a, err := alone.checkOut(b.client, b.method, key)
			if err != nil && keyed {
				c.t.Error(err)
			}
			answers <- a
		}()
	}
	testenv.Eventually(c.t, answerLimit, "each gateway waits for two answers", func() bool {
		return !slices.ContainsFunc(gateways, func(g container) bool { return c.gauge(g, "answers_awaited") != each })
	})
	c.kill(gateways[0])
	accepted, told := 0, 0
	for range crowd {
		switch a := <-answers; {
		case a.code == http.StatusAccepted:
			accepted++
		case a.code == 0, a.code == http.StatusServiceUnavailable && a.header.Get("Retry-After") != "":
			told++
		default:
			c.t.Errorf("a gateway died and the answer was %d %s", a.code, a.raw)
		}
	}
	want := 0
	if !keyed {
		want = each
	}
	if told != want || accepted != len(crowd)-want {
		c.t.Errorf("with keys %v, a gateway died and %d of %d were told, want %d", keyed, told, len(crowd), want)
	}
	c.isBack("gateway", gateways[0])
	lifecycle.Pause(c.t.Context(), balancerNotices)
	return len(crowd)
}

// startsLate starts everything but the servers, and those half a minute later: the order in
// which an engine starts them after its machine did.
func (c *composed) startsLate(ctx context.Context) {
	c.t.Helper()
	began := time.Now()
	c.compose("build", "migrate")
	c.t.Logf("image built within %s", time.Since(began).Round(time.Second))
	c.compose("up", "--no-start")
	c.docker("start", "--attach", c.containers("certs")[0].ID)
	args := []string{"start"}
	for _, service := range append([]string{"migrate", "balancer"}, composeServices...) {
		for _, one := range c.containers(service) {
			args = append(args, one.ID)
		}
	}
	c.docker(args...)
	lifecycle.Pause(ctx, lateBy)
	for _, service := range composeServices {
		for _, one := range c.containers(service) {
			if one.healthy() {
				c.t.Errorf("%s is healthy without servers", service)
			}
		}
	}
	for _, server := range []string{"mysql", "rabbitmq"} {
		c.docker("start", c.containers(server)[0].ID)
	}
	late := time.Now()
	for _, service := range append([]string{"balancer"}, composeServices...) {
		testenv.Eventually(c.t, containerLimit, service+" is healthy", func() bool {
			all := c.containers(service)
			return len(all) == 1 && all[0].healthy()
		})
	}
	c.t.Logf("healthy %s after the servers were started", time.Since(late).Round(time.Second))
}

// keepsKeysApart holds that each service can read its own private key and nobody else's (X6).
func (c *composed) keepsKeysApart() {
	c.t.Helper()
	owners := map[string]string{}
	archive := tar.NewReader(strings.NewReader(c.docker("cp", c.containers("certs")[0].ID+":/certs", "-")))
	for {
		file, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			c.t.Fatal(err)
		}
		name, isKey := strings.CutSuffix(path.Base(file.Name), ".key")
		if !isKey {
			continue
		}
		if file.FileInfo().Mode().Perm() != 0o600 {
			c.t.Errorf("%s has mode %s", file.Name, file.FileInfo().Mode())
		}
		owners[name] = fmt.Sprintf("%d:%[1]d", file.Uid)
	}
	users := map[string]string{}
	for _, service := range composeServices {
		user := c.containers(service)[0].Config.User
		if other := users[user]; other != "" || owners[service] != user {
			c.t.Errorf("%s runs as %s, its key belongs to %s, and %s runs as the same", service, user, owners[service], other)
		}
		users[user] = service
	}
	for person := range owners {
		if !slices.Contains(composeServices, person) && users[owners[person]] != "" {
			c.t.Errorf("%s can read the key of %s", users[owners[person]], person)
		}
	}
}

// usesEach holds that each container of a service gets calls, soon after it is healthy.
func (c *composed) usesEach(service, port, calls string) {
	c.t.Helper()
	began := time.Now()
	all := c.containers(service)
	if len(all) != 3 {
		c.t.Errorf("%d containers of %s", len(all), service)
	}
	testenv.Eventually(c.t, replicaNotices, "each "+service+" gets calls", func() bool {
		return !slices.ContainsFunc(all, func(one container) bool {
			return c.sum(one, port, func(sample string) bool { return strings.HasPrefix(sample, calls) }) == 0
		})
	})
	c.t.Logf("each %s gets calls %s after all were healthy", service, time.Since(began).Round(100*time.Millisecond))
}

// Z3: each of three gateways has a third of the requests, within a fifth.
func (c *composed) isSharedEvenly() {
	c.t.Helper()
	const route, asked = "/v1/products/:productID", 600
	testenv.Eventually(c.t, containerLimit, "three gateways are healthy", func() bool {
		return len(c.containers("gateway")) == 3 && !slices.ContainsFunc(c.containers("gateway"), func(g container) bool { return !g.healthy() })
	})
	lifecycle.Pause(c.t.Context(), balancerNotices)
	before := c.served(route)
	for range asked {
		if a := c.must(http.MethodGet, "/v1/products/tea", "", nil); a.code != http.StatusOK {
			c.t.Fatalf("read tea: %d %s", a.code, a.raw)
		}
	}
	after := c.served(route)
	for _, name := range slices.Sorted(maps.Keys(after)) {
		n := after[name] - before[name]
		c.t.Logf("%s served %d of %d", name, n, asked)
		if n < asked/3*4/5 || n > asked/3*6/5 {
			c.t.Errorf("%s served %d of %d requests", name, n, asked)
		}
	}
}

// The commands of docs/compose.md.
const (
	dumpCommand   = "MYSQL_PWD=$MYSQL_ROOT_PASSWORD mysqldump -h 127.0.0.1 -u root --single-transaction --quick --set-gtid-purged=OFF --databases carts checkouts inventory payments catalogue"
	loadCommand   = "MYSQL_PWD=$MYSQL_ROOT_PASSWORD mysql -h 127.0.0.1 -u root"
	exportCommand = `rabbitmqctl --quiet export_definitions - | sed "s/\"bindings\":\[[^]]*\]/\"bindings\":[]/"`
)

// Z15: the pages for people are there when they are asked for, on this machine's own address, and
// not before.
func (c *composed) hasPagesOnRequest() {
	c.t.Helper()
	pages := map[string]struct{ port, says string }{
		"broker-page":   {"15672", "RabbitMQ Management"},
		"database-page": {"8080", "Adminer"},
	}
	for page := range pages {
		if len(c.containers(page)) > 0 {
			c.t.Errorf("%s runs without having been asked for", page)
		}
	}
	c.standIn("adminer")
	c.compose("--profile", "tools", "up", "--detach", "--wait", "broker-page", "database-page")
	for page, want := range pages {
		address := c.compose("--profile", "tools", "port", page, want.port)
		resp, err := c.client.Get("http://" + address)
		if err != nil {
			c.t.Errorf("%s: %v", page, err)
			continue
		}
		text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(text), want.says) || !strings.HasPrefix(address, "127.0.0.1:") {
			c.t.Errorf("%s at %s: %d, %v, %.200s", page, address, resp.StatusCode, err, text)
		}
	}
}

// A dump that is taken in the middle of checkouts, restored into an empty shop: the books agree,
// what was under way is brought to its end, and the shop sells on.
func TestInContainersABackupUnderLoadIsAWholeShop(t *testing.T) {
	c := newComposed(t)
	ctx, cancel := context.WithTimeout(t.Context(), composeTestLimit)
	defer cancel()
	page, err := os.ReadFile("../docs/compose.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{dumpCommand, exportCommand, loadCommand} {
		if !strings.Contains(string(page), "sh -c '"+command+"'") {
			t.Errorf("docs/compose.md does not tell to run %s", command)
		}
	}
	c.up(map[string]int{}, "--build")
	crowd := c.crowd("ann", crashCrowd(200, 2000), "")
	c.product("tea", 100, int64(len(crowd)))
	c.hasPagesOnRequest()
	wait := c.shoppingOver(ctx, 6*time.Second, crowd, composeBuyersAtOnce)
	c.whenPlaced(len(crowd) / 4)
	dump := c.compose("exec", "-T", "mysql", "sh", "-c", dumpCommand)
	definitions := c.compose("exec", "-T", "rabbitmq", "sh", "-c", exportCommand)
	wait()
	c.soldTo(crowd, 0)

	c.compose("--profile", "tools", "down", "--volumes")
	for name, db := range c.pools { // their server is gone
		db.Close()
		delete(c.pools, name)
	}
	c.compose("up", "--detach", "--wait", "mysql", "rabbitmq")
	c.composeGiven(strings.NewReader(dump), "exec", "-T", "mysql", "sh", "-c", loadCommand)
	c.composeGiven(strings.NewReader(definitions), "exec", "-T", "rabbitmq", "rabbitmqctl", "--quiet", "import_definitions", "/dev/stdin")
	c.up(nil)
	placed := c.countOrders("placed")
	t.Logf("%d of %d orders were placed when the dump was taken", placed, len(crowd))
	if placed < len(crowd)/4 || placed == len(crowd) {
		t.Errorf("the dump has %d placed orders of %d, so it was not taken meanwhile", placed, len(crowd))
	}
	c.agrees()
	c.product("tea", 100, 1)
	later := c.crowd("bob", 1, "")
	before := c.countOrders("placed")
	c.shoppingOver(ctx, 0, later, 1)()
	if later[0].code != http.StatusOK || c.countOrders("placed") != before+1 {
		t.Errorf("after the restore: %d, %d orders, want 200 and %d", later[0].code, c.countOrders("placed"), before+1)
	}
	c.agrees()
}
