package plan_test

import (
	"testing"

	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/sluice-dev/sluice/controllers/plan"
	"github.com/sluice-dev/sluice/controllers/shift"
)

// What users reach changes with no port that is added, and with no order of ports.
func TestHostsKeepThePortThatServesThem(t *testing.T) {
	for name, tc := range map[string]struct {
		ports []string // numbered from 80 on
		entry plan.Entry
		sni   bool
		port  uint32
	}{
		"TLSAlone":         {ports: []string{"tcp", "tls-a", "tls-b"}, sni: true, port: 81},
		"HTTPSByName":      {ports: []string{"tls-a", "https"}, sni: true, port: 81},
		"TheOneThatDoes":   {ports: []string{"tls-a", "tls-b", "https"}, entry: plan.Entry{Port: 81, BySNI: true}, sni: true, port: 81},
		"HTTPIsAdded":      {ports: []string{"http-metrics", "tls"}, entry: plan.Entry{Port: 81, BySNI: true}, sni: true, port: 81},
		"HTTPBesideTLS":    {ports: []string{"https", "http"}, port: 81},
		"TLSIsAdded":       {ports: []string{"tls", "http"}, entry: plan.Entry{Port: 81}, port: 81},
		"TLSIsGone":        {ports: []string{"http"}, entry: plan.Entry{Port: 443, BySNI: true}, port: 80},
		"TLSByAnotherName": {ports: []string{"https", "http"}, entry: plan.Entry{Port: 80}, port: 81},
	} {
		t.Run(name, func(t *testing.T) {
			s := load(t, "testdata/tcp.in.yaml").scope(t)
			s.Service.Spec.Ports = nil
			for i, port := range tc.ports {
				s.Service.Spec.Ports = append(s.Service.Spec.Ports, corev1.ServicePort{Name: port, Port: int32(80 + i)})
			}
			s.Entry = tc.entry
			s.Entry.Hosts = []string{"shop.example.com"}
			vs := s.MakeHostsVirtualService(shift.Desired{Bare: true})
			if got := len(vs.Spec.GetTls()) == 1 && len(vs.Spec.GetHttp()) == 0; got != tc.sni || s.BySNI() != tc.sni {
				t.Fatalf("by SNI: %t, routes %v; want %t", s.BySNI(), &vs.Spec, tc.sni)
			}
			var to *networking.Destination
			if tc.sni {
				to = vs.Spec.GetTls()[0].GetRoute()[0].GetDestination()
			} else {
				to = vs.Spec.GetHttp()[0].GetRoute()[0].GetDestination()
			}
			if to.GetPort().GetNumber() != tc.port {
				t.Errorf("to %v; want port %d", to, tc.port)
			}
		})
	}
}

// A Gateway that passes TLS through ends none, and yet has the port.
func TestAGatewayThatPassesTLSThrough(t *testing.T) {
	gateway := &networkingv1.Gateway{}
	if plan.ServesTLS(gateway) || plan.LiveTLS(gateway) != nil {
		t.Error("one without servers has no TLS")
	}
	tls := &networking.ServerTLSSettings{Mode: networking.ServerTLSSettings_PASSTHROUGH}
	gateway.Spec.Servers = []*networking.Server{{Port: &networking.Port{Number: 443, Protocol: "TLS"}, Tls: tls}}
	if !plan.ServesTLS(gateway) || plan.LiveTLS(gateway) != nil {
		t.Errorf("served %t, ended with %v; want it served and not ended", plan.ServesTLS(gateway), plan.LiveTLS(gateway))
	}
	tls.Mode = networking.ServerTLSSettings_SIMPLE
	if plan.LiveTLS(gateway) == nil {
		t.Error("one that ends TLS says what with")
	}
}
