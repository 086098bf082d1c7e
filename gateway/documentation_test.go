package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/gofiber/fiber/v2"

	"cartwright/internal/fault"
)

// operation is one route of the document.
type operation struct {
	method, path string
	Responses    map[string]any `json:"responses"`
	Parameters   []struct {
		Name string `json:"name"`
		In   string `json:"in"`
	} `json:"parameters"`
	shape *regexp.Regexp
}

// operations reads the document that is served.
var operations = sync.OnceValue(func() (all []*operation) {
	var doc struct {
		Paths map[string]map[string]*operation `json:"paths"`
	}
	if err := json.Unmarshal(document, &doc); err != nil {
		panic(err)
	}
	for path, methods := range doc.Paths {
		for method, op := range methods {
			op.method, op.path = strings.ToUpper(method), path
			op.shape = regexp.MustCompile("^" + regexp.MustCompile(`\{\w+\}`).ReplaceAllString(path, "[^/]+") + "/?$")
			all = append(all, op)
		}
	}
	return all
})

// operationOf finds what the document says about a request; nil when it says nothing.
func operationOf(method, path string) *operation {
	path, _, _ = strings.Cut(path, "?")
	for _, op := range operations() {
		if op.method == method && op.shape.MatchString(path) {
			return op
		}
	}
	return nil
}

