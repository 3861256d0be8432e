package trafficshift

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/metrics/analysis"
	"github.com/sluice-dev/sluice/metrics/query"
)

// addresses are the Services of the namespace.
func (c *cluster) addresses() []string {
	c.Helper()
	var all corev1.ServiceList
	if err := c.List(c.Context(), &all, client.InNamespace(c.ns)); err != nil {
		c.Fatal(err)
	}
	var names []string
	for _, s := range all.Items {
		names = append(names, s.Name)
	}
	slices.Sort(names)
	return names
}

// shows is where the preview's host goes; empty where there is none.
func (c *cluster) shows() string {
	c.Helper()
	vs := &networkingv1.VirtualService{}
	if !c.get("micro-api-preview", vs) {
		return ""
	}
	return vs.Spec.GetHttp()[0].GetRoute()[0].GetDestination().GetHost()
}

const blueGreen = `
apiVersion: sluice.dev/v1alpha1
kind: TrafficShift
metadata: {name: micro-api}
spec:
  strategy: blue-green
  replicas: 3
  hold: 3s
  bake: 3s
  hosts: [shop.example.com]
`

func previewing(s *v1alpha1.TrafficShift) bool {
	return s.Status.State.Exposure == v1alpha1.ExposurePreview
}

// Whatever becomes of an address for testers, users' pods and the template do not wait for it; it is told of.
func TestAnAddressThatCannotBeWrittenHoldsNothingUp(t *testing.T) {
	c := newCluster(t)
	c.refuse = func(o any) error {
		if named, ok := o.(interface{ GetName() string }); ok && named.GetName() == "micro-api-preview" {
			return denied("not today")
		}
		return nil
	}
	c.Config.AllowedHosts = append(c.Config.AllowedHosts, "shop.example.com", "preview.example.com")
	c.apply(service)
	c.apply(strings.Replace(blueGreen, "hold: 3s", "hold: 3s\n  preview: {host: preview.example.com}", 1))
	c.kubelet()
	c.struggle("adoption", 60, func(s *v1alpha1.TrafficShift) bool {
		return s.Status.Phase == v1alpha1.PhaseStable && s.Status.RefusedWrite != nil
	})
	if diff := cmp.Diff([]string{"micro-api 0", "micro-api-v1 3"}, c.deploymentSizes()); diff != "" {
		t.Errorf("pods (-want +got):\n%s", diff)
	}
}

// A version's address is there while it has a subset, under its own name, and is no second candidate for the traffic. Without news
// nothing is written again.
func TestEveryLiveVersionHasAnAddress(t *testing.T) {
	c := newCluster(t)
	c.adoptWith(service, blueGreen)
	c.pass()
	c.writes = nil
	c.pass()
	if diff := cmp.Diff([]string{"micro-api", "micro-api-v1"}, c.addresses()); diff != "" || len(c.writes) > 0 {
		t.Errorf("at rest, wrote %v; Services (-want +got):\n%s", c.writes, diff)
	}
	c.Config.AllowedHosts = append(c.Config.AllowedHosts, "preview.example.com")
	c.edit(`{"spec": {"preview": {"host": "preview.example.com"}}}`)
	c.pass()
	host := func(version string) string { return "micro-api-" + version + "." + c.ns + ".svc.cluster.local" }
	if got := c.shows(); got != host("v1") {
		t.Errorf("at rest the preview shows %q", got)
	}
	gateway := &networkingv1.Gateway{}
	c.get("micro-api", gateway)
	if diff := cmp.Diff([]string{"shop.example.com", "preview.example.com"}, gateway.Spec.GetServers()[0].GetHosts()); diff != "" {
		t.Errorf("hosts of the Gateway (-want +got):\n%s", diff)
	}

	c.setImage("micro-api:1.2")
	c.run("the preview", 60, previewing)
	c.pass()
	if diff := cmp.Diff([]string{"micro-api", "micro-api-v1", "micro-api-v2"}, c.addresses()); diff != "" || c.shows() != host("v2") {
		t.Errorf("the preview shows %q; Services (-want +got):\n%s", c.shows(), diff)
	}
	if subject := c.counts.watched[query.Key{Namespace: c.ns, Name: "micro-api"}]; !subject.Previewing {
		t.Error("what comes to the preview is not counted in it")
	}
	c.abort()
	c.run("the way back", 60, ended)
	c.pass()
	if diff := cmp.Diff([]string{"micro-api", "micro-api-v1"}, c.addresses()); diff != "" || c.shows() != host("v1") {
		t.Errorf("after the abort the preview shows %q; Services (-want +got):\n%s", c.shows(), diff)
	}
	c.edit(`{"spec": {"strategy": "canary", "preview": null}}`)
	c.pass()
	if diff := cmp.Diff([]string{"micro-api"}, c.addresses()); diff != "" || c.shows() != "" {
		t.Errorf("nobody asks for it, and the preview shows %q; Services (-want +got):\n%s", c.shows(), diff)
	}
}

