package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"cartwright/bench"
	"cartwright/bench/floor"
	"cartwright/cartmanager"
	"cartwright/catalogue"
	"cartwright/checkoutmanager"
	"cartwright/demo"
	"cartwright/gateway"
	"cartwright/internal/settings"
	"cartwright/inventory"
	"cartwright/jobs"
	"cartwright/payments"
	schema "cartwright/sql"
	"cartwright/verify"
)

// What the documents say is read by these tests, so that it stays true.

var update = flag.Bool("update", false, "write generated parts of the documents anew")

var documents = []string{"README.md", "ARCHITECTURE.md", "DECISIONS.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/compose.md", "docs/failpoints.md", "docs/tested.md", "docs/reliability.md"}

func document(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

const (
	settingsBegin = "<!-- settings: written by `go test . -run Settings -update` -->\n"
	settingsEnd   = "<!-- end of settings -->"
)

// allSettings lists every setting of every command once, in the order of the commands.
func allSettings() (all []settings.Setting) {
	seen := map[string]bool{}
	for _, s := range []any{&gateway.Settings{}, &cartmanager.Settings{}, &checkoutmanager.Settings{}, &inventory.Settings{},
		&payments.Settings{}, &catalogue.Settings{}, &migrateSettings{}, &verify.Settings{}, &queuesSettings{}, &demo.Settings{}, &bench.Settings{}, &floor.Settings{}} {
		for _, one := range settings.Describe(s) {
			if !seen[one.Key] {
				seen[one.Key] = true
				all = append(all, one)
			}
		}
	}
	return all
}

// Z13: every key is listed, with its default and meaning.
func TestTheReadmeListsAllSettings(t *testing.T) {
	var table strings.Builder
	table.WriteString("| setting | default | meaning |\n|---|---|---|\n")
	for _, s := range allSettings() {
		byDefault := "`" + s.Default + "`"
		switch {
		case s.Required:
			byDefault = "required"
		case s.Default == "":
			byDefault = ""
		}
		if s.Help == "" {
			t.Errorf("%s says nothing of its meaning", s.Key)
		}
		fmt.Fprintf(&table, "| `%s` | %s | %s |\n", s.Key, byDefault, s.Help)
	}
	readme := document(t, "README.md")
	before, rest, found := strings.Cut(readme, settingsBegin)
	inside, after, closed := strings.Cut(rest, settingsEnd)
	switch {
	case !found || !closed:
		t.Fatal("README.md has no place for the settings")
	case inside == table.String():
	case *update:
		if err := os.WriteFile("README.md", []byte(before+settingsBegin+table.String()+settingsEnd+after), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Error("README.md lists other settings than there are; go test . -run Settings -update writes the list anew")
	}
}

var functionMention = regexp.MustCompile("`([a-z/_]+\\.go)`\\s+`([A-Za-z]+)`")

// The path of one checkout names files and functions that exist.
func TestArchitectureNamesFunctionsThatExist(t *testing.T) {
	mentions := functionMention.FindAllStringSubmatch(document(t, "ARCHITECTURE.md"), -1)
	if len(mentions) < 15 {
		t.Errorf("only %d functions are named", len(mentions))
	}
	for _, m := range mentions {
		source, err := os.ReadFile(m[1])
		if err != nil {
			t.Error(err)
			continue
		}
		declared := regexp.MustCompile(`(?m)^func (\([^)]*\) )?` + m[2] + `[\[(]`)
		if !declared.Match(source) {
			t.Errorf("%s has no function %s", m[1], m[2])
		}
	}
}

var (
	pathMention = regexp.MustCompile("[`(]((?:[a-z][a-z0-9_]*/)[A-Za-z0-9_./]*|[A-Za-z_]+\\.(?:go|md|sh|yml))[`)]")
	notAFile    = []string{"go-json-experiment/json", "caarlos0/env"}
)

// Every file and folder that a document names exists.
func TestDocumentsNameFilesThatExist(t *testing.T) {
	for _, d := range documents {
		for _, m := range pathMention.FindAllStringSubmatch(document(t, d), -1) {
			if slices.Contains(notAFile, m[1]) {
				continue
			}
			if _, err := os.Stat(m[1]); err != nil {
				t.Errorf("%s names %s: %v", d, m[1], err)
			}
		}
	}
}

// E17: the table of queues and exchanges is the topology's.
func TestArchitectureListsTheTopology(t *testing.T) {
	text := document(t, "ARCHITECTURE.md")
	topology := jobs.Topology("")
	want := []string{topology.Jobs, topology.Queues, topology.Replies, topology.Events}
	for _, w := range topology.Work {
		want = append(want, string(w.Name), string(w.Name.Retry()), string(w.Name.Dead()), string(w.Name)+".alone")
	}
	want = append(want, jobs.AddToCart, jobs.SetCartLine, jobs.RemoveCartLine, jobs.ClearCart, jobs.StartCheckout)
	for _, name := range want {
		if !strings.Contains(text, "`"+name+"`") {
			t.Errorf("ARCHITECTURE.md does not name %s", name)
		}
	}
	for _, d := range schema.Databases() {
		if !strings.Contains(text, "`"+d+"`") {
			t.Errorf("ARCHITECTURE.md does not name the database %s", d)
		}
	}
}

var (
	eventRow  = regexp.MustCompile("(?m)^\\| `([a-z]+\\.[a-z_]+)` \\| [^|]+ \\|$")
	eventType = regexp.MustCompile(`(Field\()?"((?:order|payment|cart|stock|product)\.[a-z_]+)"`)
	stateRule = regexp.MustCompile(`CONSTRAINT (\w+_state) CHECK \(state IN \(([^)]*)\)\)`)
)

// The table of events lists what the services send.
func TestArchitectureListsTheEvents(t *testing.T) {
	section := after(t, document(t, "ARCHITECTURE.md"), "## Events")
	var listed []string
	for _, m := range eventRow.FindAllStringSubmatch(section, -1) {
		listed = append(listed, m[1])
	}
	sent := map[string]bool{}
	for _, folder := range []string{"checkoutmanager", "payments", "cartmanager", "inventory", "catalogue"} {
		files, _ := filepath.Glob(folder + "/*.go")
		for _, f := range files {
			if strings.HasSuffix(f, "_test.go") {
				continue
			}
			for _, m := range eventType.FindAllStringSubmatch(document(t, f), -1) {
				if m[1] == "" { // else it is the name of a field
					sent[m[2]] = true
				}
			}
		}
	}
	for event := range sent {
		if !slices.Contains(listed, event) {
			t.Errorf("%s is sent and not listed", event)
		}
	}
	for _, event := range listed {
		if !sent[event] {
			t.Errorf("%s is listed and not sent", event)
		}
	}
}

// The table of states lists the states that the tables allow.
func TestArchitectureListsTheStates(t *testing.T) {
	section := after(t, document(t, "ARCHITECTURE.md"), "## States")
	files, _ := filepath.Glob("sql/*/*.sql") // in the order of the migrations
	allowed := map[string]string{}           // by constraint, as the newest migration has it
	for _, f := range files {
		up, _, _ := strings.Cut(document(t, f), "-- +goose Down")
		for _, m := range stateRule.FindAllStringSubmatch(up, -1) {
			allowed[m[1]] = m[2]
		}
	}
	found := 0
	for rule, states := range allowed {
		for _, quoted := range strings.Split(states, ", ") {
			found++
			if state := strings.Trim(quoted, "'"); !strings.Contains(section, "`"+state+"`") {
				t.Errorf("%s allows the state %s, which is not listed", rule, state)
			}
		}
	}
	if found < 10 {
		t.Errorf("only %d states found in the tables", found)
	}
}

func after(t *testing.T, text, heading string) string {
	t.Helper()
	_, section, found := strings.Cut(text, heading+"\n")
	if !found {
		t.Fatalf("there is no %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	return section
}

var commandMention = regexp.MustCompile(`(?:bin/cartwright|go run \.|` + "`" + `cartwright) ([a-z]+)`)

// Every command that a document names exists, and every command is in the help.
func TestDocumentsNameCommandsThatExist(t *testing.T) {
	all, err := commands(io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range all {
		names = append(names, c.name)
	}
	names = append(names, "help")
	for _, d := range documents {
		for _, m := range commandMention.FindAllStringSubmatch(document(t, d), -1) {
			if !slices.Contains(names, m[1]) {
				t.Errorf("%s names the command %s", d, m[1])
			}
		}
	}
}

var setupMention = regexp.MustCompile(`\./setup\.sh ([a-z]+)`)

// Every command of setup.sh that a document names is in its help.
func TestDocumentsNameSetupCommandsThatExist(t *testing.T) {
	script := document(t, "setup.sh")
	for _, d := range documents {
		for _, m := range setupMention.FindAllStringSubmatch(document(t, d), -1) {
			if !regexp.MustCompile(`(?m)^\s+(\./setup\.sh )?` + m[1] + `\b`).MatchString(script) {
				t.Errorf("%s names ./setup.sh %s, which its help does not", d, m[1])
			}
		}
	}
}

// The ports of the README are the defaults.
func TestTheReadmeListsThePorts(t *testing.T) {
	section := after(t, document(t, "README.md"), "## Ports")
	for _, s := range allSettings() {
		if !strings.HasSuffix(s.Key, "_LISTEN") {
			continue
		}
		_, port, _ := strings.Cut(s.Default, ":")
		service, _, _ := strings.Cut(strings.ToLower(strings.TrimPrefix(s.Key, settings.Prefix)), "_")
		if !regexp.MustCompile(`\| ` + service + ` \|.*\b` + port + `\b`).MatchString(section) {
			t.Errorf("%s listens on %s by default, which the README does not say", service, port)
		}
	}
}

// The table of versions is written by test runs; a row that none has filled would be a claim
// without a run.
func TestTheSuiteWasRunOnBothKindsOfServers(t *testing.T) {
	text := document(t, "docs/tested.md")
	for _, database := range []string{"MariaDB", "MySQL"} {
		row := regexp.MustCompile(`(?m)^\| ` + database + ` \d+\.\d+\.\d+ \| RabbitMQ \d+\.\d+\.\d+ \| Go 1\.`)
		if !row.MatchString(text) {
			t.Errorf("docs/tested.md: no run on %s is recorded: ./setup.sh test --record, or with --on compose", database)
		}
	}
}
