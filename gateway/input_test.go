package gateway

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// C4, X5: what is wrong with a request is said in its answer, and reaches no worker.
func TestWrongBodiesAreRefusedByField(t *testing.T) {
	t.Parallel()
	s := openShop(t, nil)
	const (
		quantity = "quantity: must be a whole number from 1 to 10000"
		id       = ": must be 1 to 64 characters of A-Z a-z 0-9 . _ : -"
	)
	add := func(quantity string) string { return `{"clientID":"jo","productID":"tea","quantity":` + quantity + `}` }
	for body, want := range map[string]string{
		add(`0`): quantity, add(`-1`): quantity, add(`1.5`): quantity, add(`"x"`): quantity, add(`"1"`): quantity, add(`1e30`): quantity,
		add(`1e3`): quantity, add(`2.0`): quantity, add(`10001`): quantity, add(`null`): quantity, add(`true`): quantity, add(`[1]`): quantity,
		add(`{"n":1}`): quantity, add(`99999999999999999999`): quantity, add(`-0`): quantity,
		add(`01`):                                                   "quantity: is no valid JSON in UTF-8",
		add(`NaN`):                                                  "quantity: is no valid JSON in UTF-8",
		add(`1,"quantity":2`):                                       "quantity: is given twice",
		add(`{"a":1,"a":2}`):                                        "quantity.a: is given twice",
		add(`1,"price":1`):                                          "price: is not known here; known are clientID, productID, quantity",
		add(`1,"Quantity":1`):                                       "Quantity: is not known here; known are clientID, productID, quantity",
		`{"clientID":"jo","quantity":1}`:                            "productID" + id,
		`{"productID":"tea"}`:                                       "clientID" + id,
		`{"clientID":"jo","productID":"tea"}`:                       quantity,
		`{"clientID":"","productID":"tea","quantity":1}`:            "clientID" + id,
		`{"clientID":7,"productID":"tea","quantity":1}`:             "clientID" + id,
		`{"clientID":null,"productID":"tea","quantity":1}`:          "clientID" + id,
		`{"clientID":["jo"],"productID":"tea","quantity":1}`:        "clientID" + id,
		`{"clientID":"jo","productID":"x' OR '1'='1","quantity":1}`: "productID" + id,
		`{"clientID":{"$ne":null},"productID":"tea","quantity":1}`:  "clientID" + id,
		`{"clientID":"j\u0000o","productID":"tea","quantity":1}`:    "clientID" + id,
		`{"clientID":"` + strings.Repeat("a", 65) + `","productID":"a","quantity":1}`: "clientID" + id,
		"{\"clientID\":\"j\xff\",\"productID\":\"tea\",\"quantity\":1}":               "clientID: is no valid JSON in UTF-8",
		add(`1`) + `{}`:                          "body: is no valid JSON in UTF-8",
		`[]`:                                     "body: must be a JSON object",
		`null`:                                   "body: must be a JSON object",
		`"x"`:                                    "body: must be a JSON object",
		`7`:                                      "body: must be a JSON object",
		` `:                                      "body: is no valid JSON in UTF-8",
		`{`:                                      "body: is no valid JSON in UTF-8",
		`{'clientID':'jo'}`:                      "body: is no valid JSON in UTF-8",
		add(strings.Repeat("[", 20000)):          "quantity.0.0.0: is no valid JSON in UTF-8",
		`{"` + strings.Repeat("x", 300) + `":1}`: strings.Repeat("x", 64) + "…: is not known here; known are clientID, productID, quantity",
	} {
		r := s.ask(t, "POST", addToCartPath, body, "Content-Type: application/json")
		if r.status != http.StatusBadRequest || r.text("status") != failed || r.text("error") != want {
			t.Errorf("%.80q: got %d %s, want %q", body, r.status, r.body, want)
		}
	}
	for body, field := range map[string]string{
		`{}`: "clientID",
		`{"clientID":"jo","paymentMethod":"4111111111111111"}`: "paymentMethod",
		`{"clientID":"jo","paymentMethod":7}`:                  "paymentMethod",
		`{"clientID":"jo","email":"x"}`:                        "email",
		`{"clientID":"jo","email":null}`:                       "email",
		`{"clientID":"jo","email":"a@b.c","total":0}`:          "total",
	} {
		r := s.ask(t, "POST", checkOutCartPath, body)
		if r.status != http.StatusBadRequest || r.text("status") != failed || !strings.HasPrefix(r.text("error"), field+": ") {
			t.Errorf("%s: got %d %s, want an error about %s", body, r.status, r.body, field)
		}
	}
	if seen := s.worker.seen(); len(seen) > 0 {
		t.Errorf("%d jobs reached the worker", len(seen))
	}
}

