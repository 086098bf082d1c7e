package access

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// rpcs are all RPCs that this program knows, ours and gRPC's own.
func rpcs() map[string]bool {
	all := map[string]bool{}
	protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			s := f.Services().Get(i)
			for j := range s.Methods().Len() {
				all["/"+string(s.FullName())+"/"+string(s.Methods().Get(j).Name())] = true
			}
		}
		return true
	})
	return all
}

// X3: an RPC is in the table, or it is refused; and one that was forgotten makes this test fail.
func TestEveryRPCAsksForAScope(t *testing.T) {
	t.Parallel()
	all := rpcs()
	if len(all) < 20 {
		t.Fatalf("only %d RPCs found", len(all))
	}
	for method := range all {
		switch methods[method] {
		case Public:
			if !strings.HasPrefix(method, "/grpc.health.") {
				t.Errorf("%s is for everybody", method)
			}
		case Read, Write:
		default:
			t.Errorf("%s asks for %q: give it a line in methods", method, methods[method])
		}
	}
	for method := range methods {
		if !all[method] {
			t.Errorf("%s is in the table and nowhere else", method)
		}
	}
}

func TestGrantsNameThoseWhoHaveCertificates(t *testing.T) {
	t.Parallel()
	people, services := map[string]bool{}, map[string]bool{anyService: true}
	for _, s := range Subjects() {
		if people[s.Name] = s.Person; !s.Person {
			services[s.Name] = true
		}
	}
	for c, scopes := range grants {
		if _, known := people[c.caller]; !known || !services[c.called] || len(scopes) == 0 {
			t.Errorf("%v: %v", c, scopes)
		}
		if c.called == anyService && !people[c.caller] {
			t.Errorf("the service %s may call every service", c.caller)
		}
	}
}

// X3
func TestScopesAreWhatTheySay(t *testing.T) {
	t.Parallel()
	const (
		get   = "/cartwright.inventory.v1.Inventory/GetAvailability"
		take  = "/cartwright.inventory.v1.Inventory/ReserveBatch"
		check = "/grpc.health.v1.Health/Check"
	)
	for _, c := range []struct {
		caller, method string
		want           bool
	}{
		{"cartmanager", get, true}, {"cartmanager", take, false}, // READ
		{"checkoutmanager", get, false}, {"checkoutmanager", take, true}, // WRITE
		{"operator", get, true}, {"operator", take, true}, // WILDCARD
		{"payments", check, true}, {"payments", get, false}, // PUBLIC
		{"operator", "/cartwright.inventory.v1.Inventory/New", false},
		{"", get, false}, {"stranger", get, false},
	} {
		if got := Allows(c.caller, "inventory", c.method); got != c.want {
			t.Errorf("%s calls %s: %v", c.caller, c.method, got)
		}
	}
}