// Z5
func TestTheDocumentIsWhatSwagMakesOfTheComments(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "tool", "-modfile=../tools/go.mod", "swag", "init", "--quiet", "--dir", ".", "--generalInfo", "routes.go", "--output", dir, "--outputTypes", "json")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	made, err := os.ReadFile(filepath.Join(dir, "swagger.json"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(made, document) {
		t.Error("docs/swagger.json is out of date: run go generate ./gateway")
	}
}

// Z5
func TestTheDocumentListsTheRoutesThatExist(t *testing.T) {
	t.Parallel()
	app := fiber.New()
	(&gateway{}).routes(app)
	var served []string
	for _, r := range app.GetRoutes(true) {
		path := regexp.MustCompile(`:(\w+)`).ReplaceAllString(r.Path, "{$1}")
		if r.Method == fiber.MethodHead || strings.HasPrefix(path, "/swagger") || path == "/documentation" {
			continue
		}
		served = append(served, r.Method+" "+path)
	}
	var documented []string
	for _, op := range operations() {
		documented = append(documented, op.method+" "+op.path)
		for _, name := range regexp.MustCompile(`\{(\w+)\}`).FindAllStringSubmatch(op.path, -1) {
			if !slices.ContainsFunc(op.Parameters, func(p struct {
				Name string `json:"name"`
				In   string `json:"in"`
			}) bool {
				return p.In == "path" && p.Name == name[1]
			}) {
				t.Errorf("%s %s does not describe %s", op.method, op.path, name[1])
			}
		}
	}
	slices.Sort(served)
	slices.Sort(documented)
	if served = slices.Compact(served); !slices.Equal(served, documented) {
		t.Errorf("served are\n%s\ndocumented are\n%s", strings.Join(served, "\n"), strings.Join(documented, "\n"))
	}
}

// Z5: every code that the document promises can be had. That no other code is answered is held
// by ask, for every request of every test.
func TestEveryDocumentedAnswerIsGiven(t *testing.T) {
	t.Parallel()
	s := openShop(t, nil)
	off := openShop(t, func(s *Settings) { s.StaffKey = "" })
	for client, r := range map[string]reply{
		"s200": done, "s202": pending,
		"s402": fails(fault.New(fault.Refused, "card_declined", "no")),
		"s404": fails(fault.New(fault.Refused, "unknown_product", "no")),
		"s409": fails(fault.New(fault.Refused, "out_of_stock", "no")),
		"s422": fails(fault.New(fault.Mismatch, "mismatch", "no")),
		"s500": fails(errors.New("no")),
		"s503": fails(fault.Away("it", nil)),
	} {
		s.worker.says(client, r)
	}
	for _, op := range operations() {
		for code := range op.Responses {
			status, err := strconv.Atoi(code)
			if err != nil {
				t.Fatal(err)
			}
			shop, path, body, headers := s, "", "", []string(nil)
			if strings.HasSuffix(op.path, "/stock") && status == http.StatusUnprocessableEntity {
				s.ask(t, "POST", "/v1/products/tea/stock", bodyOf(stockRequest{Delta: 1}), asStaff, "Idempotency-Key: documented")
			}
			if strings.HasPrefix(op.path, "/v1/products/") && op.method != "GET" && status == http.StatusNotFound {
				shop = off
			}
			path, body, headers = provoke(op, status)
			if r := shop.ask(t, op.method, path, body, headers...); r.status != status {
				t.Errorf("%s %s: got %d %.200s, want %d", op.method, path, r.status, r.body, status)
			}
		}
	}
}

// provoke makes the request that an operation answers with a code.
func provoke(op *operation, status int) (path, body string, headers []string) {
	who := "jo"
	switch {
	case strings.HasSuffix(op.path, "Cart"), strings.Contains(op.path, "/carts/") && op.method != "GET":
		who = fmt.Sprintf("s%d", status)
	case status == http.StatusServiceUnavailable:
		who = "away"
	case status == http.StatusInternalServerError:
		who = "broken"
	case status == http.StatusNotFound:
		who = "nobody"
	}
	if strings.Contains(op.path, "/products/") && op.method != "GET" && status != http.StatusUnauthorized {
		headers = append(headers, asStaff)
	}
	product, delta := "tea", int64(1)
	if strings.HasPrefix(op.path, "/v1/products") {
		product = strings.Replace(who, "jo", "tea", 1)
	}
	order, job := "order-paid", "job-done"
	if who != "jo" {
		order, job = who, who
	}
	switch {
	case status == http.StatusBadRequest:
		who, product, order, job = "%21", "%21", "%21", "%21"
	case status == http.StatusConflict:
		delta = -1000
	case status == http.StatusUnprocessableEntity:
		delta, headers = 2, append(headers, "Idempotency-Key: documented")
	case status == http.StatusUnsupportedMediaType:
		headers = append(headers, "Content-Type: text/plain")
	}
	path = strings.NewReplacer("{clientID}", who, "{productID}", product, "{orderID}", order, "{jobID}", job).Replace(op.path)
	switch op.method + " " + op.path {
	case "POST /addToCart":
		body = addBody(who, 1)
	case "POST /checkOutCart":
		body = checkoutBody(who)
	case "PUT /v1/carts/{clientID}/items/{productID}":
		body = bodyOf(quantityRequest{Quantity: 1})
	case "PUT /v1/products/{productID}":
		body = bodyOf(productRequest{Name: "Tea", Price: price{1, "EUR"}, Active: true})
	case "POST /v1/products/{productID}/stock":
		body = bodyOf(stockRequest{Delta: delta, Kind: "finite"})
	case "GET /v1/orders":
		path += "?clientID=" + who
	case "GET /v1/products":
		path += "?cursor=" + product
		if status == http.StatusBadRequest {
			path += "&limit=x"
		}
	}
	if status == http.StatusRequestEntityTooLarge {
		body = strings.Repeat(" ", bodyMax+1)
	}
	return path, body, headers
}

// Z5: the page works with no connection to anywhere else.
func TestTheDocumentationNeedsNothingFromElsewhere(t *testing.T) {
	t.Parallel()
	s := openShop(t, nil)
	link := regexp.MustCompile(`(?:href|src|url)[=:] ?"([^"]+)"`)
	pages := ""
	for _, path := range []string{"/documentation", "/documentation/", "/swagger", "/swagger/", "/swagger/index.html"} {
		r := s.ask(t, "GET", path, "")
		if r.status != http.StatusOK || !strings.HasPrefix(r.header.Get("Content-Type"), "text/html") {
			t.Errorf("%s: got %d, %s", path, r.status, r.header.Get("Content-Type"))
		}
		pages += r.body
	}
	pages += s.ask(t, "GET", "/swagger/start.js", "").body
	kinds := map[string]string{".css": "text/css", ".js": "javascript", ".png": "image/png", ".json": "application/json"}
	links := link.FindAllStringSubmatch(pages, -1)
	for _, l := range links {
		r := s.ask(t, "GET", l[1], "")
		if kind := r.header.Get("Content-Type"); r.status != http.StatusOK || !strings.Contains(kind, kinds[filepath.Ext(l[1])]) || len(r.body) < 100 {
			t.Errorf("%s: got %d, %s, %d bytes", l[1], r.status, kind, len(r.body))
		}
	}
	if len(links) < 5 || strings.Contains(pages, "//") && strings.Contains(pages, "http") {
		t.Errorf("%d links, in\n%s", len(links), pages)
	}
}
