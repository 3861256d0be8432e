package trafficshift

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/source"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/internal/testenv"
	"github.com/sluice-dev/sluice/controllers/plan"
	"github.com/sluice-dev/sluice/controllers/shift"
)

// byGatewayAPI is a cluster whose TrafficShift asks for routes of the Gateway API, and for also.
func byGatewayAPI(t *testing.T, also string) *cluster {
	t.Helper()
	c := newCluster(t)
	c.apply(service)
	c.apply(strings.Replace(trafficShift, "spec:", "spec:\n  routing: {api: gateway}\n"+also, 1))
	c.kubelet()
	return c
}

// publishEndpoints makes the EndpointSlice of every version's Service, as its Deployment's pods are.
func (c *cluster) publishEndpoints() {
	c.Helper()
	var services corev1.ServiceList
	if err := c.List(c.Context(), &services, client.InNamespace(c.ns), client.HasLabels{v1alpha1.LabelShift}); err != nil {
		c.Fatal(err)
	}
	for _, s := range services.Items {
		d := &appsv1.Deployment{}
		if !c.get(s.Name, d) || s.Name == c.unseen {
			continue
		}
		slice := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Name: s.Name, Namespace: c.ns, Labels: maps.Clone(s.Labels)}}
		slice.Labels[discoveryv1.LabelServiceName] = s.Name
		slice.AddressType = discoveryv1.AddressTypeIPv4
		slice.Endpoints = []discoveryv1.Endpoint{{Addresses: []string{"10.1.1.1"}, Conditions: discoveryv1.EndpointConditions{Ready: new(d.Status.ReadyReplicas > 0)}}}
		old := &discoveryv1.EndpointSlice{}
		if !c.get(s.Name, old) {
			if err := c.Create(c.Context(), slice); err != nil {
				c.Fatal(err)
			}
			continue
		}
		if old.Endpoints[0].Conditions.Ready == nil || *old.Endpoints[0].Conditions.Ready != *slice.Endpoints[0].Conditions.Ready {
			slice.ResourceVersion = old.ResourceVersion
			if err := c.Update(c.Context(), slice); err != nil {
				c.Fatal(err)
			}
		}
	}
}

// routeWeights are what an HTTPRoute gives each version; that of port 80 where the name is the shift's.
func (c *cluster) routeWeights(name string) map[string]int32 {
	c.Helper()
	if name == "micro-api" {
		name = plan.RouteName(name, 80)
	}
	route := &gatewayv1.HTTPRoute{}
	if !c.get(name, route) {
		return nil
	}
	weights := map[string]int32{}
	for _, b := range route.Spec.Rules[0].BackendRefs {
		weights[strings.TrimPrefix(string(b.Name), "micro-api-")] = *b.Weight
	}
	return weights
}

// versionServices are the Services of versions.
func (c *cluster) versionServices() []string {
	c.Helper()
	var list corev1.ServiceList
	if err := c.List(c.Context(), &list, client.InNamespace(c.ns), client.HasLabels{v1alpha1.LabelShift}); err != nil {
		c.Fatal(err)
	}
	var names []string
	for _, s := range list.Items {
		names = append(names, s.Name)
	}
	slices.Sort(names)
	return names
}

// answer is what istiod writes into the status of a route.
func (c *cluster) answer(name string, accepted bool, message string) {
	c.Helper()
	route := &gatewayv1.HTTPRoute{}
	if !c.get(name, route) {
		c.Fatalf("there is no HTTPRoute %s", name)
	}
	status, reason := metav1.ConditionTrue, "Accepted"
	if !accepted {
		status, reason = metav1.ConditionFalse, "BackendNotFound"
	}
	route.Status.Parents = nil
	for _, p := range route.Spec.ParentRefs {
		route.Status.Parents = append(route.Status.Parents, gatewayv1.RouteParentStatus{
			ParentRef: p, ControllerName: "istio.io/gateway-controller",
			Conditions: []metav1.Condition{{
				Type: string(gatewayv1.RouteConditionResolvedRefs), Status: status, Reason: reason, Message: message,
				ObservedGeneration: route.Generation, LastTransitionTime: metav1.Now(),
			}},
		})
	}
	if err := c.Status().Update(c.Context(), route); err != nil {
		c.Fatal(err)
	}
}