// hosted are the versions that have a preview's host of their own, each with the host and where it leads.
func (c *cluster) hosted() map[string]string {
	c.Helper()
	var all networkingv1.VirtualServiceList
	if err := c.List(c.Context(), &all, client.InNamespace(c.ns)); err != nil {
		c.Fatal(err)
	}
	hosted := map[string]string{}
	for _, vs := range all.Items {
		if name, ok := strings.CutSuffix(vs.Name, "-preview"); ok {
			to, _, _ := strings.Cut(vs.Spec.GetHttp()[0].GetRoute()[0].GetDestination().GetHost(), ".")
			hosted[name] = vs.Spec.GetHosts()[0] + " to " + to
		}
	}
	return hosted
}

// gatewayHosts are the hosts of each server of our Gateway.
func (c *cluster) gatewayHosts() map[string][]string {
	c.Helper()
	gateway, hosts := &networkingv1.Gateway{}, map[string][]string{}
	c.get("micro-api", gateway)
	for _, s := range gateway.Spec.GetServers() {
		hosts[s.GetPort().GetName()] = s.GetHosts()
	}
	return hosts
}

// Each live version is led to by a host of its own from when its Service is there until after its routes are gone, and never longer than its
// Service is. Users' hosts are not touched.
func TestEveryLiveVersionHasAHost(t *testing.T) {
	for name, tc := range map[string]struct {
		host    string
		v1, v2  string
		gateway func(versions ...string) []string
	}{
		"WholeLabel": {"{{version}}.preview.example.com", "v1.preview.example.com", "v2.preview.example.com", func(...string) []string { return []string{"*.preview.example.com"} }},
		"PartOfALabel": {"shop-{{version}}.example.com", "shop-v1.example.com", "shop-v2.example.com", func(versions ...string) []string {
			for i, v := range versions {
				versions[i] = "shop-" + v + ".example.com"
			}
			return versions
		}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.adoptWith(service, strings.Replace(blueGreen, "strategy: blue-green", "steps: [{weight: 50}, {weight: 100}]", 1))
			c.Config.AllowedHosts = []string{"*.example.com"}
			c.edit(`{"spec": {"preview": {"host": "` + tc.host + `"}}}`)
			c.pass()
			c.pass()
			c.pass()
			expect := func(when string, want map[string]string, versions ...string) {
				t.Helper()
				if diff := cmp.Diff(want, c.hosted()); diff != "" {
					t.Errorf("%s, hosts (-want +got):\n%s", when, diff)
				}
				servers := map[string][]string{"http": {"shop.example.com"}, "http-preview": tc.gateway(versions...)}
				if diff := cmp.Diff(servers, c.gatewayHosts()); diff != "" {
					t.Errorf("%s, servers of the Gateway (-want +got):\n%s", when, diff)
				}
				var told []v1alpha1.PreviewAddress
				for _, v := range slices.Sorted(maps.Keys(want)) {
					host, _, _ := strings.Cut(want[v], " ")
					told = append(told, v1alpha1.PreviewAddress{Version: strings.TrimPrefix(v, "micro-api-"), Service: v + "." + c.ns + ".svc.cluster.local", Host: host})
				}
				if diff := cmp.Diff(told, c.shift().Status.Previews); diff != "" {
					t.Errorf("%s, status.previews (-want +got):\n%s", when, diff)
				}
			}
			led := func(v, host string) (string, string) { return "micro-api-" + v, host + " to micro-api-" + v }
			k1, h1 := led("v1", tc.v1)
			k2, h2 := led("v2", tc.v2)
			rest, both := map[string]string{k1: h1}, map[string]string{k1: h1, k2: h2}
			expect("at rest", rest, "v1")
			c.writes = nil
			c.pass()
			if len(c.writes) > 0 {
				t.Errorf("at rest, wrote %v", c.writes)
			}

			release := func(v2After func(*v1alpha1.TrafficShift) bool) {
				t.Helper()
				c.run("the end", 120, func(s *v1alpha1.TrafficShift) bool {
					for of, to := range c.hosted() {
						if !slices.Contains(c.addresses(), of) {
							t.Fatalf("%s, and there is no Service %s", to, of)
						}
					}
					if weights := c.weights("micro-api"); len(weights) > 0 && weights["v2"] > 0 && c.hosted()[k2] == "" {
						t.Fatalf("v2 has users (%v) and no host", weights)
					}
					return v2After(s) && len(s.Status.State.Retiring) == 0
				})
				c.pass()
			}
			c.setImage("micro-api:1.2")
			c.run("the first weight", 60, func(s *v1alpha1.TrafficShift) bool { return s.Status.State.Weight > 0 })
			c.pass()
			expect("at the first weight", both, "v1", "v2")
			c.abort()
			release(ended)
			expect("after the abort", rest, "v1")
			c.edit(`{"metadata": {"annotations": {"sluice.dev/abort": null, "sluice.dev/retry": "v2"}}}`)
			release(func(s *v1alpha1.TrafficShift) bool { return s.Status.Stable == "v2" })
			expect("when v2 is promoted", map[string]string{k2: h2}, "v2")

			c.edit(`{"spec": {"preview": {"host": "preview.example.com"}}}`)
			c.pass()
			c.pass()
			if diff := cmp.Diff(map[string]string{"micro-api": "preview.example.com to micro-api-v2"}, c.hosted()); diff != "" {
				t.Errorf("one host for all of them (-want +got):\n%s", diff)
			}
			c.edit(`{"spec": {"preview": {"host": "` + tc.host + `"}}}`)
			c.pass()
			c.pass()
			expect("with a host each again", map[string]string{k2: h2}, "v2")
			c.edit(`{"spec": {"preview": null}}`)
			c.pass()
			if !slices.Contains(c.addresses(), "micro-api-v2") {
				t.Error("v2's Service goes before what leads there was seen to be gone")
			}
			c.pass()
			if diff := cmp.Diff([]string{"micro-api"}, c.addresses()); diff != "" || len(c.hosted()) > 0 {
				t.Errorf("nobody asks for previews, and the hosts are %v; Services (-want +got):\n%s", c.hosted(), diff)
			}
		})
	}
}

