package trafficshift

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	istio "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/metrics/query"
)

// connected is a VirtualService that somebody keeps in git for connections: to the service, by port and by SNI, and to another.
const connected = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop}
spec:
  hosts: [micro-api, micro-api.shop.example.com]
  tcp:
  - {match: [{port: 9999}], route: [{destination: {host: other}}]}
  - {match: [{port: 3306}], route: [{destination: {host: micro-api, port: {number: 3306}}, weight: 100}]}
  tls:
  - {match: [{port: 443, sniHosts: [micro-api.shop.example.com]}], route: [{destination: {host: micro-api, port: {number: 443}}}]}
`

// connectedService is a service of connections alone: one port of TCP and one of TLS.
var connectedService = strings.Replace(service, "ports: [{name: http, port: 80, targetPort: http}]", "ports: [{name: mysql, port: 3306, targetPort: http}, {name: tls, port: 443, targetPort: http}]", 1)

// opened are what the TCP and TLS routes to the service give each subset.
func (c *cluster) opened() map[string]map[string]int32 {
	c.Helper()
	vs := &networkingv1.VirtualService{}
	c.get("shop", vs)
	read := func(route []*istio.RouteDestination) map[string]int32 {
		weights := map[string]int32{}
		for _, d := range route {
			weights[d.GetDestination().GetSubset()] = d.GetWeight()
		}
		return weights
	}
	return map[string]map[string]int32{"tcp": read(vs.Spec.GetTcp()[1].GetRoute()), "tls": read(vs.Spec.GetTls()[0].GetRoute()), "other": read(vs.Spec.GetTcp()[0].GetRoute())}
}

// Routes of connections carry the weights as those of requests do: a release is judged by connections, goes back on both, and is in the end as
// its owner wrote it.
func TestConnectionsOfAnAttachedVirtualService(t *testing.T) {
	for name, routing := range map[string]string{
		"All":   "virtualService: {name: shop}",
		"Named": "virtualService: {name: shop, tcp: [{port: 3306}], tls: [{sniHosts: [micro-api.shop.example.com]}]}",
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.counts.read = func() map[string]int32 { return c.opened()["tcp"] }
			c.apply(connected)
			before := specOf(c.stored("shop"))
			c.apply(connectedService)
			c.apply(shiftRouted(routing))
			c.kubelet()
			c.run("adoption", 60, resting)
			c.setImage("micro-api:1.2")
			c.run("50%", 90, halfway)
			if s := c.counts.watched[query.Key{Namespace: c.ns, Name: "micro-api"}]; !s.Connections {
				t.Errorf("what is counted: %+v", s)
			}
			if diff := cmp.Diff(map[string]map[string]int32{"tcp": fifty, "tls": fifty, "other": {"": 0}}, c.opened()); diff != "" {
				t.Errorf("at 50%% (-want +got):\n%s", diff)
			}
			c.counts.errors["v2"] = 0.9
			c.run("the way back", 60, refusedAndGone)
			if diff := cmp.Diff(map[string]map[string]int32{"tcp": {"v1": 100}, "tls": {"v1": 0}, "other": {"": 0}}, c.opened()); diff != "" {
				t.Errorf("taken back (-want +got):\n%s", diff)
			}
			if h := c.shift().Status.History[0]; !strings.Contains(h.Message, "connections") {
				t.Errorf("it ended as %+v; want words of connections", h)
			}
			c.patch(&v1alpha1.TrafficShift{}, "micro-api", `{"metadata": {"annotations": {"sluice.dev/detach": "true", "sluice.dev/force": "true"}}}`)
			c.run("handing back", 90, func(s *v1alpha1.TrafficShift) bool { return s.Status.State.Stage == v1alpha1.StageReleased })
			if diff := cmp.Diff(before, specOf(c.stored("shop"))); diff != "" {
				t.Errorf("after handing back (-before +after):\n%s", diff)
			}
		})
	}
}

// A weight that somebody lowers in a route of connections alone takes the release back, as one in a route of requests does.
func TestALoweredWeightOfConnectionsAborts(t *testing.T) {
	c := newCluster(t)
	c.counts.read = func() map[string]int32 { return c.opened()["tcp"] }
	c.apply(connected)
	c.apply(connectedService)
	c.apply(shiftRouted("virtualService: {name: shop}"))
	c.kubelet()
	c.run("adoption", 60, resting)
	c.setImage("micro-api:1.2")
	c.run("50%", 90, halfway)
	c.patchJSON("shop", `[{"op": "replace", "path": "/spec/tls/0/route/0/weight", "value": 90}, {"op": "replace", "path": "/spec/tls/0/route/1/weight", "value": 10}]`)
	c.run("the abort", 30, refusedAndGone)
	if got := c.shift().Status.History[0].Reason; got != v1alpha1.ReasonWeightLowered {
		t.Errorf("it ended as %s; want %s", got, v1alpha1.ReasonWeightLowered)
	}
}

// Connections that would reach every version, whatever the weights, are refused by what they are.
func TestConnectionsPastAnAttachedVirtualService(t *testing.T) {
	both := strings.Replace(service, "ports: [{name: http, port: 80, targetPort: http}]", "ports: [{name: http, port: 80, targetPort: http}, {name: mysql, port: 3306, targetPort: http}]", 1)
	requests := "  http: [{route: [{destination: {host: micro-api, port: {number: 80}}}]}]\n"
	for name, tc := range map[string]struct{ service, users, routing, want string }{
		"NoRouteForThePort":  {connectedService, strings.Replace(connected, "port: 443", "port: 444", 2), "virtualService: {name: shop}", `port 443 ("tls") of Service NS/micro-api is tls, and no tcp or tls route of VirtualService shop leads clients of the mesh to it`},
		"NotNamed":           {connectedService, connected, "virtualService: {name: shop, tcp: [{port: 3306}]}", "route tls:443,micro-api.shop.example.com sends connections to micro-api too, past the weights"},
		"NoSuchPort":         {connectedService, connected, "virtualService: {name: shop, tcp: [{port: 1}, {port: 3306}], tls: [{port: 443}]}", `"shop" has no tcp route that matches port 1; its routes: tls:443,micro-api.shop.example.com, tcp:9999, tcp:3306`},
		"NoSuchName":         {connectedService, connected, "virtualService: {name: shop, tcp: [{port: 3306}], tls: [{port: 443, sniHosts: [x]}]}", `"shop" has no tls route that matches port 443 and sniHosts x`},
		"AtAGatewayUnseen":   {both, strings.Replace(connected, "spec:\n", "spec:\n"+requests+"  gateways: [public]\n", 1), "virtualService: {name: shop}", `port 3306 ("mysql") of Service NS/micro-api is mysql`},
		"AtAGatewaySeen":     {connectedService, strings.Replace(connected, "spec:\n", "spec:\n  gateways: [public]\n", 1), "virtualService: {name: shop}", "nothing stands in the way"},
		"SeveralConnections": {connectedService, strings.Replace(connected, "weight: 100}]", "weight: 50}, {destination: {host: elsewhere}, weight: 50}]", 1), "virtualService: {name: shop}", `route tcp:3306 sends connections to "elsewhere" as well as`},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.apply(tc.users)
			c.apply(tc.service)
			c.apply(shiftRouted(tc.routing))
			c.kubelet()
			c.pass()
			c.pass()
			if says := accepted(c.shift()); !strings.Contains(says, strings.ReplaceAll(tc.want, "NS", c.ns)) {
				t.Errorf("Accepted says %q; want %q", says, tc.want)
			}
		})
	}
}
