package gateway

import (
	"bytes"
	"cmp"
	"errors"
	"maps"
	"mime"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/gofiber/fiber/v2"

	"cartwright/internal/fault"
	"cartwright/internal/ids"
	"cartwright/internal/money"
)

// What is repeated of a member's name in an error is bounded: it is the sender's own text.
const (
	fieldNameMax = 64 // bytes
	pathMax      = 4  // members inside each other
)

// members are the members of a JSON object, read one after the other. The first thing that is
// wrong is kept in err, and what is read after it counts for nothing: read everything, then look
// at err once.
type members struct {
	path   string // of the object, such as "price."
	values map[string]jsontext.Value
	err    error
}

// readBody reads a request's body, which must be one JSON object with no other members than those
// named.
func readBody(c *fiber.Ctx, names ...string) *members {
	media, params, err := mime.ParseMediaType(c.Get(fiber.HeaderContentType))
	charset := strings.ToLower(params["charset"])
	switch {
	case err != nil, media != fiber.MIMEApplicationJSON, charset != "" && charset != "utf-8":
		return &members{err: fiber.NewError(fiber.StatusUnsupportedMediaType, "Content-Type: must be application/json")}
	case c.Get(fiber.HeaderContentEncoding) != "": // a small body could unpack to a huge one
		return &members{err: fiber.NewError(fiber.StatusUnsupportedMediaType, "Content-Encoding: must not be set")}
	}
	return parseObject(c.BodyRaw(), names...)
}

func parseObject(text []byte, names ...string) *members {
	m := &members{}
	m.parse(text, "body", names)
	return m
}

// parse fills m. It accepts exactly what RFC 8259 calls an object with unique names, in UTF-8,
// and nothing after it. Names count as written, with their capitals.
func (m *members) parse(text []byte, name string, known []string) {
	err := json.Unmarshal(text, &m.values)
	switch {
	case err != nil:
		m.err = syntaxFault(text, err, name)
		return
	case m.values == nil: // null
		m.err = fault.InvalidField(name, "must be a JSON object")
		return
	}
	for _, given := range slices.Sorted(maps.Keys(m.values)) {
		if !slices.Contains(known, given) {
			m.err = fault.InvalidField(m.path+cmp.Or(short(given), `""`), "is not known here; known are %s", strings.Join(known, ", "))
			return
		}
	}
}

// syntaxFault says in which member a text stops being JSON.
func syntaxFault(text []byte, err error, name string) error {
	var syntax *jsontext.SyntacticError
	if !errors.As(err, &syntax) {
		return fault.InvalidField(name, "must be a JSON object")
	}
	at := syntax.JSONPointer
	if at == "" { // between two values, as in 01: the one before is meant
		at = lastWhole(text)
	}
	path := slices.Collect(at.Tokens())
	if given := short(strings.Join(path[:min(len(path), pathMax)], ".")); given != "" {
		name = given
	}
	if errors.Is(err, jsontext.ErrDuplicateName) {
		return fault.InvalidField(name, "is given twice")
	}
	return fault.InvalidField(name, "is no valid JSON in UTF-8")
}

// lastWhole points at the last value that can be read of a text.
func lastWhole(text []byte) jsontext.Pointer {
	for d := jsontext.NewDecoder(bytes.NewReader(text)); ; {
		if _, err := d.ReadToken(); err != nil {
			return d.StackPointer()
		}
	}
}

// short cuts a name to what may be repeated.
func short(name string) string {
	if len(name) <= fieldNameMax {
		return name
	}
	return strings.ToValidUTF8(name[:fieldNameMax], "") + "…"
}

func (m *members) fail(name, format string, args ...any) {
	if m.err == nil {
		m.err = fault.InvalidField(m.path+name, format, args...)
	}
}

// has tells whether a member is there.
func (m *members) has(name string) bool {
	_, has := m.values[name]
	return has
}

// id reads an identifier.
func (m *members) id(name string) string {
	s, ok := m.string(name)
	if !ok || !ids.Valid(s) {
		m.fail(name, ids.Shape)
	}
	return s
}

// whole reads a whole number from least to most. 2.0 and 2e0 are refused: they are written by
// programs that count units in floating point.
func (m *members) whole(name string, least, most int64) int64 {
	n, err := strconv.ParseInt(string(m.values[name]), 10, 64) // of a string or null: an error
	if err != nil || n < least || n > most {
		m.fail(name, "must be a whole number from %d to %d", least, most)
	}
	return n
}

// text reads a string of least to most characters.
func (m *members) text(name string, least, most int) string {
	s, ok := m.string(name)
	if n := utf8.RuneCountInString(s); !ok || n < least || n > most {
		m.fail(name, "must be a string of %d to %d characters", least, most)
	}
	return s
}

// optional reads a string that may be left out; what it may look like is checked elsewhere.
func (m *members) optional(name string) string {
	if !m.has(name) {
		return ""
	}
	s, ok := m.string(name)
	if !ok {
		m.fail(name, "must be a string")
	}
	return s
}

// flag reads true or false.
func (m *members) flag(name string) bool {
	v := string(m.values[name])
	if v != "true" && v != "false" {
		m.fail(name, "must be true or false")
	}
	return v == "true"
}

// amount reads a price: {"amount": 4726, "currency": "EUR"}, in the currency's smallest unit.
func (m *members) amount(name string, most int64) money.Amount {
	if m.values[name].Kind() != '{' {
		m.fail(name, `must be an object such as {"amount": 4726, "currency": "EUR"}`)
		return money.Amount{}
	}
	inner := &members{path: m.path + name + "."}
	inner.parse(m.values[name], name, []string{"amount", "currency"})
	a := money.Amount{Minor: inner.whole("amount", 0, most)}
	var ok bool
	if a.Currency, ok = inner.string("currency"); !ok || !money.ValidCurrency(a.Currency) {
		inner.fail("currency", "must be three capital letters (ISO 4217)")
	}
	if m.err == nil {
		m.err = inner.err
	}
	return a
}

func (m *members) string(name string) (string, bool) {
	v := m.values[name]
	if v.Kind() != '"' {
		return "", false
	}
	raw, err := jsontext.AppendUnquote(nil, v)
	return string(raw), err == nil
}