func TestGatewayAPIAGoodReleaseIsPromoted(t *testing.T) {
	c := byGatewayAPI(t, "")
	c.run("adoption", 60, resting)
	if diff := cmp.Diff(map[string]int32{"v1": 100}, c.weights("micro-api")); diff != "" {
		t.Errorf("routes at rest (-want +got):\n%s", diff)
	}
	c.writes = nil
	c.pass()
	if len(c.writes) > 0 {
		t.Errorf("at rest a second pass wrote %q", c.writes)
	}
	c.setImage("micro-api:1.2")
	seen := []string{}
	c.run("promotion", 120, func(s *v1alpha1.TrafficShift) bool {
		if w := s.Status.Weight; w != "" && (len(seen) == 0 || seen[len(seen)-1] != w) {
			seen = append(seen, w)
		}
		for version := range c.weights("micro-api") {
			if !slices.Contains(c.versionServices(), plan.VersionName("micro-api", version)) {
				t.Errorf("the route names %s, which has no Service", version)
			}
		}
		return s.Status.Stable == "v2" && resting(s)
	})
	if diff := cmp.Diff([]string{"0%", "5%", "50%", "100%"}, seen); diff != "" {
		t.Errorf("weights (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"micro-api-v2"}, c.versionServices()); diff != "" {
		t.Errorf("Services of versions (-want +got):\n%s", diff)
	}
	if c.get("micro-api", &networkingv1.VirtualService{}) || c.get("micro-api", &networkingv1.DestinationRule{}) {
		t.Error("a VirtualService or a DestinationRule was made beside the HTTPRoute")
	}
}

func TestGatewayAPIABadReleaseIsTakenBack(t *testing.T) {
	c := byGatewayAPI(t, "")
	c.run("adoption", 60, resting)
	c.counts.errors["v2"] = 0.5
	c.setImage("micro-api:1.2")
	c.run("rejection", 90, func(s *v1alpha1.TrafficShift) bool {
		return s.Status.Phase == v1alpha1.PhaseFailed && len(s.Status.State.Retiring) == 0
	})
	if diff := cmp.Diff(map[string]int32{"v1": 100}, c.weights("micro-api")); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"micro-api-v1"}, c.versionServices()); diff != "" {
		t.Errorf("Services of versions (-want +got):\n%s", diff)
	}
}

// A candidate's Service that leads nowhere is not routed to, and its pods that fail later do not keep the route from being written.
func TestGatewayAPIARouteWaitsForEndpoints(t *testing.T) {
	c := byGatewayAPI(t, "")
	c.run("adoption", 60, resting)
	c.setImage("micro-api:1.2")
	c.unseen = "micro-api-v2"
	c.run("the candidate's Service", 60, func(*v1alpha1.TrafficShift) bool { return slices.Contains(c.versionServices(), "micro-api-v2") })
	for range 5 {
		c.pass()
		c.clock = c.clock.Add(time.Second)
	}
	if s := c.shift(); s.Status.State.Stage != v1alpha1.StageExposing || s.Status.State.SubsetSince != nil {
		t.Errorf("a Service that leads nowhere counts as there: %+v", s.Status.State)
	}
	c.unseen = ""
	c.run("5%", 60, func(s *v1alpha1.TrafficShift) bool {
		return s.Status.Weight == "5%" && c.weights("micro-api")["v2"] == 5
	})
	c.broken[2], c.broken[1] = true, true
	c.kubelet()
	c.patch(&v1alpha1.TrafficShift{}, "micro-api", `{"metadata":{"annotations":{"sluice.dev/abort":"v2"}}}`)
	c.broken[1] = false
	c.run("the way back", 60, func(*v1alpha1.TrafficShift) bool { return c.weights("micro-api")["v2"] == 0 })
}

