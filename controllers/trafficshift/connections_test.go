package trafficshift

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	istio "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/shift"
	"github.com/sluice-dev/sluice/metrics/query"
)

// routedByAll is a VirtualService with a route for each protocol, each with a weight for v2.
func routedByAll(http, tcp, tls int32) *networkingv1.VirtualService {
	vs := &networkingv1.VirtualService{}
	to := func(version string) *istio.Destination { return &istio.Destination{Subset: version} }
	connected := func(weight int32) []*istio.RouteDestination {
		return []*istio.RouteDestination{{Destination: to("v1"), Weight: 100 - weight}, {Destination: to("v2"), Weight: weight}}
	}
	vs.Spec.Http = []*istio.HTTPRoute{{
		Match: []*istio.HTTPMatchRequest{{Port: 80}},
		Route: []*istio.HTTPRouteDestination{{Destination: to("v1"), Weight: 100 - http}, {Destination: to("v2"), Weight: http}},
	}}
	vs.Spec.Tcp = []*istio.TCPRoute{{Match: []*istio.L4MatchAttributes{{Port: 81}}, Route: connected(tcp)}}
	vs.Spec.Tls = []*istio.TLSRoute{{Match: []*istio.TLSMatchAttributes{{Port: 82, SniHosts: []string{"a"}}}, Route: connected(tls)}}
	return vs
}

// A weight stands where every protocol's route has it.
func TestWeightsOfConnectionsAreReadBack(t *testing.T) {
	for name, tc := range map[string]struct {
		http, tcp, tls int32
		want           v1alpha1.Permille
	}{
		"Agree":    {20, 20, 20, 200},
		"TCPLower": {20, 5, 20, 50},
		"TLSLower": {20, 20, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			got, bare := routesOf(routedByAll(tc.http, tc.tcp, tc.tls))
			if len(got) != 2 || got[1] != (shift.Route{Version: "v2", Weight: tc.want}) || bare {
				t.Errorf("routes %v, bare %t; want v2 at %s", got, bare, tc.want)
			}
		})
	}
	only := routedByAll(0, 30, 30)
	only.Spec.Http = nil
	if got, _ := routesOf(only); len(got) != 2 || got[1].Weight != 300 {
		t.Errorf("without HTTP: %v", got)
	}
	for _, route := range only.Spec.Tls {
		route.Route = []*istio.RouteDestination{{Destination: &istio.Destination{}}}
	}
	only.Spec.Tcp = nil
	if _, bare := routesOf(only); !bare {
		t.Error("a single destination without a subset is bare")
	}
}

// A Service that is gone is read off the routes of every protocol.
func TestPortsAreReadOffTheRoutes(t *testing.T) {
	var got []string
	for _, p := range routedService("micro-api", "shop", routedByAll(0, 0, 0)).Spec.Ports {
		got = append(got, fmt.Sprintf("%d %s", p.Port, p.Name))
	}
	if diff := cmp.Diff([]string{"80 ", "81 tcp-81", "82 tls-82"}, got); diff != "" {
		t.Errorf("ports (-want +got):\n%s", diff)
	}
}

// A service without HTTP is adopted and released by its connections, and says in words that this is all there is to see.
func TestAReleaseByConnections(t *testing.T) {
	c := newCluster(t)
	c.apply(tcpService)
	c.apply(trafficShift)
	c.kubelet()
	c.run("adoption", 60, resting)
	vs := &networkingv1.VirtualService{}
	c.get("micro-api", vs)
	if len(vs.Spec.GetHttp()) > 0 || len(vs.Spec.GetTcp()) != 1 {
		t.Fatalf("routes after adoption: %v", &vs.Spec)
	}
	c.setImage("micro-api:1.2")
	c.run("50%", 90, func(s *v1alpha1.TrafficShift) bool {
		return s.Status.Weight == "50%" && s.Status.State.VerifiedSince != nil
	})
	if s := c.counts.watched[query.Key{Namespace: c.ns, Name: "micro-api"}]; !s.Connections || s.SlowAbove != 0 {
		t.Errorf("what is counted: %+v", s)
	}
	says := meta.FindStatusCondition(c.shift().Status.Conditions, v1alpha1.ConditionEvidenceAvailable).Message
	for _, part := range []string{"counting connections", "no port is HTTP", "not seen"} {
		if !strings.Contains(says, part) {
			t.Errorf("EvidenceAvailable says %q; want %q in it", says, part)
		}
	}
	c.run("promotion", 120, func(s *v1alpha1.TrafficShift) bool { return s.Status.State.Stable == "v2" })
	if h := c.shift().Status.History[0]; !strings.Contains(h.Message, "connections failed") || strings.Contains(h.Message, "requests") {
		t.Errorf("the outcome speaks of requests: %q", h.Message)
	}
}

// Routes for HTTP stay what they are where the Service loses its HTTP port, so that a candidate can be taken back.
func TestPortsThatRoutesLack(t *testing.T) {
	service := func(names ...string) *corev1.Service {
		s := &corev1.Service{}
		for i, name := range names {
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: name, Port: int32(80 + i)})
		}
		return s
	}
	for name, tc := range map[string]struct {
		is, routed *corev1.Service
		want       bool
	}{
		"Same":         {service("http"), service("http"), false},
		"HTTPGone":     {service("tcp"), service("http"), true},
		"HTTPStays":    {service("http"), service("http", "tcp"), false},
		"NothingSaid":  {service("main"), service("tcp"), true},
		"NothingWas":   {service("tcp"), service(), false},
		"HTTPIsGained": {service("tcp", "http"), service("tcp"), false},
	} {
		if got := lacksPorts(tc.is, tc.routed); got != tc.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// A policy speaks for many services: its limit on latency is for those that have requests, and a service of TCP goes without.
func TestConnectionsUnderAPolicyWithALatency(t *testing.T) {
	c := newCluster(t)
	c.apply(tcpService)
	c.apply(tcpShift("policy: " + c.policy(`{namespaces: {}, defaults: {maxLatency: {percentile: "99", below: 500ms}}}`)))
	c.kubelet()
	c.run("adoption", 60, resting)
}
