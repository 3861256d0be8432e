package trafficshift

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	istio "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// adoptTLS adopts a service of TLS with a host at a Gateway of its own.
func (c *cluster) adoptTLS() {
	c.Helper()
	c.Config.AllowedHosts = []string{"vault.example.com"}
	c.apply(tlsService)
	c.apply(trafficShift + "  " + vaultHost + "\n")
	c.kubelet()
	c.run("adoption", 60, resting)
	gateway := &networkingv1.Gateway{}
	if !c.get("micro-api", gateway) || len(gateway.Spec.GetServers()) != 1 {
		c.Fatalf("Gateway %v; want one server", &gateway.Spec)
	}
	server := gateway.Spec.GetServers()[0]
	if server.GetTls() == nil || server.GetTls().GetMode() != istio.ServerTLSSettings_PASSTHROUGH || server.GetPort().GetProtocol() != "TLS" || server.GetPort().GetNumber() != 443 {
		c.Fatalf("server %v; want TLS passed through on port 443", server)
	}
}

// ports rewrites the ports of the Service.
func (c *cluster) ports(list string) {
	c.Helper()
	c.patch(&corev1.Service{}, "micro-api", `{"spec": {"ports": [`+list+`]}}`)
}

// Hosts of a service of TLS carry the weights by SNI, are mended where somebody edits them, and keep a route of their own after Sluice.
func TestHostsBySNI(t *testing.T) {
	c := newCluster(t)
	c.adoptTLS()
	hosts := &networkingv1.VirtualService{}
	c.get(hostsTable, hosts)
	if len(hosts.Spec.GetHttp()) > 0 || len(hosts.Spec.GetTls()) != 1 {
		t.Fatalf("routes %v; want one of TLS", &hosts.Spec)
	}
	if diff := cmp.Diff([]string{"vault.example.com"}, hosts.Spec.GetTls()[0].GetMatch()[0].GetSniHosts()); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	c.setImage("micro-api:1.2")
	c.run("50%", 90, atHalf)
	if diff := cmp.Diff(map[string]int32{"v1": 50, "v2": 50}, c.weights(hostsTable)); diff != "" {
		t.Errorf("the hosts' weights (-want +got):\n%s", diff)
	}
	raised := strings.NewReplacer("V1", "1", "V2", "99")
	route := func(r *strings.Replacer) string {
		to := `{"destination": {"host": "micro-api.` + c.ns + `.svc.cluster.local", "subset": "SUBSET", "port": {"number": 443}}, "weight": WEIGHT}`
		return r.Replace(`{"spec": {"tls": [{"match": [{"sniHosts": ["vault.example.com"]}], "route": [` +
			strings.NewReplacer("SUBSET", "v1", "WEIGHT", "V1").Replace(to) + "," + strings.NewReplacer("SUBSET", "v2", "WEIGHT", "V2").Replace(to) + `]}]}}`)
	}
	c.patch(&networkingv1.VirtualService{}, hostsTable, route(raised))
	c.pass()
	if diff := cmp.Diff(map[string]int32{"v1": 50, "v2": 50}, c.weights(hostsTable)); diff != "" {
		t.Errorf("a weight that somebody raised is not put back (-want +got):\n%s", diff)
	}
	c.patch(&networkingv1.VirtualService{}, hostsTable, route(strings.NewReplacer("V1", "100", "V2", "0")))
	c.pass()
	c.pass()
	if got := c.weights("micro-api"); got["v2"] != 0 {
		t.Errorf("the mesh has %v after the hosts' weight was lowered by hand; want v2 taken back", got)
	}
	c.run("the way back", 60, ended)
	c.edit(`{"metadata": {"annotations": {"sluice.dev/force": "true"}}}`)
	if err := c.Delete(t.Context(), c.shift()); err != nil {
		t.Fatal(err)
	}
	c.setImage("micro-api:1.1")
	c.run("the hand-over", 90, func(s *v1alpha1.TrafficShift) bool { return s.Name == "" })
	c.get(hostsTable, hosts)
	if to := hosts.Spec.GetTls()[0].GetRoute(); len(hosts.OwnerReferences) > 0 || len(to) != 1 || to[0].GetDestination().GetSubset() != "" || to[0].GetDestination().GetPort().GetNumber() != 443 {
		t.Errorf("hosts keep an un-owned VirtualService without subsets: %v %v", hosts.OwnerReferences, to)
	}
	gateway := &networkingv1.Gateway{}
	if !c.get("micro-api", gateway) || len(gateway.OwnerReferences) > 0 || gateway.Spec.GetServers()[0].GetTls() == nil {
		t.Errorf("hosts keep an un-owned Gateway that passes TLS through: %v %v", gateway.OwnerReferences, &gateway.Spec)
	}
}