// TestGatewayAPIHandingBack: the routes name the Service itself before they go, and the Services of versions go with them.
func TestGatewayAPIHandingBack(t *testing.T) {
	c := byGatewayAPI(t, "")
	c.run("adoption", 60, resting)
	c.patch(&v1alpha1.TrafficShift{}, "micro-api", `{"metadata":{"annotations":{"sluice.dev/detach":"true"}}}`)
	bare := false
	c.run("handing back", 90, func(s *v1alpha1.TrafficShift) bool {
		if w := c.weights("micro-api"); w["micro-api"] == 100 && len(w) == 1 {
			bare = true
		}
		return s.Status.State.Stage == v1alpha1.StageReleased
	})
	if !bare {
		t.Error("the route went without naming the Service itself first")
	}
	if w := c.weights("micro-api"); w != nil || len(c.versionServices()) > 0 {
		t.Errorf("left behind: route %v, Services %v", w, c.versionServices())
	}
}

const parent = `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: public}
spec: {gatewayClassName: istio, listeners: [{name: http, port: 80, protocol: HTTP, hostname: "HOST"}]}
`

func TestGatewayAPIHostsAndPolicy(t *testing.T) {
	c := byGatewayAPI(t, "  hosts: [shop.example.com]\n  gateways: [public]\n  trafficPolicy: {connectionPool: {http: {http2MaxRequests: 7}}}\n")
	c.Config.AllowedHosts, c.Config.AllowedGateways = []string{"*"}, []string{"*"}
	refused := func(reason string) func(*v1alpha1.TrafficShift) bool {
		return func(s *v1alpha1.TrafficShift) bool {
			return condition(s, v1alpha1.ConditionAccepted) == "False "+reason
		}
	}
	c.run("a Gateway to be missed", 10, refused(v1alpha1.ReasonGatewayNotFound))
	c.apply(strings.Replace(parent, "HOST", "other.example.com", 1))
	c.run("a listener to be missed", 10, refused(v1alpha1.ReasonGatewayWithoutHost))
	c.patch(&gatewayv1.Gateway{}, "public", `{"spec":{"listeners":[{"name":"http","port":80,"protocol":"HTTP","hostname":"*.example.com"}]}}`)
	c.run("adoption", 60, resting)
	c.setImage("micro-api:1.2")
	c.run("50%", 90, func(s *v1alpha1.TrafficShift) bool { return c.weights("micro-api-hosts")["v2"] == 50 })
	c.pass()
	if diff := cmp.Diff(c.weights("micro-api"), c.weights("micro-api-hosts")); diff != "" {
		t.Errorf("the mesh and the hosts (-mesh +hosts):\n%s", diff)
	}
	rule := &networkingv1.DestinationRule{}
	if !c.get("micro-api-v2", rule) || rule.Spec.GetTrafficPolicy().GetConnectionPool().GetHttp().GetHttp2MaxRequests() != 7 {
		t.Errorf("the trafficPolicy does not hold for v2: %v", &rule.Spec)
	}
	c.run("promotion", 120, promoted("v2"))
	if c.get("micro-api-v1", rule) {
		t.Error("the DestinationRule of v1 was left behind")
	}
	c.patch(&v1alpha1.TrafficShift{}, "micro-api", `{"spec":{"hosts":null,"gateways":null}}`)
	c.run("the hosts' route to go", 30, func(*v1alpha1.TrafficShift) bool { return c.weights("micro-api-hosts") == nil })
}

const rivalRoute = `apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: rival}
spec:
  parentRefs: [{name: public}]
  hostnames: [Shop.example.com]
  rules: [{matches: MATCHES, backendRefs: [{name: BACKEND, port: 80}]}]
`

