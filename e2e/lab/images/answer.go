package images

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// VersionHeader is the response header, or the gRPC header metadata, by which a client tells versions apart.
const VersionHeader = "X-App-Version"

// ProbeAgent is how the User-Agent of a kubelet's probe begins.
const ProbeAgent = "kube-probe/"

// answer is an application's reply to one request, in both protocols.
type answer struct {
	failed bool
	body   string
	delay  time.Duration
}

// app answers requests the way an image prescribes.
type app struct {
	version string
	reply   func(probe bool) answer
	// code is the gRPC status of a failed request.
	code codes.Code
	grpc_health_v1.UnimplementedHealthServer
}

// handler serves HTTP and gRPC on one port, told apart as gRPC servers do: by protocol and content type.
func (a *app) handler() http.Handler {
	if a.code == codes.OK {
		a.code = codes.Internal
	}
	server := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(server, a)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			server.ServeHTTP(w, r)
			return
		}
		a.serveHTTP(w, r)
	})
}

func (a *app) serveHTTP(w http.ResponseWriter, r *http.Request) {
	ans := a.reply(strings.HasPrefix(r.UserAgent(), ProbeAgent))
	if pause(r.Context(), ans.delay) != nil {
		return
	}
	w.Header().Set(VersionHeader, a.version)
	if strings.HasPrefix(ans.body, "{") {
		w.Header().Set("Content-Type", "application/json")
	}
	if ans.failed {
		w.WriteHeader(http.StatusInternalServerError)
	}
	_, _ = fmt.Fprint(w, ans.body) // a client that is gone needs no answer
}

// Check answers grpc.health.v1.Health/Check, the lab's one gRPC method.
func (a *app) Check(ctx context.Context, _ *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	ans := a.reply(fromProbe(ctx))
	if err := pause(ctx, ans.delay); err != nil {
		return nil, status.FromContextError(err).Err()
	}
	if err := grpc.SetHeader(ctx, metadata.Pairs(VersionHeader, a.version)); err != nil {
		return nil, err
	}
	if ans.failed {
		return nil, status.Error(a.code, strings.TrimSpace(ans.body))
	}
	return &grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVING}, nil
}

func fromProbe(ctx context.Context) bool {
	md, _ := metadata.FromIncomingContext(ctx)
	for _, agent := range md.Get("user-agent") {
		if strings.HasPrefix(agent, ProbeAgent) {
			return true
		}
	}
	return false
}

// pause waits for d, or less if the client goes away.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
