package testenv

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"cartwright/internal/fault"
	"cartwright/internal/ids"
	"cartwright/proto/faultpb"
)

// NoDatabase opens a pool that never gets a connection: whoever reaches for it has let a request
// through all checks, and finds the database away.
func NoDatabase(t testing.TB) *sql.DB {
	t.Helper()
	db := sql.OpenDB(noDatabase{})
	t.Cleanup(func() { db.Close() })
	return db
}

type noDatabase struct{}

func (noDatabase) Connect(context.Context) (driver.Conn, error) {
	return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
}

func (noDatabase) Driver() driver.Driver { return nil }

// Calls is a connection to a service in this process. A request and its answer are encoded and decoded
// on the way, as between two processes, and nothing else happens.
type Calls struct {
	Desc    *grpc.ServiceDesc
	Service any
}

// Invoke does one call.
func (c Calls) Invoke(ctx context.Context, path string, request, answer any, _ ...grpc.CallOption) error {
	raw, err := proto.Marshal(request.(proto.Message))
	if err != nil { // which gRPC calls an internal error too
		return fmt.Errorf("%s: %w", path, err)
	}
	got, err := c.call(ctx, path[strings.LastIndex(path, "/")+1:], raw)
	if err != nil {
		return err
	}
	raw, err = proto.Marshal(got)
	if err != nil {
		return fmt.Errorf("answer of %s: %w", path, err)
	}
	return proto.Unmarshal(raw, answer.(proto.Message))
}

// NewStream is for calls that nobody here has.
func (c Calls) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, fmt.Errorf("%s has no streams", c.Desc.ServiceName)
}

// errBytes is for what is no request of that method.
var errBytes = fault.InvalidField("request", "cannot be read")

func (c Calls) call(ctx context.Context, method string, raw []byte) (proto.Message, error) {
	at := slices.IndexFunc(c.Desc.Methods, func(m grpc.MethodDesc) bool { return m.MethodName == method })
	if at < 0 {
		return nil, fmt.Errorf("%s has no %s", c.Desc.ServiceName, method)
	}
	answer, err := c.Desc.Methods[at].Handler(c.Service, ctx, func(request any) error {
		if proto.Unmarshal(raw, request.(proto.Message)) != nil {
			return errBytes
		}
		return nil
	}, nil)
	if err != nil {
		return nil, err
	}
	return answer.(proto.Message), nil
}

// FuzzService sends each method of a service requests of any bytes. Whatever comes, the service does
// not panic, calls no request an internal error, names the field when it refuses one as invalid, and
// lets no identifier past its checks that is none. The seeds are requests as they really come. The
// service has no database and no neighbours: what it lets through ends with fault.Unavailable.
func FuzzService(f *testing.F, c Calls, seeds ...proto.Message) {
	f.Helper()
	for i, m := range c.Desc.Methods {
		f.Add(uint8(i), []byte{})
		for _, seed := range seeds {
			if raw, err := proto.Marshal(seed); err == nil && string(seed.ProtoReflect().Descriptor().Name()) == m.MethodName+"Request" {
				f.Add(uint8(i), raw)
			}
		}
	}
	f.Fuzz(func(t *testing.T, method uint8, raw []byte) {
		name := c.Desc.Methods[int(method)%len(c.Desc.Methods)].MethodName
		asked := c.asked(name)
		if proto.Unmarshal(raw, asked) != nil {
			return
		}
		answer, err := c.call(t.Context(), name, raw)
		judge(t, asked, err)
		if err == nil {
			judgeAll(t, asked, answer)
		}
	})
}

// asked is an empty request of a method.
func (c Calls) asked(method string) proto.Message {
	for _, m := range c.Desc.Methods {
		if m.MethodName != method {
			continue
		}
		var empty proto.Message
		m.Handler(c.Service, context.Background(), func(request any) error { //nolint:errcheck // it is ours
			empty = request.(proto.Message).ProtoReflect().New().Interface()
			return errBytes
		}, nil)
		return empty
	}
	return nil
}

// judgeAll judges the answer to each request of a batch.
func judgeAll(t *testing.T, asked, answer proto.Message) {
	t.Helper()
	requests, results := listOf(asked, "requests"), listOf(answer, "results")
	if results == nil {
		judge(t, asked, nil)
		return
	}
	if results.Len() != requests.Len() {
		t.Fatalf("%d results for %d requests", results.Len(), requests.Len())
	}
	for i := range results.Len() {
		told := results.Get(i).Message().Interface().(interface{ GetFault() *faultpb.Fault })
		judge(t, requests.Get(i).Message().Interface(), fault.FromProto(told.GetFault()))
	}
}

func listOf(m proto.Message, name protoreflect.Name) protoreflect.List {
	field := m.ProtoReflect().Descriptor().Fields().ByName(name)
	if field == nil || !field.IsList() {
		return nil
	}
	return m.ProtoReflect().Get(field).List()
}

// judge holds one answer to what FuzzService promises.
func judge(t *testing.T, asked proto.Message, err error) {
	t.Helper()
	switch e := fault.As(err); {
	case err == nil, e.Kind == fault.Unavailable:
		if listOf(asked, "requests") == nil {
			if id, wrong := WrongID(asked); wrong {
				t.Fatalf("%T %v was let through with the ID %q", asked, asked, id)
			}
		}
	case e.Kind == fault.Internal:
		t.Fatalf("%T %v is an internal error: %v", asked, asked, err)
	case e.Kind == fault.Invalid && (e.Field == "" || !strings.HasPrefix(e.Message, e.Field+": ")):
		t.Fatalf("%T %v is invalid, but where? %v", asked, asked, err)
	}
}

// WrongID finds an identifier in a request that has not the shape of one. One that is left out may be
// optional.
func WrongID(m proto.Message) (id string, found bool) {
	m.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		named := strings.HasSuffix(string(field.Name()), "_id") || strings.HasSuffix(string(field.Name()), "_ids")
		switch {
		case field.IsMap():
		case field.IsList():
			for i := 0; i < value.List().Len() && !found; i++ {
				id, found = wrongID(field, named, value.List().Get(i))
			}
		default:
			id, found = wrongID(field, named, value)
		}
		return !found
	})
	return id, found
}

func wrongID(field protoreflect.FieldDescriptor, named bool, value protoreflect.Value) (id string, found bool) {
	if field.Message() != nil {
		return WrongID(value.Message().Interface())
	}
	return value.String(), named && !ids.Valid(value.String())
}
