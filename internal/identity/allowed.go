package identity

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"time"
)

// allowedFile lists the certificates that are let in, one a line: serial number, name, and the
// last day of its use, which only keeps the list short. Who takes a line out takes the
// certificate back.
const allowedFile = "allowed.txt"

const allowedHeader = `# The certificates that are let in, by serial number. Take a line out, and its certificate is refused
# within seconds; nothing has to be restarted. Written by cartwright certs, and free to edit.
`

// allowed has a name for each serial number in canonical form.
type allowed map[string]string

// line is one certificate of the list.
type line struct {
	serial, name string
	until        time.Time // zero when the list does not say
}

// serialBytesMax is what RFC 5280 allows.
const serialBytesMax = 20

var (
	nameShape   = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)
	serialShape = regexp.MustCompile(`^[0-9a-f]+$`)
)

// ParseSerial reads a serial number as any tool prints it in hexadecimal: in either case, with
// colons, with leading zeros or without. The canonical form has neither.
func ParseSerial(text string) (string, error) {
	digits := strings.TrimPrefix(strings.ReplaceAll(strings.ToLower(strings.TrimSpace(text)), ":", ""), "0x")
	if !serialShape.MatchString(digits) {
		return "", fmt.Errorf("%.60q is no hexadecimal serial number", text)
	}
	number, _ := new(big.Int).SetString(digits, 16) // cannot fail: they are digits
	if number.Sign() == 0 || number.BitLen() > 8*serialBytesMax {
		return "", fmt.Errorf("serial number %.60q is 0 or longer than %d bytes", text, serialBytesMax)
	}
	return number.Text(16), nil
}

func parseAllowed(text []byte) (allowed, error) {
	lines, err := parseLines(text)
	if err != nil {
		return nil, err
	}
	all := allowed{}
	for _, l := range lines {
		if other, twice := all[l.serial]; twice && other != l.name {
			return nil, fmt.Errorf("serial number %s is given to %s and to %s", l.serial, other, l.name)
		}
		all[l.serial] = l.name
	}
	return all, nil
}

// parseLines reads the list. A file without a byte is one that somebody is still writing, and not
// a list that lets nobody in.
func parseLines(text []byte) (all []line, err error) {
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, errors.New("the file is empty")
	}
	scan := bufio.NewScanner(bytes.NewReader(text))
	for number := 1; scan.Scan(); number++ {
		words, _, _ := strings.Cut(scan.Text(), "#")
		fields := strings.Fields(words)
		if len(fields) == 0 {
			continue
		}
		if len(fields) < 2 || len(fields) > 3 {
			return nil, fmt.Errorf("line %d: want a serial number, a name, and perhaps a day", number)
		}
		l := line{name: fields[1]}
		if l.serial, err = ParseSerial(fields[0]); err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		if !nameShape.MatchString(l.name) {
			return nil, fmt.Errorf("line %d: %.60q is no name", number, l.name)
		}
		if len(fields) == 3 {
			if l.until, err = time.Parse(time.DateOnly, fields[2]); err != nil {
				return nil, fmt.Errorf("line %d: %.60q is no day, such as 2026-12-31", number, fields[2])
			}
		}
		all = append(all, l)
	}
	if err := scan.Err(); err != nil {
		return nil, err
	}
	return all, nil
}

func formatLines(lines []line) []byte {
	text := bytes.NewBufferString(allowedHeader)
	for _, l := range lines {
		fmt.Fprintf(text, "%s %s", l.serial, l.name)
		if !l.until.IsZero() {
			fmt.Fprintf(text, " %s", l.until.UTC().Format(time.DateOnly))
		}
		text.WriteByte('\n')
	}
	return text.Bytes()
}

// current are the lines without those of certificates that have expired by themselves.
func current(lines []line, now time.Time) []line {
	return slices.DeleteFunc(lines, func(l line) bool { return !l.until.IsZero() && now.After(l.until.Add(24*time.Hour)) })
}
