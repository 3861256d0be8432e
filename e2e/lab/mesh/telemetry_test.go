package mesh

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-dev/sluice/e2e/lab/workload"
)

// TestLabels: all labels of a request that went well, as both reporters tell them.
func TestLabels(t *testing.T) {
	w := newWorld(t)
	w.telemetry.NameServices(func(id workload.Identity) string { return id.App + "." + id.Namespace + ".svc.cluster.local" })
	w.pod("10.244.1.1", "v1", says("v1"))
	w.serve([]proto.Message{clusterFor("v1"), endpointsFor("v1", "10.244.1.1")}, to(clusterNamed("v1")))
	w.call(w.sidecar(), http.MethodGet, "")

	want := map[string]string{
		"source_workload": "client", "source_workload_namespace": "shop", "source_principal": "unknown", "source_app": "client",
		"source_version": "v5", "source_canonical_service": "client", "source_canonical_revision": "v5", "source_cluster": "Kubernetes",
		"destination_workload": "micro-api-v1", "destination_workload_namespace": "shop", "destination_principal": "unknown",
		"destination_app": "micro-api", "destination_version": "v1", "destination_service": shopHost,
		"destination_service_name": "micro-api", "destination_service_namespace": "shop", "destination_canonical_service": "micro-api",
		"destination_canonical_revision": "v1", "destination_cluster": "Kubernetes",
		"request_protocol": "http", "response_code": "200", "grpc_response_status": "", "response_flags": "-",
		"namespace": "shop",
	}
	families, err := w.telemetry.gather()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			got := labelsOf(m)
			reporter := got["reporter"]
			seen[f.GetName()+" "+reporter]++
			want["reporter"], want["connection_security_policy"], want["pod"] = reporter, "unknown", "client-0"
			if reporter == "destination" {
				want["connection_security_policy"], want["pod"] = "none", "micro-api-v1-10.244.1.1"
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s by %s (-want +got):\n%s", f.GetName(), reporter, diff)
			}
		}
	}
	wantSeen := map[string]int{
		"istio_requests_total source": 1, "istio_requests_total destination": 1,
		"istio_request_duration_milliseconds source": 1, "istio_request_duration_milliseconds destination": 1,
	}
	if diff := cmp.Diff(wantSeen, seen); diff != "" {
		t.Errorf("series (-want +got):\n%s", diff)
	}
}

// TestForget: a proxy that stops takes its series away, and no other's.
func TestForget(t *testing.T) {
	telemetry := NewTelemetry()
	for _, version := range []string{"v1", "v2", "v3"} {
		h := telemetry.Inbound(podOf("10.244.1.1", version), says(version))
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
		if version == "v3" {
			if err := h.(io.Closer).Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	telemetry.Forget("shop", "micro-api-v1-10.244.1.1")
	answer := httptest.NewRecorder()
	telemetry.Handler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	text := answer.Body.String()
	for version, want := range map[string]bool{"v1": false, "v2": true, "v3": false} {
		if got := strings.Contains(text, `pod="micro-api-`+version); got != want {
			t.Errorf("series of %s: got %t, want %t", version, got, want)
		}
	}
}

// TestInbound has a row per way in which a request can reach a server's sidecar and end there.
func TestInbound(t *testing.T) {
	introduced := func(r *http.Request) {
		introduce(r.Header, "client-0.shop", introduction{party: partyOf(clientPod()), Asked: shopHost})
	}
	tests := map[string]struct {
		reason string
		app    http.HandlerFunc
		change func(*http.Request)
		status int
		series string // source_workload|source_version|destination_workload|destination_service|response_code|response_flags
	}{
		"from a sidecar": {
			reason: "the caller introduces itself and says which service it asked for",
			change: introduced,
			status: 200, series: "client|v5|micro-api-v1|" + shopHost + "|200|-",
		},
		"from nobody known": {
			reason: "a source without a sidecar is unknown; without a service, Istio names the canonical one",
			status: 200, series: "unknown|unknown|micro-api-v1|micro-api|200|-",
		},
		"from nobody known, by the service's name": {
			reason: "the Host header names the service",
			change: func(r *http.Request) { r.Host = shopHost + ":19090" },
			status: 200, series: "unknown|unknown|micro-api-v1|" + shopHost + "|200|-",
		},
		"an application's error": {
			reason: "it is the application's, so there is no flag",
			app:    func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
			status: 500, series: "unknown|unknown|micro-api-v1|micro-api|500|-",
		},
		"an application that breaks off": {
			reason: "its sidecar stays and answers for it",
			app:    func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
			status: 503, series: "unknown|unknown|micro-api-v1|micro-api|503|UC",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := &world{t: t, telemetry: NewTelemetry()}
			app := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if r.Header.Get(peerHeader) != "" || r.Header.Get(peerIDHeader) != "" {
					t.Error("the application sees the introduction")
				}
				if tt.app != nil {
					tt.app(rw, r)
				}
			})
			req := httptest.NewRequest(http.MethodGet, "/", nil)
			if tt.change != nil {
				tt.change(req)
			}
			asked := req.Header.Get(peerHeader) != ""
			answer := httptest.NewRecorder()
			w.telemetry.Inbound(podOf("10.244.1.1", "v1"), app).ServeHTTP(answer, req)
			if answer.Code != tt.status {
				t.Errorf("%s: status: got %d, want %d", tt.reason, answer.Code, tt.status)
			}
			if told := answer.Header().Get(peerHeader) != ""; told != asked {
				t.Errorf("the answer introduces the server: got %t, want %t", told, asked)
			}
			got := w.series("destination", "source_workload", "source_version", "destination_workload", "destination_service", "response_code", "response_flags")
			if diff := cmp.Diff(map[string]int{tt.series: 1}, got); diff != "" {
				t.Errorf("%s: series (-want +got):\n%s", tt.reason, diff)
			}
		})
	}
}

// TestFlags: Envoy writes flags in its own order.
func TestFlags(t *testing.T) {
	for f, want := range map[flags]string{0: "-", flagUH: "UH", flagURX | flagUF: "UF,URX", flagNC: "NC", flagDC: "DC"} {
		if got := f.String(); got != want {
			t.Errorf("flags %b: got %q, want %q", f, got, want)
		}
	}
}