// Of two routes that match as much the older one gets everything: a release does not start beside such a route of somebody else's.
func TestGatewayAPIARouteOfSomebodyElseForTheHost(t *testing.T) {
	tests := map[string]struct {
		matches, backend, host string
		claimed                bool
	}{
		"Everything":    {"[]", "other", "shop.example.com", true},
		"AnyPath":       {"[{path: {type: PathPrefix, value: /}}]", "other", "shop.example.com", true},
		"ToTheService":  {"[{path: {type: PathPrefix, value: /old}}]", "micro-api", "shop.example.com", true},
		"WithCondition": {"[{path: {type: PathPrefix, value: /blog}}]", "other", "shop.example.com", false},
		"WithHeader":    {"[{headers: [{name: x-blog, value: 'yes'}]}]", "other", "shop.example.com", false},
		"OtherHost":     {"[]", "other", "blog.example.com", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := byGatewayAPI(t, "  hosts: [shop.example.com]\n  gateways: [public]\n")
			c.Config.AllowedHosts, c.Config.AllowedGateways = []string{"*"}, []string{"*"}
			c.apply(strings.Replace(parent, "HOST", "*.example.com", 1))
			c.apply(strings.NewReplacer("MATCHES", tt.matches, "BACKEND", tt.backend, "Shop.example.com", tt.host).Replace(rivalRoute))
			accepted := func(s *v1alpha1.TrafficShift) *metav1.Condition {
				return meta.FindStatusCondition(s.Status.Conditions, v1alpha1.ConditionAccepted)
			}
			c.run("a word on it", 10, func(s *v1alpha1.TrafficShift) bool { return accepted(s) != nil })
			got := accepted(c.shift())
			if claimed := got.Reason == v1alpha1.ReasonHostClaimed && strings.Contains(got.Message, "HTTPRoute "+c.ns+"/rival (host "+tt.host+")"); claimed != tt.claimed {
				t.Errorf("Accepted is %s: %s; want it claimed: %t", got.Reason, got.Message, tt.claimed)
			}
		})
	}
}

// The Service of a version is its preview as well: it stays while the routes need it, and who looks at it before there is a weight is no
// user that came around the routes.
func TestGatewayAPIBlueGreenKeepsTheVersionsServices(t *testing.T) {
	c := newCluster(t)
	c.apply(service)
	c.apply(strings.NewReplacer("spec:", "spec:\n  routing: {api: gateway}", "  steps:", "  strategy: blue-green #").Replace(trafficShift))
	c.kubelet()
	c.run("adoption", 60, resting)
	c.setImage("micro-api:1.2")
	previewed := false
	c.run("promotion", 240, func(s *v1alpha1.TrafficShift) bool {
		previewed = previewed || shift.Previewing(s.Status.State)
		for version := range c.weights("micro-api") {
			if !slices.Contains(c.versionServices(), plan.VersionName("micro-api", version)) {
				t.Errorf("the route names %s, which has no Service", version)
			}
		}
		return s.Status.Stable == "v2" && resting(s)
	})
	if !previewed {
		t.Error("v2 was never previewed")
	}
	if diff := cmp.Diff([]string{"micro-api-v2"}, c.versionServices()); diff != "" {
		t.Errorf("Services of versions (-want +got):\n%s", diff)
	}
	c.pass()
	c.writes = nil
	c.pass()
	if len(c.writes) > 0 {
		t.Errorf("at rest a second pass wrote %q", c.writes)
	}
}

// Behind a waypoint a spec that no one meant for the Gateway API may ask for more than weights: it is told, and nothing waits for what
// such routes never carry.
func TestGatewayAPIIsNotWaitedForWithWhatItCannotCarry(t *testing.T) {
	c := byGatewayAPI(t, "")
	c.run("adoption", 60, resting)
	c.setImage("micro-api:1.2")
	c.run("5%", 60, func(s *v1alpha1.TrafficShift) bool { return s.Status.Weight == "5%" })
	c.patch(&v1alpha1.TrafficShift{}, "micro-api", `{"spec":{"routing":null,"session":{}}}`)
	c.pass()
	if got := condition(c.shift(), v1alpha1.ConditionAccepted); got != "False "+v1alpha1.ReasonRoutingUnsupported {
		t.Errorf("Accepted is %q", got)
	}
	c.counts.errors["v2"] = 0.5
	c.run("the way back", 90, func(s *v1alpha1.TrafficShift) bool {
		return s.Status.Phase == v1alpha1.PhaseFailed && len(s.Status.State.Retiring) == 0
	})
	if diff := cmp.Diff(map[string]int32{"v1": 100}, c.weights("micro-api")); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
}

