package fault

import (
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"

	"cartwright/proto/faultpb"
)

// domain marks our reasons among those of other systems in a gRPC error's details.
const domain = "cartwright"

var codeOf = map[Kind]codes.Code{
	Internal:    codes.Internal,
	Invalid:     codes.InvalidArgument,
	NotFound:    codes.NotFound,
	Refused:     codes.FailedPrecondition,
	Mismatch:    codes.AlreadyExists,
	Unavailable: codes.Unavailable,
}

// ToProto gives err its form for messages and batches; nil for nil. The cause is left behind.
func ToProto(err error) *faultpb.Fault {
	if err == nil {
		return nil
	}
	e := As(err)
	return &faultpb.Fault{Kind: faultpb.Kind(e.Kind), Code: e.Code, Message: e.Message, Field: e.Field, Details: e.Details}
}

// FromProto is the way back. An absent fault is a nil error.
func FromProto(f *faultpb.Fault) error {
	if f == nil {
		return nil
	}
	kind := Kind(f.GetKind())
	if kind < Internal || kind > Unavailable {
		kind = Internal
	}
	return &Error{Kind: kind, Code: f.GetCode(), Message: f.GetMessage(), Field: f.GetField(), Details: f.GetDetails()}
}

// ToStatus gives err its form for gRPC, with the standard details that clients in any language
// can read (google.rpc.ErrorInfo, BadRequest) and our own.
func ToStatus(err error) error {
	if err == nil {
		return nil
	}
	e := As(err)
	details := []protoadapt.MessageV1{
		protoadapt.MessageV1Of(ToProto(e)),
		protoadapt.MessageV1Of(&errdetails.ErrorInfo{Reason: e.Code, Domain: domain, Metadata: e.Details}),
	}
	if e.Field != "" {
		violation := &errdetails.BadRequest_FieldViolation{Field: e.Field, Description: e.Message}
		details = append(details, protoadapt.MessageV1Of(&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{violation}}))
	}
	code := codeOf[e.Kind]
	if e.Code == "timeout" {
		code = codes.DeadlineExceeded
	}
	st, attachErr := status.New(code, e.Message).WithDetails(details...)
	if attachErr != nil {
		return status.Error(code, e.Message)
	}
	return st.Err()
}

// FromStatus reads what a gRPC call returned. A status without our detail comes from the
// transport: everything that may have happened is Unavailable.
func FromStatus(err error) error {
	if err == nil {
		return nil
	}
	st, ok := status.FromError(err)
	if !ok {
		return As(err)
	}
	for _, d := range st.Details() {
		if f, ok := d.(*faultpb.Fault); ok {
			return FromProto(f)
		}
	}
	switch st.Code() {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Aborted, codes.ResourceExhausted,
		codes.Unauthenticated: // our certificate was taken back; nothing was done, and a new one may come
		return &Error{Kind: Unavailable, Code: "unavailable", Message: "no answer from a service", cause: err}
	case codes.InvalidArgument:
		return &Error{Kind: Invalid, Code: "invalid", Message: st.Message(), cause: err}
	case codes.NotFound:
		return &Error{Kind: NotFound, Code: "not_found", Message: st.Message(), cause: err}
	case codes.FailedPrecondition:
		return &Error{Kind: Refused, Code: "refused", Message: st.Message(), cause: err}
	default:
		return &Error{Kind: Internal, Code: "internal", Message: "internal error", cause: err}
	}
}
