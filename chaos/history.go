package chaos

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"sync"
	"time"
)

// What an entry of a history tells of.
const (
	opAdd      = "add"
	opCheckout = "checkout"
	opOrder    = "order" // asked what became of a checkout
	opJob      = "job"   // asked what became of an add
	opStock    = "stock" // goods came in
	opPoison   = "poison"
)

// Entry is one request and what was answered, as a client saw it; or a message that was put on a queue
// past the shop. Times are of one clock, which only goes forward, since the load began.
type Entry struct {
	Op       string        `json:"op"`
	Client   string        `json:"client,omitempty"`
	Key      string        `json:"key,omitempty"` // the Idempotency-Key
	Product  string        `json:"product,omitempty"`
	Quantity int64         `json:"quantity,omitempty"`
	Method   string        `json:"method,omitempty"` // of payment
	Asked    string        `json:"asked,omitempty"`  // the order or job that was asked for
	Began    time.Duration `json:"began"`            // nanoseconds
	Ended    time.Duration `json:"ended"`
	Code     int           `json:"code"`            // 0: no answer
	ID       string        `json:"id,omitempty"`    // of the job or order, as answered
	Owner    string        `json:"owner,omitempty"` // whose it is, as answered
	Status   string        `json:"status,omitempty"`
	Error    string        `json:"error,omitempty"`
}

// definite tells whether an answer to a request says how it ended.
func (e Entry) definite() bool { return e.Code == 200 || e.refused() }

func (e Entry) refused() bool { return e.Code >= 400 && e.Code < 500 }

// accepted tells whether the shop has promised to do what it was asked.
func (e Entry) accepted() bool { return e.Code == 200 || e.Code == 202 }

// historyName is the file of a run's history.
const historyName = "history.jsonl"

// history records entries, in memory and in a file, in the order in which they ended.
type history struct {
	began time.Time

	mu      sync.Mutex
	entries []Entry
	file    *os.File
	text    *bufio.Writer
	err     error
}

func newHistory(path string) (*history, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	return &history{began: time.Now(), file: file, text: bufio.NewWriter(file)}, nil
}

// now is the time since the history began.
func (h *history) now() time.Duration { return time.Since(h.began) }

func (h *history) add(e Entry) {
	line, err := json.Marshal(e)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.entries = append(h.entries, e)
	_, errWrite := h.text.Write(append(line, '\n'))
	h.err = errors.Join(h.err, err, errWrite)
}

// all are the entries so far.
func (h *history) all() []Entry {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.entries[:len(h.entries):len(h.entries)]
}

func (h *history) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return errors.Join(h.err, h.text.Flush(), h.file.Close())
}
