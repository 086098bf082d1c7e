// Package jobs is the contract between the gateway and the workers: which kinds of job there are,
// what each may say, on which queues they travel, and how their answers come back.
package jobs

import (
	"crypto/sha256"
	"fmt"
	"net/mail"
	"regexp"

	"google.golang.org/protobuf/proto"

	"cartwright/internal/fault"
	"cartwright/internal/ids"
	"cartwright/internal/messaging"
	"cartwright/proto/jobspb"
)

// The kinds of job, which are also their routing keys.
const (
	AddToCart      = "cart.add"
	SetCartLine    = "cart.set"
	RemoveCartLine = "cart.remove"
	ClearCart      = "cart.clear"
	StartCheckout  = "checkout.start"
)

// The work queues, named like the services that serve them.
const (
	Cartmanager     messaging.Queue = "cartmanager"
	Checkoutmanager messaging.Queue = "checkoutmanager"
)

// Topology is everything that must exist on the broker, and what each service does there.
func Topology(namespace string) messaging.Topology {
	return messaging.Topology{
		Namespace: namespace,
		Jobs:      "cartwright.jobs",
		Queues:    "cartwright.queues",
		Replies:   "cartwright.replies",
		Events:    "cartwright.events",
		Work: []messaging.WorkQueue{
			{Name: Cartmanager, Keys: []string{"cart.*"}},
			{Name: Checkoutmanager, Keys: []string{"checkout.*"}},
		},
		Accounts: []messaging.Account{
			{Service: "gateway", Asks: true, Watches: []string{"product", "stock"}},
			{Service: "cartmanager", Works: Cartmanager, Tells: "cart"},
			{Service: "checkoutmanager", Works: Checkoutmanager, Tells: "order"},
			{Service: "inventory", Tells: "stock"},
			{Service: "payments", Tells: "payment"},
			{Service: "catalogue", Tells: "product"},
		},
	}
}

// Limits of what a job may ask for.
const (
	QuantityMax  = 10_000
	CartLinesMax = 200
	emailMax     = 254 // RFC 5321, section 4.5.3.1.3
)

// Job is the body of a job.
type Job interface {
	proto.Message
	GetClientId() string
}

// newBody makes the empty body of each kind.
var newBody = map[string]func() Job{
	AddToCart:      func() Job { return &jobspb.AddToCart{} },
	SetCartLine:    func() Job { return &jobspb.SetCartLine{} },
	RemoveCartLine: func() Job { return &jobspb.RemoveCartLine{} },
	ClearCart:      func() Job { return &jobspb.ClearCart{} },
	StartCheckout:  func() Job { return &jobspb.StartCheckout{} },
}

// KindOf is the kind of a job's body.
func KindOf(job Job) string {
	switch job.(type) {
	case *jobspb.AddToCart:
		return AddToCart
	case *jobspb.SetCartLine:
		return SetCartLine
	case *jobspb.RemoveCartLine:
		return RemoveCartLine
	case *jobspb.ClearCart:
		return ClearCart
	case *jobspb.StartCheckout:
		return StartCheckout
	}
	panic(fmt.Sprintf("%T is no job", job))
}

// PutsIn names the product that a job puts into a cart; empty when it only takes out.
func PutsIn(job Job) (product string) {
	switch j := job.(type) {
	case *jobspb.AddToCart:
		return j.GetProductId()
	case *jobspb.SetCartLine:
		if j.GetQuantity() > 0 {
			return j.GetProductId()
		}
	}
	return ""
}

// Describe says for people what a job asks for, without what is nobody's business: of a checkout not
// even with which token it is to be paid, nor to whom it is mailed.
func Describe(job Job) string {
	switch j := job.(type) {
	case *jobspb.AddToCart:
		return fmt.Sprintf("%d more of %s", j.GetQuantity(), j.GetProductId())
	case *jobspb.SetCartLine:
		return fmt.Sprintf("%d of %s", j.GetQuantity(), j.GetProductId())
	case *jobspb.RemoveCartLine:
		return "no " + j.GetProductId()
	case *jobspb.ClearCart:
		return "an empty cart"
	case *jobspb.StartCheckout:
		return "a checkout of the cart"
	}
	return KindOf(job)
}

// ID is the ID of a client's job by its idempotency key: the same three give the same ID.
func ID(kind, clientID, idempotencyKey string) string {
	return ids.Derive(kind, clientID, idempotencyKey)
}

// Encode writes a job's body. Equal jobs have equal bodies.
func Encode(job Job) ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(job)
}

// Decode reads the body of a kind and checks it. Its error is fault.Invalid: no second try can
// help.
func Decode(kind string, body []byte) (Job, error) {
	make, known := newBody[kind]
	if !known {
		return nil, fault.InvalidField("type", "%.64q is no kind of job", kind)
	}
	job := make()
	if err := proto.Unmarshal(body, job); err != nil {
		return nil, fault.InvalidField("body", "is no %s", kind)
	}
	return job, Check(job)
}

// Fingerprint tells two requests under the same ID apart.
func Fingerprint(job Job) ([32]byte, error) {
	body, err := Encode(job)
	if err != nil {
		return [32]byte{}, err
	}
	return sha256.Sum256(append([]byte(KindOf(job)+"\n"), body...)), nil
}

// Check tells what is wrong with a job, naming the field as the HTTP API does.
func Check(job Job) error {
	if !ids.Valid(job.GetClientId()) {
		return fault.InvalidField("clientID", ids.Shape)
	}
	if named, ok := job.(interface{ GetProductId() string }); ok && !ids.Valid(named.GetProductId()) {
		return fault.InvalidField("productID", ids.Shape)
	}
	switch j := job.(type) {
	case *jobspb.AddToCart:
		return checkQuantity(j.GetQuantity(), 1)
	case *jobspb.SetCartLine:
		return checkQuantity(j.GetQuantity(), 0)
	case *jobspb.StartCheckout:
		return checkPayer(j)
	}
	return nil
}

func checkQuantity(q, least int64) error {
	if q < least || q > QuantityMax {
		return fault.InvalidField("quantity", "must be a whole number from %d to %d", least, QuantityMax)
	}
	return nil
}

// methodShape is a provider's token. It begins with a letter, so a card number is none.
var methodShape = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]{0,63}$`)

func checkPayer(j *jobspb.StartCheckout) error {
	if m := j.GetPaymentMethod(); m != "" && !methodShape.MatchString(m) {
		return fault.InvalidField("paymentMethod", "must be a token of the payment provider: a letter, then up to 63 letters, digits or _")
	}
	if e := j.GetEmail(); e != "" {
		address, err := mail.ParseAddress(e)
		if err != nil || address.Address != e || len(e) > emailMax {
			return fault.InvalidField("email", "must be an e-mail address of at most %d characters", emailMax)
		}
	}
	return nil
}
