package tests

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	"cartwright/access"
	"cartwright/internal/testenv"
)

// revokedWithin is how soon a certificate that was taken back is refused.
const revokedWithin = 5 * time.Second

// mayCall says who may read (r) and write (w) where. It says again, in other words, what the
// tables of access say.
var mayCall = map[string]map[string]string{
	"gateway":         {"catalogue": "rw", "inventory": "rw", "cartmanager": "r", "checkoutmanager": "rw"},
	"cartmanager":     {"catalogue": "r", "inventory": "r"},
	"checkoutmanager": {"cartmanager": "w", "inventory": "w", "payments": "w"},
	"operator":        {"catalogue": "rw", "inventory": "rw", "payments": "rw", "cartmanager": "rw", "checkoutmanager": "rw"},
	"observer":        {"catalogue": "r", "inventory": "r", "payments": "r", "cartmanager": "r", "checkoutmanager": "r"},
}

// X3: every RPC of every service, called by everybody who has a certificate, on the real servers.
func TestEverybodyMayCallWhatTheyNeedAndNothingElse(t *testing.T) {
	t.Parallel()
	s := newShop(t, options{})
	calls := 0
	for _, service := range []string{"catalogue", "inventory", "payments", "cartmanager", "checkoutmanager"} {
		addr := s.env[strings.ToUpper(service)+"_LISTEN_0"]
		all := rpcsOf(t, s.dial("observer", service, addr))
		if len(all) < 2 {
			t.Fatalf("%s serves only %d RPCs", service, len(all))
		}
		for _, subject := range access.Subjects() {
			conn := s.dial(subject.Name, service, addr)
			for _, rpc := range all {
				calls++
				right := "w"
				if name := string(rpc.Name()); strings.HasPrefix(name, "Get") || strings.HasPrefix(name, "List") {
					right = "r"
				}
				method := "/" + string(rpc.Parent().FullName()) + "/" + string(rpc.Name())
				ctx, cancel := context.WithTimeout(t.Context(), slack)
				err := conn.Invoke(ctx, method, dynamicpb.NewMessage(rpc.Input()), dynamicpb.NewMessage(rpc.Output()))
				cancel()
				denied := status.Code(err) == codes.PermissionDenied
				if want := !strings.Contains(mayCall[subject.Name][service], right); denied != want {
					t.Errorf("%s calls %s: %v, want denied %v", subject.Name, method, err, want)
				}
				if code := status.Code(err); code == codes.Unauthenticated || code == codes.Unavailable {
					t.Errorf("%s calls %s: %v", subject.Name, method, err)
				}
			}
		}
	}
	t.Logf("%d calls", calls)
	if _, err := reflected(t, s.dial("payments", "inventory", s.inventory)); status.Code(err) != codes.PermissionDenied {
		t.Errorf("payments is told what the inventory serves: %v", err)
	}
}

// rpcsOf are the RPCs that a server says it has, without gRPC's own.
func rpcsOf(t *testing.T, conn *grpc.ClientConn) (all []protoreflect.MethodDescriptor) {
	t.Helper()
	answer, err := reflected(t, conn)
	if err != nil {
		t.Fatal(err)
	}
	for _, listed := range answer.GetListServicesResponse().GetService() {
		if strings.HasPrefix(listed.GetName(), "grpc.") {
			continue
		}
		found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(listed.GetName()))
		if err != nil {
			t.Fatal(err)
		}
		methods := found.(protoreflect.ServiceDescriptor).Methods()
		for i := range methods.Len() {
			all = append(all, methods.Get(i))
		}
	}
	return all
}

func reflected(t *testing.T, conn *grpc.ClientConn) (*reflectionv1.ServerReflectionResponse, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), slack)
	defer cancel()
	stream, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	if err != nil {
		return nil, err
	}
	if err := stream.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}); err != nil {
		return nil, err
	}
	return stream.Recv()
}

var gatewaysLine = regexp.MustCompile(`(?m)^[0-9a-f]+ gateway .*\n`)

// X1, X2: every service gets a new certificate while people shop, and the old is refused; nothing
// is restarted, and nothing is lost. Then the gateway's is taken back, and it cannot ask any more.
func TestCertificatesAreRenewedAndTakenBackWhilePeopleShop(t *testing.T) {
	t.Parallel()
	f := newFleet(t, options{replicas: map[string]int{"inventory": 2}})
	ctx, cancel := context.WithTimeout(t.Context(), 2*crashLimit)
	defer cancel()
	crowd := crashCrowd(300, 2000)
	f.product("tea", 100, int64(crowd))
	all := f.crowd("c", crowd, "")
	wait := f.shopping(ctx, all)
	for i, service := range startOrder {
		f.whenPlaced((i + 1) * crowd / 10)
		if out, err := exec.CommandContext(ctx, f.program, "certs", "--dir", f.certs, "--renew", service).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	wait()
	f.soldTo(all, 0)

	list := filepath.Join(f.certs, "allowed.txt")
	whole, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	asks := func() bool {
		a, err := f.ask(http.MethodGet, "/v1/carts/ann", "", nil)
		return err == nil && a.code == http.StatusOK
	}
	testenv.Eventually(t, readyLimit, "the gateway asks with its new certificate", asks)
	if err := os.WriteFile(list, gatewaysLine.ReplaceAll(whole, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, revokedWithin, "the gateway is refused", func() bool { return !asks() })
	if err := os.WriteFile(list, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, readyLimit, "the gateway is let in again", asks)
	if text := f.logs.String(); !strings.Contains(text, "of gateway is not on the list") {
		t.Error("no log says why the gateway was refused")
	}
	f.keepsItsSecrets()
}
