package plan_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
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
		told  plan.Told
		port  uint32
	}{
		"TLSAlone":         {ports: []string{"tcp", "tls-a", "tls-b"}, told: plan.BySNI, port: 81},
		"HTTPSByName":      {ports: []string{"tls-a", "https"}, told: plan.BySNI, port: 81},
		"TheOneThatDoes":   {ports: []string{"tls-a", "tls-b", "https"}, entry: plan.Entry{Port: 81, Told: plan.BySNI}, told: plan.BySNI, port: 81},
		"HTTPIsAdded":      {ports: []string{"http-metrics", "tls"}, entry: plan.Entry{Port: 81, Told: plan.BySNI}, told: plan.BySNI, port: 81},
		"HTTPBesideTLS":    {ports: []string{"https", "http"}, told: plan.ByHost, port: 81},
		"TLSIsAdded":       {ports: []string{"tls", "http"}, entry: plan.Entry{Port: 81, Told: plan.ByHost}, told: plan.ByHost, port: 81},
		"TLSIsGone":        {ports: []string{"http"}, entry: plan.Entry{Port: 443, Told: plan.BySNI}, told: plan.ByHost, port: 80},
		"TLSByAnotherName": {ports: []string{"https", "http"}, entry: plan.Entry{Port: 80}, told: plan.ByHost, port: 81},
		"TCPAlone":         {ports: []string{"tcp"}, entry: plan.Entry{Gateways: []string{"shop/public"}}, told: plan.ByPort, port: 80},
		"TLSBesideTCP":     {ports: []string{"tcp", "tls"}, entry: plan.Entry{Gateways: []string{"shop/public"}}, told: plan.BySNI, port: 81},
		"TLSIsAddedToTCP":  {ports: []string{"tcp", "tls", "http"}, entry: plan.Entry{Gateways: []string{"shop/public"}, Told: plan.ByPort}, told: plan.ByPort, port: 80},
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
			to := map[plan.Told][]uint32{}
			for _, route := range vs.Spec.GetHttp() {
				to[plan.ByHost] = append(to[plan.ByHost], route.GetRoute()[0].GetDestination().GetPort().GetNumber())
			}
			for _, route := range vs.Spec.GetTls() {
				to[plan.BySNI] = append(to[plan.BySNI], route.GetRoute()[0].GetDestination().GetPort().GetNumber())
			}
			for _, route := range vs.Spec.GetTcp() {
				to[plan.ByPort] = append(to[plan.ByPort], route.GetRoute()[0].GetDestination().GetPort().GetNumber())
			}
			if diff := cmp.Diff(map[plan.Told][]uint32{tc.told: {tc.port}}, to); diff != "" || s.Told() != tc.told {
				t.Errorf("told by %s; routes (-want +got):\n%s", s.Told(), diff)
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
