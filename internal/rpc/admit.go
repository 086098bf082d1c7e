package rpc

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// admit refuses a call whose certificate is not good any more, or whose caller may not make it.
// It runs for each call, since a connection outlives what was true when it was made.
func (s Server) admit(ctx context.Context, method string) error {
	if !s.Identity.Secure() {
		return nil
	}
	caller, err := s.Identity.Caller(ctx)
	if err != nil {
		return status.Error(codes.Unauthenticated, err.Error())
	}
	if s.Allows == nil || !s.Allows(caller, s.Identity.Name(), method) {
		s.Log.WarnContext(ctx, "call refused: the caller has no right to it", "caller", caller, "method", method)
		return status.Errorf(codes.PermissionDenied, "%s may not call %s of %s", caller, method, s.Identity.Name())
	}
	return nil
}

func (s Server) admitCall(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	if err := s.admit(ctx, info.FullMethod); err != nil {
		return nil, err
	}
	return handle(ctx, req)
}

func (s Server) admitStream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	if err := s.admit(stream.Context(), info.FullMethod); err != nil {
		return err
	}
	return handle(srv, admittedStream{stream, s, info.FullMethod})
}

// admittedStream asks again at each message that the caller sends.
type admittedStream struct {
	grpc.ServerStream
	server Server
	method string
}

func (a admittedStream) RecvMsg(m any) error {
	if err := a.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	return a.server.admit(a.Context(), a.method)
}
