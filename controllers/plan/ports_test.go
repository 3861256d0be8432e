package plan_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/sluice-dev/sluice/controllers/plan"
)

// What Istio 1.31 makes of a port (pkg/config/kube/conversion.go), but for ports that say nothing: it takes 25, 53, 3306 and 27017 for TCP then.
func TestProtocolsAreReadAsIstioReadsThem(t *testing.T) {
	app := func(protocol string) corev1.ServicePort {
		return corev1.ServicePort{Name: "any", AppProtocol: &protocol}
	}
	for _, tc := range []struct {
		port           corev1.ServicePort
		want           plan.Protocol
		http, tcp, tls bool
	}{
		{corev1.ServicePort{Name: "http"}, "http", true, false, false},
		{corev1.ServicePort{Name: "HTTP2-api"}, "http2", true, false, false},
		{corev1.ServicePort{Name: "grpc-web-api"}, "grpc-web", true, false, false},
		{corev1.ServicePort{Name: "grpc"}, "grpc", true, false, false},
		{app("kubernetes.io/h2c"), "http2", true, false, false},
		{app("kubernetes.io/ws"), "http", true, false, false},
		{app("kubernetes.io/wss"), "https", false, false, true},
		{app("tcp-admin"), "tcp", false, true, false},
		{corev1.ServicePort{Name: "mysql-main"}, "mysql", false, true, false},
		{corev1.ServicePort{Name: "mongo"}, "mongo", false, true, false},
		{corev1.ServicePort{Name: "redis"}, "redis", false, true, false},
		{corev1.ServicePort{Name: "tls-web"}, "tls", false, false, true},
		{corev1.ServicePort{Name: "https"}, "https", false, false, true},
		{corev1.ServicePort{Name: "http", AppProtocol: new("tcp")}, "tcp", false, true, false},
		{corev1.ServicePort{Name: "http", AppProtocol: new("example.com/mine")}, "", false, false, false},
		{corev1.ServicePort{Name: "h2c"}, "", false, false, false},
		{corev1.ServicePort{Name: "web"}, "", false, false, false},
		{corev1.ServicePort{Port: 3306}, "", false, false, false},
		{corev1.ServicePort{Name: "tcp-dns", Protocol: corev1.ProtocolUDP}, "udp", false, false, false},
	} {
		if got := plan.ProtocolOf(tc.port); got != tc.want {
			t.Errorf("%s (%v): %q; want %q", tc.port.Name, tc.port.AppProtocol, got, tc.want)
		}
		if http, tcp, tls := plan.IsHTTP(tc.port), plan.IsTCP(tc.port), plan.IsTLS(tc.port); http != tc.http || tcp != tc.tcp || tls != tc.tls {
			t.Errorf("%s (%q): HTTP %t, TCP %t, TLS %t", tc.port.Name, tc.want, http, tcp, tls)
		}
	}
}