func TestWrongRequestsHaveHonestCodes(t *testing.T) {
	t.Parallel()
	s := openShop(t, nil)
	good := addBody("jo", 1)
	for _, c := range []struct {
		name, method, path, body string
		headers                  []string
		status                   int
		words                    string // in the error
	}{
		{"wrong method", "GET", addToCartPath, "", nil, 405, "Method Not Allowed"},
		{"wrong method, slash", "DELETE", checkOutCartPath + "/", "", nil, 405, "Method Not Allowed"},
		{"unknown method", "BREW", addToCartPath, "", nil, 405, "Method Not Allowed"},
		{"no content type", "POST", addToCartPath, good, []string{"Content-Type: "}, 415, "Content-Type"},
		{"text", "POST", addToCartPath, good, []string{"Content-Type: text/plain"}, 415, "Content-Type"},
		{"other charset", "POST", addToCartPath, good, []string{"Content-Type: application/json; charset=latin1"}, 415, "Content-Type"},
		{"form", "POST", checkOutCartPath, "clientID=jo", []string{"Content-Type: application/x-www-form-urlencoded"}, 415, "Content-Type"},
		{"packed", "POST", addToCartPath, packed(t, good), []string{"Content-Encoding: gzip"}, 415, "Content-Encoding"},
		{"large", "POST", addToCartPath, `{"clientID":"` + strings.Repeat("a", bodyMax) + `"}`, nil, 413, "Request Entity Too Large"},
		{"very large", "POST", checkOutCartPath, strings.Repeat(" ", 4<<20), nil, 413, "Request Entity Too Large"},
		{"long key", "POST", addToCartPath, good, []string{"Idempotency-Key: " + strings.Repeat("k", 256)}, 400, "Idempotency-Key"},
		{"empty key", "POST", addToCartPath, good, []string{"Idempotency-Key: "}, 400, "Idempotency-Key"},
		{"key in other letters", "POST", addToCartPath, good, []string{"Idempotency-Key: schlüssel"}, 400, "Idempotency-Key"},
	} {
		r := s.ask(t, c.method, c.path, c.body, c.headers...)
		if r.status != c.status || r.text("status") != failed || !strings.Contains(r.text("error"), c.words) {
			t.Errorf("%s: got %d %.200s, want %d about %s", c.name, r.status, r.body, c.status, c.words)
		}
		if c.status == 405 && r.header.Get("Allow") != "POST" {
			t.Errorf("%s: Allow is %q", c.name, r.header.Get("Allow"))
		}
	}
	if seen := s.worker.seen(); len(seen) > 0 {
		t.Errorf("%d jobs reached the worker", len(seen))
	}
	for name, header := range map[string]string{"charset": "Content-Type: application/json; charset=UTF-8", "long key": "Idempotency-Key: " + strings.Repeat("~", 255)} {
		if r := s.ask(t, "POST", addToCartPath, good, header); r.status != http.StatusOK {
			t.Errorf("good %s: got %d %s", name, r.status, r.body)
		}
	}
}

