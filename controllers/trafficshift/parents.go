package trafficshift

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/plan"
	"github.com/sluice-dev/sluice/controllers/shift"
)

// answerWithin is how long a route may wait for a controller to take notice of it.
const answerWithin = 30 * time.Second

// checkGatewayAPI refuses what routes of the Gateway API cannot do, and reports those that the mesh does not take.
func (r *Reconciler) checkGatewayAPI(w *world) []shift.Problem {
	asked, is := w.askedAPI(), w.scope.API
	if w.spec.Routing != nil && w.spec.Routing.API != "" && asked != is {
		return []shift.Problem{problem(v1alpha1.ReasonRoutingFixed,
			"spec.routing.api: %q: the routes of %s are written for api %s, and stay so; hand the service back first (annotation %s: \"true\" on the TrafficShift), or write %q",
			asked, w.shift.Name, is, v1alpha1.AnnotationDetach, is)}
	}
	if !w.gatewayAPIRoutes() {
		return nil
	}
	if !w.gatewayAPI.present {
		return []shift.Problem{problem(v1alpha1.ReasonGatewayAPIMissing,
			"the routes are to be HTTPRoutes, and the cluster has no Gateway API; install its standard CustomResourceDefinitions (gateway.networking.k8s.io), or write routing.api: istio")}
	}
	var problems []shift.Problem
	if w.spec.Routing == nil || w.spec.Routing.API == "" { // asked for by name, these are InvalidSpec
		for _, err := range w.unsupported {
			problems = append(problems, problem(v1alpha1.ReasonRoutingUnsupported, "the service is behind a waypoint, and its routes are those of the Gateway API: %v", err))
		}
	}
	return slices.Concat(problems, w.checkRouteNames(), w.checkAnswers(r.Now()))
}

// checkParents finds Gateways of the Gateway API that could not serve the hosts: one that is not there, or none of whose listeners takes
// the host. It asks past the cache, and only before something new is served.
func (r *Reconciler) checkParents(ctx context.Context, w *world) ([]shift.Problem, error) {
	if !w.gatewayAPI.present || len(w.spec.Hosts) == 0 || !w.starting() && !w.entryChanges() {
		return nil, nil
	}
	var problems []shift.Problem
	for _, full := range plan.QualifiedGateways(w.shift.Namespace, w.spec.Gateways) {
		namespace, name, _ := strings.Cut(full, "/")
		g := &gatewayv1.Gateway{}
		err := r.Live.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, g)
		switch {
		case apierrors.IsNotFound(err), meta.IsNoMatchError(err):
			problems = append(problems, problem(v1alpha1.ReasonGatewayNotFound,
				"spec.gateways: there is no Gateway (%s) %q, and routes of the Gateway API have no other parents; create it, or name one that is there", gatewayv1.GroupName, full))
			continue
		case err != nil:
			return nil, fmt.Errorf("reading Gateway %s: %w", full, err)
		}
		for _, host := range w.spec.Hosts {
			if !listens(g, host) {
				problems = append(problems, problem(v1alpha1.ReasonGatewayWithoutHost,
					"no listener of Gateway (%s) %s takes the host %q; give spec.listeners one whose hostname does, or name another Gateway", gatewayv1.GroupName, full, host))
			}
		}
	}
	return problems, nil
}

// listens reports whether a listener takes a host; one without a hostname takes all.
func listens(g *gatewayv1.Gateway, host string) bool {
	return slices.ContainsFunc(g.Spec.Listeners, func(l gatewayv1.Listener) bool {
		return l.Hostname == nil || *l.Hostname == "" || grants(string(*l.Hostname), host) || grants(host, string(*l.Hostname))
	})
}

// checkRouteNames finds objects of other owners under the names that ours would have. A version's name that is taken is passed over
// when the version is named.
func (w *world) checkRouteNames() []shift.Problem {
	var problems []shift.Problem
	if w.scope.Service == nil {
		return nil
	}
	names := []string{plan.HostsName(w.shift.Name)}
	for _, p := range plan.HTTPPorts(w.scope.Service) {
		names = append(names, plan.RouteName(w.shift.Name, p.Port))
	}
	if w.shift.Status.State.Phase == v1alpha1.PhaseDetaching {
		return nil
	}
	for _, key := range slices.Sorted(maps.Keys(w.gatewayAPI.routes)) {
		l := w.gatewayAPI.routes[key]
		hosts := l.GetName() == names[0] && len(w.spec.Hosts) == 0
		if slices.Contains(names, l.GetName()) && !w.takeable(l) && !hosts {
			problems = append(problems, problem(v1alpha1.ReasonNameTaken, "%s is somebody else's and is left as it is; rename or delete it, or rename the Deployment", l))
		}
	}
	return problems
}

// checkAnswers reports the routes that nobody has taken, or that somebody has refused, in the controller's own words: Istio tells what
// it made of an HTTPRoute, as it does of no VirtualService.
func (w *world) checkAnswers(now time.Time) []shift.Problem {
	var problems []shift.Problem
	for _, l := range w.ourRoutes() {
		for _, parent := range l.parents {
			why := l.refused(parent)
			if why == "" && !l.answered(parent) && now.Sub(l.GetCreationTimestamp().Time) > answerWithin {
				why = "no controller has taken it: check that istiod runs with PILOT_ENABLE_GATEWAY_API, and that the parent exists"
			}
			if why != "" {
				problems = append(problems, problem(v1alpha1.ReasonRouteNotAccepted, "%s, for %s %s: %s", l, kindOf(parent), parent.Name, why))
			}
		}
	}
	return problems
}

func kindOf(p gatewayv1.ParentReference) gatewayv1.Kind {
	if p.Kind == nil {
		return "Gateway"
	}
	return *p.Kind
}

// refused is what a controller has against the route as it stands now, for one of its parents.
func (l liveRoute) refused(parent gatewayv1.ParentReference) string {
	for _, a := range l.answers {
		if !sameParent(a.ParentRef, parent) {
			continue
		}
		for _, kind := range []gatewayv1.RouteConditionType{gatewayv1.RouteConditionAccepted, gatewayv1.RouteConditionResolvedRefs} {
			c := meta.FindStatusCondition(a.Conditions, string(kind))
			if c != nil && c.Status == metav1.ConditionFalse && c.ObservedGeneration >= l.GetGeneration() {
				return fmt.Sprintf("%s: %s (%s)", a.ControllerName, c.Message, c.Reason)
			}
		}
	}
	return ""
}

func (l liveRoute) answered(parent gatewayv1.ParentReference) bool {
	return slices.ContainsFunc(l.answers, func(a gatewayv1.RouteParentStatus) bool { return sameParent(a.ParentRef, parent) })
}

func sameParent(a, b gatewayv1.ParentReference) bool {
	port := func(p gatewayv1.ParentReference) int32 { return ptr.Deref(p.Port, 0) }
	return kindOf(a) == kindOf(b) && a.Name == b.Name && port(a) == port(b) && namespaceOf(a) == namespaceOf(b)
}

func namespaceOf(p gatewayv1.ParentReference) gatewayv1.Namespace {
	if p.Namespace == nil {
		return ""
	}
	return *p.Namespace
}