// Istio says of an HTTPRoute what it made of it, and Sluice passes that on; the next release waits.
func TestGatewayAPIARefusedRouteStopsTheNextRelease(t *testing.T) {
	c := byGatewayAPI(t, "")
	c.run("adoption", 60, resting)
	c.answer("micro-api-80", true, "")
	c.pass()
	if got := condition(c.shift(), v1alpha1.ConditionAccepted); got != "True Accepted" {
		t.Fatalf("Accepted is %q", got)
	}
	c.answer("micro-api-80", false, "backend(micro-api-v1) not found")
	c.pass()
	accepted := meta.FindStatusCondition(c.shift().Status.Conditions, v1alpha1.ConditionAccepted)
	if accepted.Reason != v1alpha1.ReasonRouteNotAccepted || !strings.Contains(accepted.Message, "istio.io/gateway-controller: backend(micro-api-v1) not found (BackendNotFound)") {
		t.Errorf("Accepted is %+v; want Istio's own words", accepted)
	}
	c.setImage("micro-api:1.2")
	for range 5 {
		c.pass()
		c.kubelet()
	}
	if s := c.shift(); s.Status.Candidate != "" {
		t.Errorf("a release has started although the route is refused: %+v", s.Status)
	}
	c.answer("micro-api-80", true, "")
	c.clock = time.Now().Add(time.Hour) // whatever was answered stays answered
	c.run("the release", 60, func(s *v1alpha1.TrafficShift) bool { return s.Status.Candidate == "v2" })
}

// Two sets of routes for one host, of which Istio would take either, there are never: the API stays what it was at adoption.
func TestTheRoutingAPIStaysWhatItIs(t *testing.T) {
	for was, asked := range map[string]string{"gateway": "istio", "istio": "gateway"} {
		t.Run(was, func(t *testing.T) {
			c := newCluster(t)
			c.apply(service)
			c.apply(strings.Replace(trafficShift, "spec:", "spec:\n  routing: {api: "+was+"}\n", 1))
			c.kubelet()
			c.run("adoption", 60, resting)
			c.setImage("micro-api:1.2")
			c.run("5%", 60, func(s *v1alpha1.TrafficShift) bool { return s.Status.Weight == "5%" })
			c.patch(&v1alpha1.TrafficShift{}, "micro-api", `{"spec":{"routing":{"api":"`+asked+`"}}}`)
			c.run("promotion", 120, promoted("v2"))
			accepted := meta.FindStatusCondition(c.shift().Status.Conditions, v1alpha1.ConditionAccepted)
			if accepted.Reason != v1alpha1.ReasonRoutingFixed || !strings.Contains(accepted.Message, v1alpha1.AnnotationDetach) {
				t.Errorf("Accepted is %+v; want it refused with the way to do it", accepted)
			}
			istio := c.get("micro-api", &networkingv1.VirtualService{})
			if gateway := c.get("micro-api-80", &gatewayv1.HTTPRoute{}); istio == gateway {
				t.Errorf("VirtualService %t, HTTPRoute %t; want the one that stood", istio, gateway)
			}
			c.setImage("micro-api:1.3")
			for range 5 {
				c.pass()
				c.kubelet()
			}
			if s := c.shift(); s.Status.Candidate != "" {
				t.Errorf("a release has started: %+v", s.Status)
			}
		})
	}
}

// A cluster without the Gateway API is told how to get it, before any traffic is touched.
func TestWithoutTheGatewayAPITheRemedyIsSaid(t *testing.T) {
	c := newCluster(t)
	present := false
	c.GatewayAPI = func() (bool, error) { return present, nil }
	c.apply(service)
	c.apply(strings.Replace(trafficShift, "spec:", "spec:\n  routing: {api: gateway}\n", 1))
	c.kubelet()
	for range 5 {
		c.pass()
	}
	accepted := meta.FindStatusCondition(c.shift().Status.Conditions, v1alpha1.ConditionAccepted)
	if accepted.Reason != v1alpha1.ReasonGatewayAPIMissing || !strings.Contains(accepted.Message, "install its standard CustomResourceDefinitions") {
		t.Errorf("Accepted is %+v", accepted)
	}
	if sizes := c.deploymentSizes(); len(sizes) > 1 {
		t.Errorf("versions were started all the same: %q", sizes)
	}
	present = true
	c.run("adoption once it is there", 60, resting)
}

