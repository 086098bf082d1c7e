package messaging

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"cartwright/internal/fault"
)

const (
	requestTime = 10 * time.Second
	answerMax   = 64 << 10
)

// Administration is the broker's HTTP API, used as an administrator.
type Administration struct {
	base           url.URL // without the account
	user, password string
	client         http.Client
}

// Administer returns the administration at an address of the form http://user:password@host:port,
// which has answered. Errors: fault.Unavailable when it does not answer; another when it refuses the
// account.
func Administer(ctx context.Context, address string) (*Administration, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User == nil || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("the address of the broker's administration must be http://user:password@host:port") // the error of url.Parse would repeat the password
	}
	a := &Administration{base: url.URL{Scheme: u.Scheme, Host: u.Host}, user: u.User.Username(), client: http.Client{Timeout: requestTime}}
	a.password, _ = u.User.Password()
	_, err = a.do(ctx, http.MethodGet, nil, "whoami")
	return a, err
}

// Declare makes the whole topology exist, as an administrator. Errors: fault.Unavailable when the
// broker is not there, or not yet.
func (b Broker) Declare() error {
	conn, err := b.connect("declare")
	if err != nil {
		return awayUnlessRefused(err)
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		return awayUnlessRefused(err)
	}
	return awayUnlessRefused(b.Topology.Declare(ch))
}

// Admit lets the user of an AMQP URL do what an account needs, in the URL's virtual host, and
// nothing else. The user is made when it is missing, and gets the URL's password. Nothing happens
// when it is the administrator's own. did says which user, and what was done.
func (a *Administration) Admit(ctx context.Context, amqpURL string, t Topology, account Account) (did string, err error) {
	u, err := parse(amqpURL)
	if err != nil {
		return "", err
	}
	if u.Username == a.user {
		return u.Username + " is the administrator's and was left alone", nil
	}
	may := t.permissions(account)
	status, err := a.put(ctx, map[string]string{"password": u.Password, "tags": ""}, "users", u.Username)
	if err == nil {
		_, err = a.put(ctx, map[string]string{"configure": may.configure, "write": may.write, "read": may.read}, "permissions", u.Vhost, u.Username)
	}
	for exchange, keys := range may.keys {
		if err == nil {
			_, err = a.put(ctx, map[string]string{"exchange": exchange, "write": keys.write, "read": keys.read}, "topic-permissions", u.Vhost, u.Username)
		}
	}
	switch {
	case err != nil:
		return "", fmt.Errorf("broker account %s: %w", u.Username, err)
	case status == http.StatusCreated:
		return u.Username + " was made", nil
	}
	return u.Username + " was brought up to date", nil
}

func (a *Administration) put(ctx context.Context, body map[string]string, path ...string) (status int, err error) {
	return a.do(ctx, http.MethodPut, body, path...)
}

// do is ask for those who want to know only whether it went well.
func (a *Administration) do(ctx context.Context, method string, body any, path ...string) (status int, err error) {
	status, _, err = a.ask(ctx, method, body, path...)
	return status, err
}

// ask sends one request about the thing at a path. Errors: fault.Unavailable without an answer.
func (a *Administration) ask(ctx context.Context, method string, body any, path ...string) (status int, said []byte, err error) {
	u := a.base
	u.Path, u.RawPath = "/api", "/api"
	for _, segment := range path { // one by one: the name of the usual virtual host is a slash
		u.Path, u.RawPath = u.Path+"/"+segment, u.RawPath+"/"+url.PathEscape(segment)
	}
	text, err := json.Marshal(body)
	if err != nil {
		return 0, nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(text))
	if err != nil {
		return 0, nil, err
	}
	req.SetBasicAuth(a.user, a.password)
	req.Header.Set("Content-Type", "application/json")
	resp, err := a.client.Do(req)
	if err != nil {
		return 0, nil, fault.Away("the broker's administration", err)
	}
	defer resp.Body.Close()
	said, err = io.ReadAll(io.LimitReader(resp.Body, answerMax))
	switch {
	case err != nil:
		return resp.StatusCode, nil, fault.Away("the broker's administration", err)
	case resp.StatusCode >= http.StatusInternalServerError:
		return resp.StatusCode, nil, fault.Away("the broker's administration", fmt.Errorf("%s: %s", resp.Status, said))
	case resp.StatusCode == http.StatusUnauthorized:
		return resp.StatusCode, nil, fmt.Errorf("the broker does not take %s for an administrator, wrong user or password: %s", a.user, said)
	case resp.StatusCode >= http.StatusMultipleChoices:
		return resp.StatusCode, nil, fmt.Errorf("the broker's administration: %s: %s", resp.Status, said)
	}
	return resp.StatusCode, said, nil
}

// awayUnlessRefused tells a broker that is not there, or not yet, from one that says no.
func awayUnlessRefused(err error) error {
	var said *amqp.Error
	if err == nil || errors.Is(err, errAddress) || errors.As(err, &said) && (said.Code == amqp.AccessRefused || said.Code == amqp.NotAllowed || said.Code == amqp.PreconditionFailed) {
		return err
	}
	return fault.Away("the broker", err)
}