// Everything but the two old routes answers errors as RFC 9457 says.
func TestOtherRoutesAnswerProblems(t *testing.T) {
	t.Parallel()
	s := openShop(t, nil)
	long := strings.Repeat("a", 65)
	for _, c := range []struct {
		method, path, body string
		status             int
		field              string
	}{
		{"GET", "/", "", 404, ""},
		{"GET", "/v1/nothing", "", 404, ""},
		{"GET", "/v1/%ff", "", 404, ""},
		{"POST", "/addtocart", addBody("jo", 1), 404, ""},
		{"PATCH", "/v1/carts/jo", "", 405, ""},
		{"POST", "/v1/products", "{}", 405, ""},
		{"GET", "/v1/carts/" + long, "", 400, "clientID"},
		{"GET", "/v1/carts/a%20b", "", 400, "clientID"},
		{"GET", "/v1/carts/a%2Fb", "", 400, "clientID"},
		{"DELETE", "/v1/carts/x'OR'1", "", 400, "clientID"},
		{"PUT", "/v1/carts/jo/items/tea", `{"quantity":-1}`, 400, "quantity"},
		{"PUT", "/v1/carts/jo/items/tea", `{"quantity":10001}`, 400, "quantity"},
		{"PUT", "/v1/carts/jo/items/t%25", `{"quantity":1}`, 400, "productID"},
		{"DELETE", "/v1/carts/jo/items/" + long, "", 400, "productID"},
		{"GET", "/v1/orders", "", 400, "clientID"},
		{"GET", "/v1/orders?clientID=%7B%22$ne%22:null%7D", "", 400, "clientID"},
		{"GET", "/v1/orders?clientID=jo&limit=0", "", 400, "limit"},
		{"GET", "/v1/orders?clientID=jo&limit=101", "", 400, "limit"},
		{"GET", "/v1/orders?clientID=jo&limit=x", "", 400, "limit"},
		{"GET", "/v1/products?limit=1.5", "", 400, "limit"},
		{"GET", "/v1/products?cursor=" + strings.Repeat("c", 300), "", 400, "cursor"},
		{"GET", "/v1/products?cursor=%ff", "", 400, "cursor"},
		{"GET", "/v1/orders/" + long, "", 400, "orderID"},
		{"GET", "/v1/jobs/%00", "", 400, "jobID"},
		{"GET", "/v1/orders/nobody-knows", "", 404, ""},
		{"GET", "/v1/jobs/nobody-knows", "", 404, ""},
		{"GET", "/swagger/swagger-initializer.js", "", 404, ""},
	} {
		r := s.ask(t, c.method, c.path, c.body)
		field, detail := r.text("field"), r.text("detail")
		if r.status != c.status || r.values["status"] != float64(c.status) || field != c.field || r.text("title") != http.StatusText(c.status) || !strings.HasPrefix(detail, field) {
			t.Errorf("%s %s: got %d %s, want %d about %q", c.method, c.path, r.status, r.body, c.status, c.field)
		}
		if kind := r.header.Get("Content-Type"); kind != "application/problem+json" {
			t.Errorf("%s %s: Content-Type is %q", c.method, c.path, kind)
		}
	}
}

// X7
func TestLargeHeadersAndControlCharactersAreRefused(t *testing.T) {
	t.Parallel()
	s := openShop(t, nil)
	for _, c := range []struct {
		name, head string
		status     int
	}{
		{"large header", "GET /v1/products HTTP/1.1\r\nHost: shop\r\nX-Big: " + strings.Repeat("b", 9000) + "\r\n\r\n", 431},
		{"long path", "GET /v1/carts/" + strings.Repeat("b", 9000) + " HTTP/1.1\r\nHost: shop\r\n\r\n", 431},
		{"control character in the key", "DELETE /v1/carts/jo HTTP/1.1\r\nHost: shop\r\nIdempotency-Key: a\x01b\r\n\r\n", 400},
		{"two keys", "DELETE /v1/carts/jo HTTP/1.1\r\nHost: shop\r\nIdempotency-Key: a\r\nIdempotency-Key: b\r\n\r\n", 400},
		{"no HTTP", "hello\r\n\r\n", 400},
	} {
		conn, err := net.Dial("tcp", s.settings.Listen)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(startLimit))
		fmt.Fprint(conn, c.head)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		resp.Body.Close()
		if resp.StatusCode != c.status || resp.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: got %d, %s, want %d", c.name, resp.StatusCode, resp.Header.Get("Content-Type"), c.status)
		}
	}
}

// X7
func TestAnswersCarrySafeHeaders(t *testing.T) {
	t.Parallel()
	s := openShop(t, nil)
	for _, path := range []string{"/v1/products", "/v1/nothing", "/documentation"} {
		h := s.ask(t, "GET", path, "", "Origin: https://elsewhere.example").header
		if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("X-Frame-Options") != "DENY" || h.Get("Cache-Control") != "no-store" || h.Get("Content-Security-Policy") == "" {
			t.Errorf("%s: %v", path, h)
		}
		if h.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: another site may read it", path)
		}
	}
}

// Z10
func TestARequestKeepsItsIDAndItsTrace(t *testing.T) {
	t.Parallel()
	s := openShop(t, nil)
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	r := s.ask(t, "POST", addToCartPath, addBody("jo", 1), "traceparent: "+parent, "X-Request-ID: my-request")
	if id := r.header.Get("X-Request-ID"); id != "my-request" {
		t.Errorf("X-Request-ID is %q", id)
	}
	r = s.ask(t, "POST", addToCartPath, addBody("jo", 1), "traceparent: 00-"+noTraceID+"-b7ad6b7169203331-01", "X-Request-ID: <script>")
	if id := r.header.Get("X-Request-ID"); len(id) != 32 || id == noTraceID {
		t.Errorf("X-Request-ID is %q, want a new trace's ID", id)
	}
	seen := s.worker.seen()
	if seen[0].Trace != parent || !strings.Contains(seen[1].Trace, r.header.Get("X-Request-ID")) {
		t.Errorf("the jobs travelled with %q and %q", seen[0].Trace, seen[1].Trace)
	}
}

func packed(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