// The API may come after Sluice has started, as GitOps has it: it is asked for again, now and then, and watched from then on, once.
func TestTheGatewayAPIMayComeLater(t *testing.T) {
	mapper := meta.NewDefaultRESTMapper(nil)
	now, watches := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC), 0
	routes := routesWatch(nil)
	routes.mapper, routes.now, routes.watch = mapper, func() time.Time { return now }, func(source.Source) error { watches++; return nil }
	present := func(want bool) {
		t.Helper()
		if got, err := routes.present(); got != want || err != nil {
			t.Errorf("present: %t, %v; want %t", got, err, want)
		}
	}
	present(false)
	for _, kind := range []string{"HTTPRoute", "GRPCRoute"} {
		mapper.Add(schema.GroupVersionKind{Group: gatewayv1.GroupName, Version: gatewayv1.GroupVersion.Version, Kind: kind}, meta.RESTScopeNamespace)
	}
	present(false)
	now = now.Add(askAgain)
	present(true)
	now = now.Add(askAgain)
	present(true)
	if watches != 3 {
		t.Errorf("%d watches were begun; want those of HTTPRoutes, GRPCRoutes and EndpointSlices", watches)
	}
}

// Which API fits a service that names none is read off the labels that put it behind a waypoint.
func TestTheRoutingAPIThatFits(t *testing.T) {
	tests := map[string]struct {
		namespace, service map[string]string
		pods               map[string]string
		routing            *v1alpha1.Routing
		want               v1alpha1.RoutingAPI
	}{
		"Sidecars":               {want: v1alpha1.RoutingIstio},
		"AmbientWithoutWaypoint": {namespace: map[string]string{labelDataplane: "ambient"}, want: v1alpha1.RoutingIstio},
		"WaypointOfNamespace":    {namespace: map[string]string{labelDataplane: "ambient", plan.LabelUseWaypoint: "waypoint"}, want: v1alpha1.RoutingGateway},
		"WaypointOfService":      {namespace: map[string]string{labelDataplane: "ambient"}, service: map[string]string{plan.LabelUseWaypoint: "own"}, want: v1alpha1.RoutingGateway},
		"ServiceWithout": {namespace: map[string]string{labelDataplane: "ambient", plan.LabelUseWaypoint: "waypoint"},
			service: map[string]string{plan.LabelUseWaypoint: "none"}, want: v1alpha1.RoutingIstio},
		"PodsOutside": {namespace: map[string]string{labelDataplane: "ambient", plan.LabelUseWaypoint: "waypoint"},
			pods: map[string]string{labelDataplane: "none"}, want: v1alpha1.RoutingIstio},
		"PodsInside":       {namespace: map[string]string{plan.LabelUseWaypoint: "waypoint"}, pods: map[string]string{labelDataplane: "ambient"}, want: v1alpha1.RoutingGateway},
		"WaypointUncalled": {namespace: map[string]string{plan.LabelUseWaypoint: "waypoint"}, want: v1alpha1.RoutingIstio},
		"AskedFor":         {routing: &v1alpha1.Routing{API: v1alpha1.RoutingGateway}, want: v1alpha1.RoutingGateway},
		"AskedForIstio": {namespace: map[string]string{labelDataplane: "ambient", plan.LabelUseWaypoint: "waypoint"},
			routing: &v1alpha1.Routing{API: v1alpha1.RoutingIstio}, want: v1alpha1.RoutingIstio},
		"OnlyAVirtualServiceCan": {namespace: map[string]string{labelDataplane: "ambient", plan.LabelUseWaypoint: "waypoint"},
			routing: &v1alpha1.Routing{Delegate: true}, want: v1alpha1.RoutingIstio},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			w := &world{
				shift: &v1alpha1.TrafficShift{ObjectMeta: objectMeta("shop", "micro-api")},
				spec:  v1alpha1.TrafficShiftSpec{Routing: tc.routing}, namespace: &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Labels: tc.namespace}},
				scope: plan.Scope{Template: &appsv1.Deployment{}, Service: &corev1.Service{ObjectMeta: metav1.ObjectMeta{Labels: tc.service}}},
			}
			w.scope.Template.Spec.Template.Labels = tc.pods
			if err := (&Reconciler{}).chooseAPI(t.Context(), w); err != nil {
				t.Fatal(err)
			}
			if w.scope.API != tc.want {
				t.Errorf("api %q; want %q", w.scope.API, tc.want)
			}
		})
	}
}

