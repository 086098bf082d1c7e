package tests

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// House rules that a program can check, each with its reason.

const (
	functionLinesMax = 70  // what fits a screen
	fileLinesMax     = 400 // the point at which to look for the second noun
	testLinesMax     = 500
)

var services = []string{"gateway", "cartmanager", "checkoutmanager", "inventory", "payments", "catalogue"}

// source is one Go file of ours; generated ones are left out.
type source struct {
	path, text string
	file       *ast.File
	positions  *token.FileSet
	test       bool
}

func sources(t *testing.T) (all []source) {
	t.Helper()
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && entry.Name() != "..":
			return filepath.SkipDir
		case entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, ".pb.go"):
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		positions := token.NewFileSet()
		file, err := parser.ParseFile(positions, path, text, parser.ParseComments)
		if err != nil {
			return err
		}
		all = append(all, source{strings.TrimPrefix(path, "../"), string(text), file, positions, strings.HasSuffix(path, "_test.go")})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 50 {
		t.Fatalf("only %d files found", len(all))
	}
	return all
}

func (s source) folder() string { return strings.Split(s.path, "/")[0] }

func (s source) imports() (paths []string) {
	for _, i := range s.file.Imports {
		paths = append(paths, strings.Trim(i.Path.Value, `"`))
	}
	return paths
}

// A service that imports another can no longer be run, scaled or understood by itself.
func TestNoServiceImportsAService(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		for _, from := range services {
			if s.folder() != from {
				continue
			}
			for _, i := range s.imports() {
				for _, to := range services {
					if to != from && (i == "cartwright/"+to || strings.HasPrefix(i, "cartwright/"+to+"/")) {
						t.Errorf("%s imports %s", s.path, to)
					}
				}
			}
		}
	}
}

var shopWords = regexp.MustCompile(`(?i)\b(carts?|stocks?|checkouts?|shoppers?|prices?)\b`)

// Tools that know nothing of shops can be understood, tested and replaced alone. testenv makes
// the databases, and so is let off.
func TestToolsKnowNothingOfShops(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		if s.folder() != "internal" || s.test || strings.HasPrefix(s.path, "internal/testenv/") {
			continue
		}
		if word := shopWords.FindString(s.text); word != "" {
			t.Errorf("%s says %q", s.path, word)
		}
		for _, i := range s.imports() {
			for _, service := range append(services, "jobs") {
				if i == "cartwright/"+service {
					t.Errorf("%s imports %s", s.path, service)
				}
			}
		}
	}
}

// Names that say nothing gather everything.
func TestNoPackageIsNamedForNothing(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		switch s.file.Name.Name {
		case "util", "utils", "common", "helpers", "misc", "models", "types":
			t.Errorf("%s is in package %s", s.path, s.file.Name.Name)
		}
	}
}

// banned calls, each in one place only, so that there is one way to do a thing.
var banned = []struct {
	pattern *regexp.Regexp
	allowed []string // path prefixes
	inTests bool
	why     string
}{
	{regexp.MustCompile(`\.(Ack|Nack|Reject)\(`), []string{"internal/messaging/", "bench/floor/"}, true, "a job's fate is told in one place; the floor has no jobs"},
	{regexp.MustCompile(`\.(BeginTx|Begin)\(|\btx\.Commit\(`), []string{"internal/store/"}, true, "transactions are run, and run again, in one place"},
	{regexp.MustCompile(`\btime\.Sleep\(`), nil, true, "wait for a condition, or for a context"},
	{regexp.MustCompile(`\bcontext\.(Background|TODO)\(`), []string{"main.go"}, true, "everything ends with the process"},
	{regexp.MustCompile(`\bos\.Exit\(|\blog\.Fatal`), []string{"main.go"}, true, "only main ends the process"},
	{regexp.MustCompile(`(?m)^func init\(`), nil, false, "nothing happens before main"},
	{regexp.MustCompile(`failed to `), nil, true, "wrap with the noun"},
	{regexp.MustCompile(`Sprintf\("\s*(SELECT|INSERT|UPDATE|DELETE)`), nil, true, "values go into SQL as parameters"},
	{regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b`), nil, false, "finish it, or leave it out"},
	{regexp.MustCompile(`Recovery:\s`), nil, false, "the AMQP client's own recovery acknowledges the wrong message after a cut"},
}

func TestBannedCalls(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		for _, b := range banned {
			if s.test && b.inTests || s.path == "tests/tidy_test.go" || allowed(s.path, b.allowed) || strings.HasPrefix(s.path, "internal/testenv/") && b.inTests {
				continue
			}
			if found := b.pattern.FindString(s.text); found != "" {
				t.Errorf("%s has %q: %s", s.path, found, b.why)
			}
		}
	}
}

func allowed(path string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(path, p) {
			return true
		}
	}
	return false
}

// Long functions and files hide a second thing.
func TestFunctionsAndFilesStaySmall(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		most := fileLinesMax
		if s.test {
			most = testLinesMax
		}
		if n := strings.Count(s.text, "\n"); n > most {
			t.Errorf("%s has %d lines, at most %d", s.path, n, most)
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || s.test {
				continue
			}
			if n := s.positions.Position(f.End()).Line - s.positions.Position(f.Pos()).Line; n > functionLinesMax {
				t.Errorf("%s: %s has %d lines, at most %d", s.path, f.Name.Name, n, functionLinesMax)
			}
		}
	}
}

// Every package says what it owns, or is the authority on.
func TestEveryPackageHasAComment(t *testing.T) {
	t.Parallel()
	documented, all := map[string]bool{}, map[string]bool{}
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		folder := filepath.Dir(s.path)
		all[folder] = true
		documented[folder] = documented[folder] || s.file.Doc != nil
	}
	for folder := range all {
		if !documented[folder] {
			t.Errorf("%s has no package comment", folder)
		}
	}
}
