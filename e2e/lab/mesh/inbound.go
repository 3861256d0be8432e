package mesh

import (
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/sluice-dev/sluice/e2e/lab/workload"
)

// Inbound stands in for the sidecar of a server: it counts requests as reporter "destination" and tells the calling proxy
// who answered. The handler is an io.Closer too: Close takes the pod's series away, as Forget does.
func (t *Telemetry) Inbound(id workload.Identity, app http.Handler) http.Handler {
	return &inbound{telemetry: t, meter: t.meter(id), id: id, self: partyOf(id), app: app}
}

type inbound struct {
	telemetry *Telemetry
	meter     *meter
	id        workload.Identity
	self      party
	app       http.Handler
}

// Close takes the pod's series away.
func (in *inbound) Close() error {
	in.telemetry.Forget(in.id.Namespace, in.id.Pod)
	return nil
}

func (in *inbound) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	caller, known := meet(r.Header)
	answer := &inboundWriter{ResponseWriter: w, answerer: in, introduce: known}
	rec := record{
		reporter: reporterDestination, source: caller.party, dest: in.self,
		service: in.service(r, caller), grpc: isGRPC(r.Header),
	}
	defer func() {
		broken := recover()
		if broken != nil && !answer.wrote && r.Context().Err() == nil {
			// The application closed the connection; the sidecar in front of it does not.
			http.Error(answer, "upstream connect error or disconnect/reset before headers. reset reason: connection termination",
				http.StatusServiceUnavailable)
			rec.flags |= flagUC
			broken = nil
		}
		rec.code, rec.grpcStatus = answer.status(), answer.grpcStatus(rec.grpc)
		rec.flags |= answer.fate(r)
		if rec.flags&flagDC != 0 && !answer.wrote {
			rec.code = 0
		}
		rec.duration = time.Since(start)
		in.meter.record(rec)
		if broken != nil {
			panic(broken)
		}
	}()
	in.app.ServeHTTP(answer, r)
	if !answer.wrote && r.Context().Err() == nil {
		answer.WriteHeader(http.StatusOK)
	}
}

// service finds what a real sidecar reads from its inbound cluster. Istio falls back to the canonical service.
func (in *inbound) service(r *http.Request, caller introduction) service {
	host := or(in.telemetry.service(in.id), caller.Asked, serviceHost(r.Host), in.id.CanonicalService)
	name, _, _ := strings.Cut(host, ".")
	return service{host: host, name: name, namespace: in.id.Namespace}
}

// serviceHost returns a Host header that is a service's full name, without its port.
func serviceHost(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if strings.HasSuffix(host, ".svc.cluster.local") {
		return host
	}
	return ""
}

// inboundWriter sees the answer pass and adds the introduction for callers that introduced themselves.
type inboundWriter struct {
	http.ResponseWriter
	answerer  *inbound
	introduce bool

	wrote  bool
	code   int
	failed bool
}

func (w *inboundWriter) WriteHeader(code int) {
	if !w.wrote && code >= 200 {
		w.wrote, w.code = true, code
		w.Header().Del(peerHeader)
		w.Header().Del(peerIDHeader)
		if w.introduce {
			introduce(w.Header(), w.answerer.id.Pod+"."+w.answerer.id.Namespace, introduction{party: w.answerer.self})
		}
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *inboundWriter) Write(b []byte) (int, error) {
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	n, err := w.ResponseWriter.Write(b)
	w.failed = w.failed || err != nil
	return n, err
}

// Flush is needed by gRPC servers, which ask for it by interface.
func (w *inboundWriter) Flush() {
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	if f, ok := w.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
}

// Unwrap lets http.ResponseController through.
func (w *inboundWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *inboundWriter) status() int {
	if !w.wrote {
		return http.StatusOK
	}
	return w.code
}

// fate says whether the caller went away. A context that ends after the whole answer was written proves nothing.
func (w *inboundWriter) fate(r *http.Request) flags {
	if w.failed || !w.wrote && r.Context().Err() != nil {
		return flagDC
	}
	return 0
}

func (w *inboundWriter) grpcStatus(grpc bool) string {
	if !grpc {
		return ""
	}
	h := w.Header()
	return or(h.Get("Grpc-Status"), first(h[http.TrailerPrefix+"Grpc-Status"]))
}

func isGRPC(h http.Header) bool {
	contentType := h.Get("Content-Type")
	return contentType == "application/grpc" || strings.HasPrefix(contentType, "application/grpc+")
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}