func atHalf(s *v1alpha1.TrafficShift) bool {
	return s.Status.Weight == "50%" && s.Status.State.VerifiedSince != nil
}

// An HTTP port that is added, for metrics perhaps, does not take over hosts that users reach by TLS.
func TestAnHTTPPortDoesNotTakeOverHostsOfTLS(t *testing.T) {
	c := newCluster(t)
	c.adoptTLS()
	before := c.mesh()
	c.ports(`{"name": "http-metrics", "port": 9090, "targetPort": 9090}, {"name": "https", "port": 443, "targetPort": "http"}`)
	for range 3 {
		c.pass()
	}
	after := c.mesh()
	if after["hosts"] != before["hosts"] || after["gateway"] != before["gateway"] {
		t.Errorf("hosts or Gateway were written: %v, before %v", after, before)
	}
	if got := condition(c.shift(), v1alpha1.ConditionAccepted); got != "True AcceptedWithAdvice" { // the connections ride along from now on
		t.Errorf("Accepted is %q", got)
	}
}

// A candidate is taken back at the hosts, too, where the Service has lost the port that they are served by.
func TestAnAbortGoesBackThoughTheServiceIsNotTLSAnyMore(t *testing.T) {
	for name, ports := range map[string]string{
		"TCP":  `{"name": "tcp", "port": 443, "targetPort": "http"}`,
		"HTTP": `{"name": "http", "port": 443, "targetPort": "http"}`,
		"None": `{"name": "main", "port": 443, "targetPort": "http"}`,
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.adoptTLS()
			c.setImage("micro-api:1.2")
			c.run("50%", 90, atHalf)
			c.ports(ports)
			c.abort()
			c.pass()
			for _, table := range []string{"micro-api", hostsTable} {
				if got := c.weights(table); got["v1"] != 100 || got["v2"] != 0 {
					t.Errorf("%s gives %v; want everything on v1", table, got)
				}
			}
			c.refused(v1alpha1.ReasonPortUnsupported, "Service "+c.ns+"/micro-api")
			c.run("the way back", 60, ended)
		})
	}
}

