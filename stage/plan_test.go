package stage

import (
	"strings"
	"testing"
)

func planFor(t *testing.T, c choices) (plan, error) {
	t.Helper()
	sec := secrets{Admin: "a", Reader: "r", BrokerAdmin: "b", Broker: map[string]string{"inventory": "q"}, JobSecret: "j", StaffKey: "s", Services: map[string]string{"inventory": "i"}}
	return (&Stage{Home: "/"}).makePlan(c, sec, "/bin/shop")
}

func processNamed(t *testing.T, p plan, name string) processPlan {
	t.Helper()
	for _, process := range p.Processes {
		if process.name() == name {
			return process
		}
	}
	t.Fatalf("no process %s in the plan", name)
	return processPlan{}
}

func TestEveryProcessIsGivenWhatItNeedsAndNoMore(t *testing.T) {
	t.Parallel()
	p, err := planFor(t, choices{
		Scale:    map[string]int{"inventory": 2},
		Settings: map[string]string{"LOG_LEVEL": "debug", "GATEWAY_LISTEN": ":6000", "MARIADB_PORT": "7000"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct{ process, key, value string }{
		{"gateway", "CARTWRIGHT_GATEWAY_LISTEN", ":6000"},
		{"gateway", "CARTWRIGHT_INVENTORY_ADDR", "127.0.0.1:9100,127.0.0.1:9300"},
		{"gateway", "CARTWRIGHT_STAFF_KEY", "s"},
		{"gateway", "CARTWRIGHT_LOG_LEVEL", "debug"},
		{"inventory-2", "CARTWRIGHT_INVENTORY_LISTEN", "127.0.0.1:9300"},
		{"inventory-2", "CARTWRIGHT_INVENTORY_DEBUG_LISTEN", "127.0.0.1:9301"},
		{"inventory-2", "CARTWRIGHT_INVENTORY_DSN", "cartwright_inventory:i@tcp(127.0.0.1:7000)/"},
		{"inventory-2", "CARTWRIGHT_AMQP_URL", "amqp://cartwright_inventory:q@127.0.0.1:9160/"},
		{"inventory-2", "CARTWRIGHT_BROKER_ADMIN_URL", ""},
		{"inventory-2", "CARTWRIGHT_JOB_SECRET", ""},
		{"inventory-2", "CARTWRIGHT_ADMIN_DSN", ""},
		{"payments", "CARTWRIGHT_INVENTORY_DSN", ""},
		{"payments", "CARTWRIGHT_TLS_DIR", "/certs"},
		{"payments", "CARTWRIGHT_GATEWAY_LISTEN", ""},
	} {
		if got := processNamed(t, p, want.process).Env[want.key]; got != want.value {
			t.Errorf("%s: %s = %q, want %q", want.process, want.key, got, want.value)
		}
	}
}

// X4
func TestCertificatesAreUsedUnlessSomebodyChoseOtherwise(t *testing.T) {
	t.Parallel()
	for chosen, want := range map[string]string{"": "/certs", "false": "/certs", "maybe": "/certs", "true": "", "1": ""} {
		p, err := planFor(t, choices{Settings: map[string]string{"INSECURE": chosen}})
		if err != nil {
			t.Fatal(err)
		}
		if got := processNamed(t, p, "payments").Env["CARTWRIGHT_TLS_DIR"]; got != want {
			t.Errorf("INSECURE=%s: certificates in %q, want %q", chosen, got, want)
		}
	}
}

// Z13: all faults at once, each with the name of its setting.
func TestAllFaultsOfTheSettingsComeTogether(t *testing.T) {
	t.Parallel()
	_, err := planFor(t, choices{Settings: map[string]string{
		"GATEWAY_LISTEN": "nowhere", "MARIADB_PORT": "70000", "PAYMENTS_LISTEN": "127.0.0.1:9110",
	}})
	if err == nil {
		t.Fatal("taken for good")
	}
	wants(t, err.Error(), "CARTWRIGHT_GATEWAY_LISTEN=nowhere: ", "CARTWRIGHT_MARIADB_PORT=70000: must be a port",
		"port 9110 is given to payments (CARTWRIGHT_PAYMENTS_LISTEN) and to cartmanager (CARTWRIGHT_CARTMANAGER_LISTEN)")
	if n := strings.Count(err.Error(), "\n"); n != 2 {
		t.Errorf("%d lines, want 3:\n%s", n+1, err)
	}
}

func TestAShiftMovesEveryPortThatHasNoSettingOfItsOwn(t *testing.T) {
	t.Parallel()
	p, err := planFor(t, choices{Settings: map[string]string{"PORT_SHIFT": "1000", "PAYMENTS_LISTEN": "127.0.0.1:7777"}})
	if err != nil {
		t.Fatal(err)
	}
	if p.Database.Port != 10150 || processNamed(t, p, "gateway").Debug != "127.0.0.1:6004" || processNamed(t, p, "payments").Listen != "127.0.0.1:7777" {
		t.Errorf("plan: %+v", p)
	}
	if _, err := planFor(t, choices{Settings: map[string]string{"PORT_SHIFT": "far"}}); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("error = %v, want one line", err)
	}
}

func TestThePlansIDTellsPlansApartAndNotWhenTheyWereAsked(t *testing.T) {
	t.Parallel()
	one, err1 := planFor(t, choices{})
	two, err2 := planFor(t, choices{Scale: map[string]int{"gateway": 2}})
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if one.id() == two.id() {
		t.Error("two plans with one ID")
	}
	later := one
	later.Asked = "later"
	if later.id() != one.id() {
		t.Error("one plan with two IDs")
	}
}

func TestScaleTakesKnownServicesAndSensibleNumbers(t *testing.T) {
	t.Parallel()
	f := scaleFlag{}
	if err := f.Set("cartmanager=3"); err != nil || f["cartmanager"] != 3 {
		t.Errorf("%v, %v", f, err)
	}
	for _, wrong := range []string{"", "cartmanager", "cartmanager=0", "cartmanager=17", "cartmanager=x", "mariadb=2", "=1"} {
		if err := f.Set(wrong); err == nil {
			t.Errorf("%q was taken", wrong)
		}
	}
}

func TestSettingsThatTheStageMakesAreNotTakenFromTheEnvironment(t *testing.T) {
	t.Parallel()
	s := &Stage{Home: t.TempDir(), Environ: []string{
		"CARTWRIGHT_LOG_LEVEL=debug", "CARTWRIGHT_STAFF_KEY=foreign", "CARTWRIGHT_INVENTORY_ADDR=elsewhere:1",
		"CARTWRIGHT_ADMIN_DSN_FILE=/x", "CARTWRIGHT_TEST_AMQP_URL=x", "CARTWRIGHT_TLS_DIR=/elsewhere", "CARTWRIGHT_HOME=/y", "PATH=/z",
	}}
	c, err := s.readChoices(nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Settings) != 1 || c.Settings["LOG_LEVEL"] != "debug" {
		t.Errorf("settings: %v", c.Settings)
	}
}

// A detour leads the processes, each by its own way, and nobody else.
func TestADetourLeadsEveryProcess(t *testing.T) {
	t.Parallel()
	led := &Stage{Home: "/", Detour: func(from, to, address string) (string, error) { return from + ">" + to + ">" + address, nil }}
	p, err := led.makePlan(choices{Scale: map[string]int{"inventory": 2, "gateway": 2}}, secrets{}, "/bin/shop")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct{ process, key, value string }{
		{"gateway-2", "CARTWRIGHT_INVENTORY_ADDR", "gateway-2>inventory>127.0.0.1:9100,gateway-2>inventory-2>127.0.0.1:9300"},
		{"gateway-2", "CARTWRIGHT_AMQP_URL", "amqp://cartwright_gateway:@gateway-2>rabbitmq>127.0.0.1:9160/"},
		{"inventory", "CARTWRIGHT_INVENTORY_DSN", "cartwright_inventory:@tcp(inventory>mariadb>127.0.0.1:9150)/"},
	} {
		if got := processNamed(t, p, want.process).Env[want.key]; got != want.value {
			t.Errorf("%s: %s = %q, want %q", want.process, want.key, got, want.value)
		}
	}
	for key, value := range p.Migrate.Env {
		if strings.Contains(value, ">") {
			t.Errorf("migrate is led too: %s=%s", key, value)
		}
	}
	refusal := &Stage{Home: "/", Detour: func(_, _, _ string) (string, error) { return "", errGone }}
	if _, err := refusal.makePlan(choices{}, secrets{}, "/bin/shop"); err == nil {
		t.Error("a way that could not be made is no fault")
	}
}
