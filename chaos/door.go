package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"

	"cartwright/stage"
)

const (
	// answerLimit is far above the gateway's own limit, after which it answers 202.
	answerLimit = 15 * time.Second
	answerMax   = 1 << 20
	// idleMax is how many connections to each gateway are kept.
	idleMax = 256
)

// door is how clients speak with a shop: over HTTP, with any of its gateways, and everything is
// recorded.
type door struct {
	urls     []string
	staffKey string
	client   *http.Client
	history  *history
	requests atomic.Int64
}

func newDoor(shop stage.Shop, h *history) *door {
	transport := &http.Transport{MaxIdleConnsPerHost: idleMax}
	return &door{urls: shop.URLs, staffKey: shop.StaffKey, client: &http.Client{Transport: transport, Timeout: answerLimit}, history: h}
}

func (d *door) close() { d.client.CloseIdleConnections() }

// said is all that the answers of the shop's routes may say.
type said struct {
	Status   string `json:"status"`
	Error    string `json:"error"`
	Detail   string `json:"detail"`
	Reason   string `json:"reason"`
	JobID    string `json:"jobID"`
	OrderID  string `json:"orderID"`
	ClientID string `json:"clientID"`
}

// ask sends a request and returns the entry, filled in with what was answered.
func (d *door) ask(ctx context.Context, method, path string, body any, e Entry) Entry {
	d.requests.Add(1)
	e.Began = d.history.now()
	e.Code, e.ID, e.Owner, e.Status, e.Error = 0, "", "", "", ""
	err := d.send(ctx, method, path, body, &e)
	e.Ended = d.history.now()
	if err != nil {
		e.Error = err.Error()
	}
	d.history.add(e)
	return e
}

func (d *door) send(ctx context.Context, method, path string, body any, e *Entry) error {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return err
		}
	}
	url := d.urls[rand.IntN(len(d.urls))] // by chance and not by the seed: it is a client's second try as well
	req, err := http.NewRequestWithContext(ctx, method, url+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if e.Key != "" {
		req.Header.Set("Idempotency-Key", e.Key)
	}
	if e.Op == opStock {
		req.Header.Set("Authorization", "Bearer "+d.staffKey)
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, answerMax))
	if err != nil {
		return err
	}
	e.Code = resp.StatusCode
	e.hear(answer)
	return nil
}

// hear takes in an answer's body.
func (e *Entry) hear(answer []byte) {
	var s said
	if err := json.Unmarshal(answer, &s); err != nil {
		e.Error = string(answer[:min(len(answer), 200)])
		return
	}
	e.ID, e.Owner, e.Status = s.JobID+s.OrderID, s.ClientID, s.Status
	e.Error = s.Error + s.Detail + s.Reason
}