// What stands in the way of a host for each version is found before a version needs it, and what was accepted last goes on.
func TestHostsOfVersionsAreChecked(t *testing.T) {
	each := func(host string) string { return `{"spec": {"preview": {"host": "` + host + `"}}}` }
	foreign := func(name, host, gateway string) string {
		return "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: " + name + "}\nspec:\n  hosts: [" + host + "]\n  gateways: [" + gateway +
			"]\n  http: [{route: [{destination: {host: other.default.svc.cluster.local}}]}]\n"
	}
	for name, tc := range map[string]struct {
		host, manifest, patch string
		reason                string
		words                 []string
	}{
		"NotGranted":    {"{{version}}.bank.example.com", "", "", v1alpha1.ReasonHostNotAllowed, []string{`"*.bank.example.com"`}},
		"NotAllOfThem":  {"{{version}}.text.example.com", "", "", v1alpha1.ReasonHostNotAllowed, []string{`"*.text.example.com"`}},
		"Claimed":       {"{{version}}.p.example.com", foreign("theirs", "v2.p.example.com", "micro-api"), "", v1alpha1.ReasonHostClaimed, []string{"v2.p.example.com"}},
		"NoSuchVersion": {"{{version}}.p.example.com", foreign("theirs", "v9.p.example.com", "micro-api"), "", "", nil},
		"NameTaken":     {"{{version}}.p.example.com", foreign("micro-api-v1-preview", "x.example.com", "x"), "", v1alpha1.ReasonNameTaken, []string{"VirtualService", "micro-api-v1-preview"}},
		"NoGateway": {"{{version}}.p.example.com",
			"apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: public}\nspec: {selector: {istio: theirs}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [shop.example.com, v1.p.example.com]}]}\n",
			`{"spec": {"gateways": ["public"]}}`, v1alpha1.ReasonGatewayWithoutHost, []string{"{{version}}.p.example.com"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.Config.AllowedGateways = []string{"*"}
			c.adoptWith(service, blueGreen)
			c.Config.AllowedHosts = append(c.Config.AllowedHosts, "*.p.example.com", "was-{{version}}.example.com", "{{version}}.text.example.com")
			c.edit(each("was-{{version}}.example.com")) // granted as it is written
			c.pass()
			before := c.hosted()
			if tc.reason != "" && before["micro-api-v1"] != "was-v1.example.com to micro-api-v1" {
				t.Fatalf("hosts %v", before)
			}
			if name == "NameTaken" {
				c.edit(`{"spec": {"preview": {"host": null}}}`)
				c.pass()
				before = map[string]string{"micro-api-v1": "x.example.com to other"}
			}
			if tc.manifest != "" {
				c.apply(tc.manifest)
			}
			c.edit(each(tc.host))
			if tc.patch != "" {
				c.edit(tc.patch)
			}
			c.pass()
			c.pass()
			if tc.reason == "" {
				if got := c.hosted()["micro-api-v1"]; got != "v1.p.example.com to micro-api-v1" {
					t.Errorf("hosts %v", c.hosted())
				}
				return
			}
			c.refused(tc.reason, tc.words...)
			if diff := cmp.Diff(before, c.hosted()); diff != "" {
				t.Errorf("hosts (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAPreviewHostMustBeGranted(t *testing.T) {
	c := newCluster(t)
	c.adoptWith(service, blueGreen)
	before := c.mesh()
	c.edit(`{"spec": {"preview": {"host": "bank.example.com"}}}`)
	c.unmoved(before)
	c.refused(v1alpha1.ReasonHostNotAllowed, "bank.example.com")
	if got := c.shows(); got != "" {
		t.Errorf("it is shown all the same, as %q", got)
	}
}

// A Service of somebody else's keeps its name: a version that would need it gets another number, and one that has it already is told of.
func TestAPreviewTakesNobodysName(t *testing.T) {
	c := newCluster(t)
	foreign := func(name string) {
		c.apply("apiVersion: v1\nkind: Service\nmetadata: {name: " + name + "}\nspec: {selector: {app: other}, ports: [{name: http, port: 80}]}\n")
	}
	foreign("micro-api-v2")
	c.adoptWith(service, blueGreen)
	c.setImage("micro-api:1.2")
	c.run("the preview", 60, previewing)
	if got := c.shift().Status.Candidate; got != "v3" {
		t.Errorf("the candidate is %s; want v3, because micro-api-v2 is somebody else's", got)
	}
	if err := c.Delete(t.Context(), &corev1.Service{ObjectMeta: objectMeta(c.ns, "micro-api-v1")}); err != nil {
		t.Fatal(err)
	}
	foreign("micro-api-v1")
	if _, err := c.Reconcile(t.Context(), ctrl.Request{NamespacedName: c.key()}); err == nil {
		t.Error("somebody else's Service is met without a word")
	}
	c.refused(v1alpha1.ReasonNameTaken, "Service", "micro-api-v1")
}

// Istio's own rules are held to Istio's own types: what would match more than it says, or what the mesh refuses, starts no shift.
func TestAMatchThatIstioWouldNotReadIsRefused(t *testing.T) {
	c := newCluster(t)
	c.adopt()
	c.edit(`{"spec": {"steps": [{"match": [{"uri": {"prefix": "/"}}, {"header": {"x-tester": {"exact": "yes"}}}]}, {"weight": 100}]}}`)
	c.pass()
	c.refused(v1alpha1.ReasonInvalidSpec, "spec.steps[0].match[1]", `unknown field "header"`)
	c.edit(`{"spec": {"steps": [{"match": [{"headers": {"x-tester": {"exact": "yes"}}}]}, {"mirror": "50%"}, {"weight": 100}]}}`)
	c.setImage("micro-api:1.2")
	shown := func(e v1alpha1.Exposure) func(*v1alpha1.TrafficShift) bool {
		return func(s *v1alpha1.TrafficShift) bool {
			return s.Status.State.Exposure == e && s.Status.State.RoutedSince != nil
		}
	}
	c.run("the match", 60, shown(v1alpha1.ExposureMatch))
	vs := &networkingv1.VirtualService{}
	c.get("micro-api", vs)
	if got := vs.Spec.GetHttp()[0]; got.GetName() != "http.match" || got.GetRoute()[0].GetDestination().GetSubset() != "v2" {
		t.Errorf("the first rule is %v; want the match, for v2", got)
	}
	c.counts.shown = "micro-api-v2"
	c.run("the mirror", 60, shown(v1alpha1.ExposureMirror))
	c.pass()
	if got := c.counts.watched[query.Key{Namespace: c.ns, Name: "micro-api"}].Reporter; got != analysis.Destination {
		t.Errorf("copies are counted as %q reports them; want destination, which alone sees them", got)
	}
	c.get("micro-api", vs)
	if got := vs.Spec.GetHttp()[0].GetMirrors(); len(got) != 1 || got[0].GetPercentage().GetValue() != 50 {
		t.Errorf("mirrors: %v", got)
	}
	if diff := cmp.Diff(map[string]int32{"v1": 100}, c.weights("micro-api")); diff != "" {
		t.Errorf("the mirror's weights (-want +got):\n%s", diff)
	}
}

// A match beside a weight is a rule of its own before the weights, is read back with them, and goes with the step that has none.
func TestAMatchBesideAWeightIsARuleBeforeIt(t *testing.T) {
	c := newCluster(t)
	c.adopt()
	c.edit(`{"spec": {"steps": [{"mirror": "50%", "match": [{"headers": {"x-tester": {"exact": "yes"}}}]},
		{"weight": 20, "match": [{"headers": {"x-tester": {"exact": "yes"}}}]}, {"weight": 50}, {"weight": 100}]}}`)
	c.setImage("micro-api:1.2")
	rules := func() (names []string) {
		vs := &networkingv1.VirtualService{}
		c.get("micro-api", vs)
		for _, route := range vs.Spec.GetHttp() {
			names = append(names, fmt.Sprintf("%s %d %d", route.GetName(), len(route.GetRoute()), len(route.GetMirrors())))
		}
		return names
	}
	c.run("the mirror", 60, func(s *v1alpha1.TrafficShift) bool {
		return s.Status.State.Exposure == v1alpha1.ExposureMirror && s.Status.State.RoutedSince != nil
	})
	if diff := cmp.Diff([]string{"http.mirror 1 1", "http 1 0"}, rules()); diff != "" {
		t.Errorf("rules at the mirror, with their destinations and copies (-want +got):\n%s", diff)
	}
	c.counts.shown = "micro-api-v2"
	c.run("20%", 90, func(s *v1alpha1.TrafficShift) bool {
		return s.Status.State.Weight == 200 && s.Status.State.RoutedSince != nil
	})
	if diff := cmp.Diff([]string{"http.match 1 0", "http 2 0"}, rules()); diff != "" {
		t.Errorf("rules at 20%% (-want +got):\n%s", diff)
	}
	if got := c.shift().Status.Message; !strings.Contains(got, "20% and its match") {
		t.Errorf("message %q; want it to say where v2 is", got)
	}
	c.run("its proof", 60, func(s *v1alpha1.TrafficShift) bool { return s.Status.State.VerifiedSince != nil })
	s := c.shift()
	if s.Status.Step != "2/4 match" || s.Status.Weight != "20%" {
		t.Errorf("step %q, weight %q", s.Status.Step, s.Status.Weight)
	}
	if got := meta.FindStatusCondition(s.Status.Conditions, v1alpha1.ConditionRouteVerified).Message; got != "the measured share is no less than 20% explains" {
		t.Errorf("RouteVerified says %q", got)
	}
	c.run("50%", 90, func(s *v1alpha1.TrafficShift) bool {
		return s.Status.State.Weight == 500 && s.Status.State.RoutedSince != nil
	})
	if diff := cmp.Diff([]string{"http 2 0"}, rules()); diff != "" {
		t.Errorf("rules at 50%% (-want +got):\n%s", diff)
	}
}