func TestBackendsAreReadAsTheirShares(t *testing.T) {
	backend := func(name string, weight ...int32) gatewayv1.BackendRef {
		b := gatewayv1.BackendRef{BackendObjectReference: gatewayv1.BackendObjectReference{Name: gatewayv1.ObjectName(name)}}
		if len(weight) > 0 {
			b.Weight = &weight[0]
		}
		return b
	}
	tests := map[string]struct {
		backends []gatewayv1.BackendRef
		want     []shift.Route
		bare     bool
	}{
		"Percents":       {[]gatewayv1.BackendRef{backend("micro-api-v1", 95), backend("micro-api-v2", 5)}, []shift.Route{{Version: "v1", Weight: 950}, {Version: "v2", Weight: 50}}, false},
		"SumOf1000":      {[]gatewayv1.BackendRef{backend("micro-api-v1", 995), backend("micro-api-v2", 5)}, []shift.Route{{Version: "v1", Weight: 995}, {Version: "v2", Weight: 5}}, false},
		"ZeroIsListed":   {[]gatewayv1.BackendRef{backend("micro-api-v1", 100), backend("micro-api-v2", 0)}, []shift.Route{{Version: "v1", Weight: 1000}, {Version: "v2"}}, false},
		"NothingToAny":   {[]gatewayv1.BackendRef{backend("micro-api-v1", 0)}, []shift.Route{{Version: "v1"}}, false}, // 500 for every request
		"Unsaid":         {[]gatewayv1.BackendRef{backend("micro-api-v1"), backend("micro-api-v2", 3)}, []shift.Route{{Version: "v1", Weight: 250}, {Version: "v2", Weight: 750}}, false},
		"ServiceItself":  {[]gatewayv1.BackendRef{backend("micro-api", 100)}, nil, true},
		"SomebodyBeside": {[]gatewayv1.BackendRef{backend("micro-api-v1", 50), backend("theirs", 50)}, []shift.Route{{Version: "v1", Weight: 500}}, false},
		"NoBackend":      {nil, nil, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			w := &world{shift: &v1alpha1.TrafficShift{ObjectMeta: objectMeta("shop", "micro-api")}}
			got, bare := w.backendsOf(liveRoute{backends: tc.backends})
			if diff := cmp.Diff(tc.want, got); diff != "" || bare != tc.bare {
				t.Errorf("bare %t, want %t; routes (-want +got):\n%s", bare, tc.bare, diff)
			}
		})
	}
}

