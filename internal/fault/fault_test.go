package fault

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"cartwright/proto/faultpb"
)

func TestKindIsFoundUnderEveryWrapping(t *testing.T) {
	t.Parallel()
	for want, err := range map[Kind]error{
		Refused:     fmt.Errorf("order 1: %w", errors.Join(errors.New("also"), New(Refused, "out_of_stock", "no tea left"))),
		Invalid:     InvalidField("quantity", "must be %d or more", 1),
		Unavailable: fmt.Errorf("cart: %w", context.DeadlineExceeded),
		Internal:    errors.New("nobody labelled it"),
		NotFound:    New(NotFound, "unknown_product", "no such product"),
		Mismatch:    New(Mismatch, "key_reused", "other body"),
	} {
		if got := KindOf(err); got != want {
			t.Errorf("%v is %v, want %v", err, got, want)
		}
		if !Is(err, want) || Is(nil, want) {
			t.Errorf("Is(%v, %v) is wrong", err, want)
		}
	}
	if !Is(fmt.Errorf("x: %w", context.Canceled), Unavailable) {
		t.Error("a cancelled call may have happened")
	}
}

func TestLabelCountsMoreThanTheDeadlineBehindIt(t *testing.T) {
	t.Parallel()
	err := Away("the database", context.DeadlineExceeded)
	if got := As(err); got.Code != "unavailable" || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%+v", got)
	}
}

func TestErrorsSurviveTheWire(t *testing.T) {
	t.Parallel()
	for _, want := range []*Error{
		New(Refused, "out_of_stock", "no tea left").With("product", "tea").With("available", "0"),
		InvalidField("quantity", "must be 1 or more"),
		New(NotFound, "unknown_product", "no such product"),
		New(Mismatch, "key_reused", "other body"),
		New(Unavailable, "unavailable", "not now"),
		New(Internal, "internal", "internal error"),
	} {
		for path, err := range map[string]error{
			"a gRPC status": FromStatus(ToStatus(fmt.Errorf("wrapped: %w", want))),
			"a message":     FromProto(ToProto(fmt.Errorf("wrapped: %w", want))),
		} {
			got := As(err)
			if got.Kind != want.Kind || got.Code != want.Code || got.Message != want.Message || got.Field != want.Field || !reflect.DeepEqual(got.Details, want.Details) {
				t.Errorf("%+v came through %s as %+v", want, path, got)
			}
		}
	}
	for path, err := range map[string]error{"a gRPC status": FromStatus(ToStatus(nil)), "a message": FromProto(ToProto(nil))} {
		if err != nil {
			t.Errorf("no error came through %s as %v", path, err)
		}
	}
}

func TestWordsOfAnInternalErrorStayHere(t *testing.T) {
	t.Parallel()
	secret := errors.New("Access denied for user 'inventory', password hunter2")
	for _, err := range []error{secret, Away("the database", secret), fmt.Errorf("x: %w", secret)} {
		if said := ToStatus(err).Error() + ToProto(err).String(); strings.Contains(said, "hunter2") {
			t.Errorf("a caller reads %s", said)
		}
		if !strings.Contains(As(err).Error(), "hunter2") {
			t.Errorf("the log does not read why: %v", As(err))
		}
	}
}

// Clients in other languages read the standard details.
func TestStatusHasTheStandardDetails(t *testing.T) { // I12
	t.Parallel()
	for code, err := range map[codes.Code]error{
		codes.FailedPrecondition: New(Refused, "out_of_stock", "no tea left").With("product", "tea"),
		codes.InvalidArgument:    InvalidField("quantity", "must be 1 or more"),
		codes.NotFound:           New(NotFound, "unknown_product", "none"),
		codes.AlreadyExists:      New(Mismatch, "key_reused", "other"),
		codes.Unavailable:        Away("the database", errors.New("gone")),
		codes.Internal:           errors.New("x"),
		codes.DeadlineExceeded:   context.DeadlineExceeded,
	} {
		st := status.Convert(ToStatus(err))
		if st.Code() != code {
			t.Errorf("%v has code %v, want %v", err, st.Code(), code)
		}
		var info *errdetails.ErrorInfo
		var request *errdetails.BadRequest
		for _, d := range st.Details() {
			switch d := d.(type) {
			case *errdetails.ErrorInfo:
				info = d
			case *errdetails.BadRequest:
				request = d
			}
		}
		e := As(err)
		if info.GetReason() != e.Code || info.GetDomain() != "cartwright" || info.GetMetadata()["product"] != e.Details["product"] {
			t.Errorf("%v has info %v", err, info)
		}
		if e.Field != "" && request.GetFieldViolations()[0].GetField() != e.Field {
			t.Errorf("%v has violations %v", err, request)
		}
	}
}

// What the transport says has none of our details: whatever may have happened is silence.
func TestForeignStatusIsSilenceUnlessItIsANo(t *testing.T) {
	t.Parallel()
	for code, want := range map[codes.Code]Kind{
		codes.Unavailable: Unavailable, codes.DeadlineExceeded: Unavailable, codes.Canceled: Unavailable, codes.Unauthenticated: Unavailable,
		codes.Aborted: Unavailable, codes.ResourceExhausted: Unavailable, codes.InvalidArgument: Invalid,
		codes.NotFound: NotFound, codes.FailedPrecondition: Refused, codes.Internal: Internal, codes.Unimplemented: Internal,
	} {
		if got := KindOf(FromStatus(status.Error(code, "words"))); got != want {
			t.Errorf("%v is %v, want %v", code, got, want)
		}
	}
}

func TestUnknownKindFromTheFutureIsInternal(t *testing.T) { // E16
	t.Parallel()
	if got := KindOf(FromProto(&faultpb.Fault{Kind: 99})); got != Internal {
		t.Errorf("%v", got)
	}
}

func FuzzFromProto(f *testing.F) {
	body, _ := proto.Marshal(ToProto(New(Refused, "out_of_stock", "none").With("product", "tea")))
	f.Add(body)
	f.Fuzz(func(t *testing.T, body []byte) {
		var read faultpb.Fault
		if proto.Unmarshal(body, &read) != nil {
			return
		}
		err := FromProto(&read)
		if KindOf(err).String() == "" || ToStatus(err) == nil {
			t.Errorf("%v", err)
		}
	})
}
