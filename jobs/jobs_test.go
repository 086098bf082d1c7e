package jobs

import (
	"bytes"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"cartwright/internal/fault"
	"cartwright/internal/ids"
	"cartwright/internal/messaging"
	"cartwright/proto/jobspb"
)

// one of each kind, as valid as can be.
func examples() map[string]Job {
	return map[string]Job{
		AddToCart:      &jobspb.AddToCart{ClientId: "ann", ProductId: "tea", Quantity: 2},
		SetCartLine:    &jobspb.SetCartLine{ClientId: "ann", ProductId: "tea", Quantity: 0},
		RemoveCartLine: &jobspb.RemoveCartLine{ClientId: "ann", ProductId: "tea"},
		ClearCart:      &jobspb.ClearCart{ClientId: "ann"},
		StartCheckout:  &jobspb.StartCheckout{ClientId: "ann", PaymentMethod: "tok_visa", Email: "ann@example.org"},
	}
}

func TestEveryKindSurvivesTheJourney(t *testing.T) {
	t.Parallel()
	if len(examples()) != len(newBody) {
		t.Fatalf("%d kinds, %d examples", len(newBody), len(examples()))
	}
	for kind, job := range examples() {
		body, err := Encode(job)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decode(kind, body)
		if err != nil || !proto.Equal(got, job) || KindOf(job) != kind {
			t.Errorf("%s: %v, %v", kind, got, err)
		}
	}
}

// C4, X5
func TestAJobNamesWhatIsWrongWithIt(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", ids.LenMax+1)
	add := func(client, product string, quantity int64) Job {
		return &jobspb.AddToCart{ClientId: client, ProductId: product, Quantity: quantity}
	}
	set := func(quantity int64) Job {
		return &jobspb.SetCartLine{ClientId: "ann", ProductId: "tea", Quantity: quantity}
	}
	pay := func(method, email string) Job {
		return &jobspb.StartCheckout{ClientId: "ann", PaymentMethod: method, Email: email}
	}
	for _, c := range []struct {
		what  string
		job   Job
		field string // empty: nothing is wrong
	}{
		{"least quantity", add("ann", "tea", 1), ""},
		{"most quantity", add("ann", "tea", QuantityMax), ""},
		{"no quantity", add("ann", "tea", 0), "quantity"},
		{"less than nothing", add("ann", "tea", -1), "quantity"},
		{"too much", add("ann", "tea", QuantityMax+1), "quantity"},
		{"set to nothing", set(0), ""},
		{"set to less than nothing", set(-1), "quantity"},
		{"set to too much", set(QuantityMax + 1), "quantity"},
		{"no client", add("", "tea", 1), "clientID"},
		{"long client", add(long, "tea", 1), "clientID"},
		{"longest client", add(long[1:], "tea", 1), ""},
		{"no product", add("ann", "", 1), "productID"},
		{"SQL as a product", add("ann", "x' OR '1'='1", 1), "productID"},
		{"remove without a product", &jobspb.RemoveCartLine{ClientId: "ann"}, "productID"},
		{"clear without a client", &jobspb.ClearCart{}, "clientID"},
		{"no method, no address", pay("", ""), ""},
		{"a card number", pay("4242424242424242", ""), "paymentMethod"},
		{"a long method", pay(long, ""), "paymentMethod"},
		{"a name beside the address", pay("", "Ann <ann@example.org>"), "email"},
		{"no address", pay("", "ann"), "email"},
		{"a long address", pay("", strings.Repeat("a", emailMax)+"@example.org"), "email"},
	} {
		err := Check(c.job)
		switch {
		case c.field == "" && err != nil:
			t.Errorf("%s: %v", c.what, err)
		case c.field != "" && (!fault.Is(err, fault.Invalid) || fault.As(err).Field != c.field):
			t.Errorf("%s: %v, want a fault of %s", c.what, err, c.field)
		}
	}
}