// What routes of the Gateway API cannot carry is refused by the API server, and by whoever reads a spec that never met one.
func TestTheGatewayAPIIsNotAskedForWhatItCannot(t *testing.T) {
	api, ns := testenv.Namespace(t)
	gateway := "routing: {api: gateway}\n"
	tests := map[string]struct{ spec, refusal, field string }{
		"Weights":            {gateway + "steps: [{weight: 5}, {weight: 100}]", "", ""},
		"Hosts":              {gateway + "hosts: [a.example.com]\ngateways: [public]", "", ""},
		"Policy":             {gateway + "trafficPolicy: {outlierDetection: {consecutive5xxErrors: 5}}", "", ""},
		"ByIstio":            {"routing: {api: istio, delegate: true}", "", ""},
		"NoSuchAPI":          {"routing: {api: smi}", "routing.api", "spec.routing.api"},
		"HostsWithoutGate":   {gateway + "hosts: [a.example.com]", "name in gateways", "spec.gateways"},
		"Delegate":           {"routing: {api: gateway, delegate: true}", "are for VirtualServices", "spec.routing.delegate"},
		"Attached":           {"routing: {api: gateway, virtualService: {name: mine}}", "are for VirtualServices", "spec.routing.virtualService"},
		"IstioHTTPRoute":     {"routing: {api: gateway, http: {timeout: 5s}}", "are for VirtualServices", "spec.routing.http"},
		"Session":            {gateway + "session: {}", "carries weights alone", "spec.session"},
		"ABTest":             {gateway + "strategy: ab-test", "carries weights alone", "spec.strategy"},
		"GatewayTLS":         {gateway + "hosts: [a.example.com]\ngatewayTLS: {mode: SIMPLE, credentialName: cert}", "carries weights alone", "spec.gatewayTLS"},
		"PreviewHost":        {gateway + "preview: {host: p.example.com}", "carries weights alone", "spec.preview.host"},
		"StepThatMatches":    {gateway + "steps: [{match: [{uri: {prefix: /}}]}, {weight: 100}]", "carries weights alone", "spec.steps[0].match"},
		"StepThatMirrors":    {gateway + "steps: [{mirror: 5%}, {weight: 100}]", "carries weights alone", "spec.steps[0].mirror"},
		"MatchWithoutAnyAPI": {"steps: [{match: [{uri: {prefix: /}}]}, {weight: 100}]", "", ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			u := shiftOf(t, ns, strings.ToLower(name), tc.spec)
			err := api.Create(t.Context(), u)
			if (err == nil) != (tc.refusal == "") || err != nil && !strings.Contains(err.Error(), tc.refusal) {
				t.Errorf("error %v; want a refusal that says %q", err, tc.refusal)
			}
			spec := v1alpha1.TrafficShiftSpec{}
			raw, _ := yaml.Marshal(u.Object["spec"])
			if err := yaml.Unmarshal(raw, &spec); err != nil {
				t.Fatal(err)
			}
			spec.Default()
			errs := spec.Validate(field.NewPath("spec"))
			found := slices.ContainsFunc(errs, func(err *field.Error) bool { return err.Field == tc.field })
			if found != (tc.field != "") {
				t.Errorf("Validate() says %v; want something about %q", errs, tc.field)
			}
			left := mendRoutingAPI(&spec, errs)
			if slices.ContainsFunc(left, func(err *field.Error) bool {
				return tc.field != "" && err.Field == tc.field && strings.Contains(err.Detail, "Gateway API")
			}) {
				t.Errorf("mended, the spec is still refused: %v", left)
			}
		})
	}
}

// A route that no controller takes notice of routes nothing, and nothing else would say so.
func TestARouteThatNobodyAnswersIsReported(t *testing.T) {
	ours := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "micro-api", UID: "1"}}
	route := gatewayv1.HTTPRoute{ObjectMeta: metav1.ObjectMeta{
		Namespace: "shop", Name: "micro-api-80", CreationTimestamp: metav1.NewTime(time.Unix(1000, 0)),
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(ours, appsv1.SchemeGroupVersion.WithKind("Deployment"))},
	}}
	route.Spec.ParentRefs = []gatewayv1.ParentReference{{Kind: new(gatewayv1.Kind("Service")), Name: "micro-api", Port: new(int32(80))}}
	live := httpRoute(route)
	w := &world{scope: plan.Scope{Template: ours}, gatewayAPI: gatewayAPI{routes: map[string]liveRoute{"HTTPRoute micro-api-80": live}}}
	if got := w.checkAnswers(time.Unix(1010, 0)); len(got) > 0 {
		t.Errorf("after 10s: %v; want nothing yet", got)
	}
	got := w.checkAnswers(time.Unix(1040, 0))
	if len(got) != 1 || got[0].Reason != v1alpha1.ReasonRouteNotAccepted || !strings.Contains(got[0].Message, "PILOT_ENABLE_GATEWAY_API") {
		t.Errorf("after 40s: %v; want it reported with what to check", got)
	}
	live.answers = []gatewayv1.RouteParentStatus{{ParentRef: route.Spec.ParentRefs[0], ControllerName: "istio.io/mesh-controller"}}
	w.gatewayAPI.routes["HTTPRoute micro-api-80"] = live
	if got := w.checkAnswers(time.Unix(1040, 0)); len(got) > 0 {
		t.Errorf("answered: %v; want nothing", got)
	}
}