// Hosts of TCP at a Gateway of the user's carry the weights by its port, are taken back there, and keep a route when Sluice goes. Nothing is
// made beside it.
func TestHostsOfTCP(t *testing.T) {
	c := newCluster(t)
	c.apply(carrying("public", c.ns, 80, "*"))
	c.Config.AllowedHosts, c.Config.AllowedGateways = []string{"db.example.com"}, []string{c.ns + "/public"}
	c.apply(tcpService)
	c.apply(trafficShift + "  hosts: [db.example.com]\n  gateways: [public]\n")
	c.kubelet()
	c.run("adoption", 60, resting)
	c.setImage("micro-api:1.2")
	c.run("50%", 90, atHalf)
	if diff := cmp.Diff(map[string]int32{"v1": 50, "v2": 50}, c.weights(hostsTable)); diff != "" {
		t.Errorf("the hosts' weights (-want +got):\n%s", diff)
	}
	hosts := &networkingv1.VirtualService{}
	c.get(hostsTable, hosts)
	if routes := hosts.Spec.GetTcp(); len(routes) != 1 || routes[0].GetMatch()[0].GetPort() != 80 || hosts.Spec.GetGateways()[0] != c.ns+"/public" {
		t.Errorf("routes %v; want one for port 80 of the Gateway", &hosts.Spec)
	}
	if c.get("micro-api", &networkingv1.Gateway{}) {
		t.Error("a Gateway was made")
	}
	c.ports(`{"name": "http-metrics", "port": 9090, "targetPort": 9090}, {"name": "tls", "port": 80, "targetPort": "http"}`)
	c.abort()
	c.pass()
	for _, table := range []string{"micro-api", hostsTable} {
		if got := c.weights(table); got["v1"] != 100 || got["v2"] != 0 {
			t.Errorf("%s gives %v; want everything on v1", table, got)
		}
	}
	c.refused(v1alpha1.ReasonPortUnsupported, "db.example.com", "name one tcp")
	c.run("the way back", 60, ended)
	c.ports(`{"name": "tcp", "port": 80, "targetPort": "http"}`)
	c.setImage("micro-api:1.1")
	if err := c.Delete(t.Context(), c.shift()); err != nil {
		t.Fatal(err)
	}
	c.run("the hand-over", 90, func(s *v1alpha1.TrafficShift) bool { return s.Name == "" })
	left := &networkingv1.VirtualService{}
	if !c.get(hostsTable, left) || len(left.OwnerReferences) > 0 || left.Spec.GetTcp()[0].GetRoute()[0].GetDestination().GetSubset() != "" {
		t.Errorf("hosts keep an un-owned VirtualService without subsets: %v", &left.Spec)
	}
}

// Hosts that stay with TLS have no requests to look at, though the Service has an HTTP port by now: what needs them could never be read back
// there, and is refused before a candidate waits for it.
func TestHostsOfTLSRefuseWhatNeedsRequestsBesideAnHTTPPort(t *testing.T) {
	c := newCluster(t)
	c.adoptTLS()
	c.ports(`{"name": "http-metrics", "port": 9090, "targetPort": 9090}, {"name": "https", "port": 443, "targetPort": "http"}`)
	c.pass()
	for field, spec := range map[string]string{
		"spec.steps[0].match":    `{"steps": [{"match": [{"headers": {"x-tester": {"exact": "yes"}}}]}, {"weight": 100}]}`,
		"spec.steps[1].match":    `{"steps": [{"weight": 5}, {"weight": 50, "match": [{"headers": {"x-tester": {"exact": "yes"}}}]}, {"weight": 100}]}`,
		"spec.steps[0].mirror":   `{"steps": [{"mirror": "10%"}, {"weight": 100}]}`,
		"spec.session":           `{"session": {}}`,
		"spec.strategy: ab-test": `{"strategy": "ab-test", "steps": null, "abTest": {"match": [{"headers": {"x-tester": {"exact": "yes"}}}]}}`,
	} {
		before := c.shift().Spec
		c.edit(`{"spec": ` + spec + `}`)
		c.pass()
		c.refused(v1alpha1.ReasonHTTPRequired, field, "vault.example.com", "SNI", "leave spec.hosts out")
		s := c.shift()
		s.Spec = before
		if err := c.Update(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		c.pass()
		if got := condition(c.shift(), v1alpha1.ConditionAccepted); !strings.HasPrefix(got, "True Accepted") {
			t.Errorf("without %s Accepted is %q", field, got)
		}
	}
	c.edit(`{"spec": {"hosts": null, "session": {}}}`) // hosts that nobody asks for any more go, and keep nothing from being accepted
	c.run("the hosts go", 30, func(s *v1alpha1.TrafficShift) bool {
		return strings.HasPrefix(condition(s, v1alpha1.ConditionAccepted), "True Accepted") && !c.get(hostsTable, &networkingv1.VirtualService{})
	})
}