func TestWhatCannotBeReadIsInvalid(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		kind  string
		body  []byte
		field string
	}{
		"unknown kind": {"cart.polish", nil, "type"},
		"no kind":      {"", nil, "type"},
		"broken body":  {AddToCart, []byte{0xff}, "body"},
		"empty body":   {AddToCart, nil, "clientID"},
	} {
		if _, err := Decode(c.kind, c.body); !fault.Is(err, fault.Invalid) || fault.As(err).Field != c.field {
			t.Errorf("%s: %v, want a fault of %s", what, err, c.field)
		}
	}
}

// E16: a newer gateway may say more than an older worker knows.
func TestUnknownFieldsAreIgnored(t *testing.T) {
	t.Parallel()
	body, err := Encode(examples()[AddToCart])
	if err != nil {
		t.Fatal(err)
	}
	body = append(body, 0xf8, 0x07, 0x01) // field 127, a number
	if _, err := Decode(AddToCart, body); err != nil {
		t.Error(err)
	}
}

// B1
func TestTheSameKeyGivesTheSameID(t *testing.T) {
	t.Parallel()
	id := ID(AddToCart, "ann", "key")
	if want := "65bafcc0-4234-8f15-9209-6c4186a3af5f"; id != want { // a release that gave another would buy twice
		t.Errorf("ID %s, want %s", id, want)
	}
	if again := ID(AddToCart, "ann", "key"); again != id {
		t.Errorf("%s, then %s", id, again)
	}
	for _, other := range []string{ID(SetCartLine, "ann", "key"), ID(AddToCart, "bob", "key"), ID(AddToCart, "ann", "yek"), ID(AddToCart, "annk", "ey")} {
		if other == id {
			t.Errorf("two requests share %s", id)
		}
	}
}

func TestAFingerprintTellsRequestsApart(t *testing.T) {
	t.Parallel()
	seen := map[[32]byte]string{}
	all := examples()
	all["more"] = &jobspb.AddToCart{ClientId: "ann", ProductId: "tea", Quantity: 3}
	all["other"] = &jobspb.SetCartLine{ClientId: "ann", ProductId: "tea", Quantity: 2} // the body of the add
	for what, job := range all {
		fingerprint, err := Fingerprint(job)
		if err != nil {
			t.Fatal(err)
		}
		if twin, has := seen[fingerprint]; has {
			t.Errorf("%s and %s look alike", what, twin)
		}
		seen[fingerprint] = what
		if again, _ := Fingerprint(proto.Clone(job).(Job)); again != fingerprint {
			t.Errorf("%s has two fingerprints", what)
		}
	}
}

func TestNobodyWaitsNobodyIsAnswered(t *testing.T) {
	t.Parallel()
	a := NewAnswers(nil) // which would panic if it were used
	if err := a.Done(t.Context(), messaging.Message{ID: "j"}, false); err != nil {
		t.Error(err)
	}
	if err := a.Done(t.Context(), messaging.Message{ID: "j", ReplyTo: "somebody", Correlation: "no hex"}, false); err == nil {
		t.Error("an answer left under a correlation ID that is none")
	}
}

// What Decode lets through is valid, and written again it is read the same.
func FuzzDecode(f *testing.F) {
	for kind, job := range examples() {
		body, err := Encode(job)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(kind, body)
	}
	f.Add("", []byte{})
	f.Fuzz(func(t *testing.T, kind string, body []byte) {
		job, err := Decode(kind, body)
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Fatalf("%v is no fault of the sender", err)
			}
			return
		}
		if err := Check(job); err != nil || KindOf(job) != kind {
			t.Fatalf("a %s that is %v", KindOf(job), err)
		}
		once, err := Encode(job)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Decode(kind, once)
		if err != nil {
			t.Fatal(err)
		}
		if twice, _ := Encode(again); !bytes.Equal(once, twice) {
			t.Fatalf("%x became %x", once, twice)
		}
	})
}
