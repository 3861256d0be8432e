package trafficshift

import (
	"context"
	"fmt"
	"slices"
	"strings"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/apply"
	"github.com/sluice-dev/sluice/controllers/plan"
	"github.com/sluice-dev/sluice/controllers/shift"
)

// preflight lists what stands in the way of touching traffic, most basic first, each with its remedy. It changes nothing but the
// scope's trafficPolicy, which it finds where it looks for rivals.
func (r *Reconciler) preflight(ctx context.Context, w *world) ([]shift.Problem, error) {
	if w.scope.Template == nil {
		return []shift.Problem{problem(v1alpha1.ReasonDeploymentNotFound, "there is no Deployment %s/%s to shift; create it, or delete this TrafficShift", w.shift.Namespace, w.shift.Name)}, nil
	}
	problems := slices.Concat(w.checkSpec(), w.checkPolicy(), r.checkTracking(w), r.checkEvidence(w), w.checkTemplate(), w.checkService(), w.checkShared(), w.checkConnections(), w.checkNames(),
		r.checkGatewayAPI(w))
	w.adviseOnNodes()
	w.adviseOnConnections()
	for _, check := range []func(context.Context, *world) ([]shift.Problem, error){
		r.checkMembership,  // is there a mesh around the pods at all
		r.checkAutoscalers, // who else scales
		r.checkGrants,      // may the namespace have the hosts
		r.checkTLSHosts,    // does anybody else end TLS for them
		r.checkRouting,     // are the routes to join as they must be
		r.checkClaims,      // does anybody else route them
		r.checkGateways,    // would anybody serve them
		r.checkRoom,        // do the pods of another version fit
		r.adviseOnSelectors,
	} {
		found, err := check(ctx, w)
		if err != nil {
			return nil, err
		}
		problems = append(problems, found...)
	}
	return problems, nil
}

func problem(reason, format string, args ...any) shift.Problem {
	return shift.Problem{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// checkSpec reports what the schema could not refuse, and what the annotations say wrongly.
func (w *world) checkSpec() []shift.Problem {
	var problems []shift.Problem
	if text := w.shift.Annotations[v1alpha1.AnnotationInvalid]; text != "" {
		problems = append(problems, problem(v1alpha1.ReasonInvalidAnnotation, "%s", text))
	}
	if len(w.invalid) > 0 {
		problems = append(problems, problem(v1alpha1.ReasonInvalidSpec, "%v", w.invalid.ToAggregate()))
	}
	problems = append(problems, slices.Concat(w.checkHTTP(), w.checkTLS())...)
	read, errs := plan.TrafficPolicy(w.spec.TrafficPolicy, field.NewPath("spec", "trafficPolicy"))
	w.scope.Policy = read
	if len(errs) > 0 {
		if w.rule != nil && w.ours(w.rule) {
			w.scope.Policy = w.rule.Spec.GetTrafficPolicy() // the one that was accepted last stays in force
		}
		problems = append(problems, problem(v1alpha1.ReasonInvalidSpec, "%v", errs.ToAggregate()))
	}
	return problems
}

// checkHTTP reads what every route of ours carries over. Where it cannot be read, what was accepted last stays in force.
func (w *world) checkHTTP() []shift.Problem {
	written := w.shift.Spec.Routing
	if written == nil || written.HTTP == nil || len(w.scope.Attached) > 0 {
		return nil
	}
	read, errs := plan.HTTPFields(written.HTTP, field.NewPath("spec", "routing", "http"))
	broken := slices.ContainsFunc(w.invalid, func(err *field.Error) bool { return strings.HasPrefix(err.Field, "spec.routing.http") })
	if len(errs) == 0 && !broken {
		w.scope.HTTP = read
		return nil
	}
	if vs, ok := w.tables[w.shift.Name]; ok && w.ours(vs) && len(vs.Spec.GetHttp()) > 0 {
		w.scope.HTTP = plan.CarriedOver(vs.Spec.GetHttp()[len(vs.Spec.GetHttp())-1]) // the last is the one that matches whatever no other does
	}
	if broken {
		return nil // said already
	}
	return []shift.Problem{problem(v1alpha1.ReasonInvalidSpec, "%v", errs.ToAggregate())}
}

func (w *world) checkTemplate() []shift.Problem {
	if v, ok := w.scope.Template.Spec.Template.Labels[v1alpha1.LabelVersion]; ok {
		return []shift.Problem{problem(v1alpha1.ReasonTemplateSetsVersion,
			"the pod template of Deployment %s/%s sets the label %s: %q, which tells versions apart; remove it", w.shift.Namespace, w.shift.Name, v1alpha1.LabelVersion, v)}
	}
	return w.checkSelector()
}

// checkSelector refuses a Deployment whose selector tells versions apart: no version but one would match it.
func (w *world) checkSelector() []shift.Problem {
	s := w.scope.Template.Spec.Selector
	if v, ok := s.MatchLabels[v1alpha1.LabelCanonicalRevision]; ok {
		return []shift.Problem{problem(v1alpha1.ReasonSelectorSelectsVersion, selectorRemedy,
			w.shift.Namespace, w.shift.Name, v1alpha1.LabelCanonicalRevision, v)}
	}
	for _, e := range s.MatchExpressions {
		if slices.Contains(versionLabels, e.Key) {
			return []shift.Problem{problem(v1alpha1.ReasonSelectorSelectsVersion, selectorRemedy, w.shift.Namespace, w.shift.Name, e.Key, fmt.Sprint(e.Operator, " ", e.Values))}
		}
	}
	return nil
}

const selectorRemedy = "spec.selector of Deployment %s/%s selects on the label %s (%s), which Sluice sets anew for each version; a selector cannot be changed: create the Deployment again with a selector on labels that stay, such as app"

// versionLabels are what Sluice sets on the pods of each version.
var versionLabels = []string{v1alpha1.LabelIstioVersion, v1alpha1.LabelCanonicalRevision, v1alpha1.LabelVersion}

// checkService refuses what Istio cannot split by version (rules P1 to P4).
func (w *world) checkService() []shift.Problem {
	s := w.picked
	name := fmt.Sprintf("Service %s/%s", w.shift.Namespace, w.shift.Name)
	if s != nil {
		name = fmt.Sprintf("Service %s/%s", w.shift.Namespace, s.Name)
	}
	if moved := w.checkEstablished(); moved != nil {
		return moved
	}
	switch {
	case s == nil && w.named != nil && unselecting(w.named):
		return []shift.Problem{w.unselecting(w.named)}
	case s == nil && w.spec.Service != "":
		return []shift.Problem{problem(v1alpha1.ReasonServiceUnsupported, "spec.service: there is no Service %q that selects the pods of Deployment %s; accepted: %s", w.spec.Service, w.shift.Name, serviceNames(w.services))}
	case s == nil && len(w.services) > 1:
		return []shift.Problem{problem(v1alpha1.ReasonServiceAmbiguous, "several Services select the pods of Deployment %s: %s; name the one that carries the traffic with the annotation %s", w.shift.Name, serviceNames(w.services), v1alpha1.AnnotationService)}
	case s == nil:
		return []shift.Problem{problem(v1alpha1.ReasonServiceUnsupported, "no Service selects the pods of Deployment %s, and none can be made: name a container port http or grpc, or create the Service; for TCP and TLS it must be there", w.shift.Name)}
	case selectedVersion(s) != "":
		return []shift.Problem{problem(v1alpha1.ReasonServiceSelectsVersion, "%s selects on the label %s (%q) and could not see the next version; remove it from the selector",
			name, selectedVersion(s), s.Spec.Selector[selectedVersion(s)])}
	case s.Spec.Type == corev1.ServiceTypeExternalName:
		return []shift.Problem{problem(v1alpha1.ReasonServiceUnsupported, "%s is of type ExternalName (%q), a name without pods, which sidecars cannot split by version; use a ClusterIP Service", name, s.Spec.ExternalName)}
	case s.Spec.ClusterIP == corev1.ClusterIPNone:
		return []shift.Problem{problem(v1alpha1.ReasonServiceUnsupported, "%s is headless (clusterIP: None), which sidecars cannot split by version; use a ClusterIP Service", name)}
	case w.namesake != nil && unselecting(w.namesake) && s.Name == w.namesake.Name:
		return []shift.Problem{w.unselecting(w.namesake)}
	}
	if problems := w.checkPorts(name, s); problems != nil {
		return problems
	}
	return w.checkPortNames(s)
}

// checkEstablished reports what has become of the Service that the routes are for, where that keeps the next version from users.
func (w *world) checkEstablished() []shift.Problem {
	s := w.scope.Service
	if w.established == "" || s == nil || w.scope.Made {
		return nil
	}
	name := fmt.Sprintf("Service %s/%s", w.shift.Namespace, w.established)
	switch {
	case w.picked != nil && w.picked.Name != w.established && w.spec.Service != "":
		return []shift.Problem{problem(v1alpha1.ReasonInvalidSpec,
			"spec.service: %q: the routes are for %s, and moving them would move all traffic past the gates; hand the service back first (annotation %s: \"true\" on the TrafficShift)",
			w.spec.Service, name, v1alpha1.AnnotationDetach)}
	case len(s.Spec.Selector) == 0 && !slices.ContainsFunc(w.services, func(s corev1.Service) bool { return s.Name == w.established }):
		return []shift.Problem{problem(v1alpha1.ReasonServiceUnsupported, "%s, which the routes are for, is gone or selects nothing; create it again", name)}
	}
	if key := unselected(s, w.scope.Template); key != "" {
		return []shift.Problem{problem(v1alpha1.ReasonServiceUnsupported,
			"%s selects %s=%s, and the pod template of Deployment %s says %q: its pods would get no traffic; make the two agree",
			name, key, s.Spec.Selector[key], w.shift.Name, w.scope.Template.Spec.Template.Labels[key])}
	}
	return nil
}

// takeable reports whether an object is ours, or what an earlier handing back has left for its hosts.
func (w *world) takeable(o metav1.Object) bool {
	return w.ours(o) || apply.Disowned(o, v1alpha1.FieldManager)
}

func serviceNames(services []corev1.Service) string {
	names := make([]string, 0, len(services))
	for _, s := range services {
		names = append(names, s.Name)
	}
	if len(names) == 0 {
		return "(none selects them)"
	}
	return strings.Join(names, ", ")
}

// checkNames finds objects of other owners under the names that ours would have.
func (w *world) checkNames() []shift.Problem {
	var problems []shift.Problem
	taken := func(kind, name string) {
		problems = append(problems, problem(v1alpha1.ReasonNameTaken, "%s %s/%s is somebody else's and is left as it is; rename or delete it, or rename the Deployment", kind, w.shift.Namespace, name))
	}
	released := w.shift.Status.State.Phase == v1alpha1.PhaseDetaching
	gatewayAPI := w.gatewayAPIRoutes() // whose objects have other names
	for _, name := range []string{w.shift.Name, plan.HostsName(w.shift.Name)} {
		wanted := name == w.shift.Name && len(w.scope.Attached) == 0 || len(w.spec.Hosts) > 0
		if vs, ok := w.tables[name]; ok && !w.takeable(vs) && !released && !gatewayAPI && wanted {
			taken("VirtualService", name)
		}
	}
	if vs, ok := w.tables[plan.PreviewName(w.shift.Name)]; ok && !w.ours(vs) && len(w.previewHost()) > 0 && !w.hostsEach() {
		taken("VirtualService", vs.Name)
	}
	for _, o := range w.previewsTaken() {
		kind := "Service"
		if _, host := o.(*networkingv1.VirtualService); host {
			kind = "VirtualService"
		}
		taken(kind, o.GetName())
	}
	if w.namesake != nil && len(w.services) == 0 && w.established == "" && !unselecting(w.namesake) {
		taken("Service", w.namesake.Name)
	}
	if w.rule != nil && !w.ours(w.rule) && !gatewayAPI {
		taken("DestinationRule", w.rule.Name)
	}
	if w.gateway != nil && !w.takeable(w.gateway) && !released && !gatewayAPI && len(w.spec.Hosts) > 0 && len(w.spec.Gateways) == 0 {
		taken("Gateway", w.gateway.Name)
	}
	return append(problems, w.checkName()...)
}

// checkName refuses a Deployment's name that something made for it could not have: a Deployment may be called more than a Service may.
func (w *world) checkName() []shift.Problem {
	what, wrong := "", []string(nil)
	name := w.shift.Name
	switch {
	case w.scope.Made:
		what, wrong = "the Service that is to be made for it", validation.IsDNS1035Label(name)
	case plan.Previewed(w.spec) || w.gatewayAPIRoutes():
		what, wrong = "the Services of its versions", validation.IsDNS1035Label(name)
	case len(w.spec.Hosts) > 0 && len(w.spec.Gateways) == 0:
		what, wrong = "the Gateway that is to be made for it", validation.IsDNS1123Label(name)
	}
	if len(wrong) == 0 {
		return nil
	}
	return []shift.Problem{problem(v1alpha1.ReasonNameUnsupported, "the name of Deployment %s/%s cannot name %s: accepted are lower case letters, digits and -, a letter first; create those yourself, or the Deployment under another name",
		w.shift.Namespace, name, what)}
}

// checkGrants holds hosts and gateways to what the namespace's administrator has granted: who may edit a Deployment may not thereby
// claim a host.
func (r *Reconciler) checkGrants(_ context.Context, w *world) ([]shift.Problem, error) {
	if len(w.spec.Hosts) == 0 {
		return nil, nil
	}
	hosts := granted(w.namespace, v1alpha1.AnnotationAllowedHosts, r.Config.AllowedHosts)
	gateways := granted(w.namespace, v1alpha1.AnnotationAllowedGateways, r.Config.AllowedGateways)
	var problems []shift.Problem
	for _, host := range slices.Concat(w.spec.Hosts, w.servedPreview()) {
		if !slices.ContainsFunc(hosts, func(g string) bool { return grants(g, host) }) {
			problems = append(problems, problem(v1alpha1.ReasonHostNotAllowed, "host %q is not granted to namespace %s; its administrator grants it with the annotation %s on the Namespace (granted now: %s)",
				host, w.shift.Namespace, v1alpha1.AnnotationAllowedHosts, list(hosts)))
		}
	}
	for _, gateway := range plan.QualifiedGateways(w.shift.Namespace, w.spec.Gateways) {
		if !slices.ContainsFunc(gateways, func(g string) bool { return grantsGateway(g, gateway) }) {
			problems = append(problems, problem(v1alpha1.ReasonGatewayNotAllowed, "gateway %q is not granted to namespace %s; its administrator grants it with the annotation %s on the Namespace (granted now: %s)",
				gateway, w.shift.Namespace, v1alpha1.AnnotationAllowedGateways, list(gateways)))
		}
	}
	return problems, nil
}

// granted reads a comma-separated grant off a Namespace, or the cluster's default where it has none.
func granted(ns *corev1.Namespace, key string, def []string) []string {
	text, ok := ns.Annotations[key]
	if !ok {
		return def
	}
	return split(text)
}

func split(grant string) []string {
	return strings.FieldsFunc(grant, func(c rune) bool { return c == ',' || c == ' ' || c == '\n' })
}

// grants matches a host against "shop.example.com", "*.example.com" or "*".
func grants(grant, host string) bool {
	if suffix, ok := strings.CutPrefix(grant, "*"); ok && (suffix == "" || strings.HasPrefix(suffix, ".")) {
		return strings.HasSuffix(host, suffix) && (suffix == "" || len(host) > len(suffix))
	}
	return strings.EqualFold(grant, host)
}

// grantsGateway matches a gateway "ns/name" against "ns/name", "ns/*" or "*".
func grantsGateway(grant, gateway string) bool {
	if prefix, ok := strings.CutSuffix(grant, "*"); ok {
		return prefix == "" || strings.HasSuffix(prefix, "/") && strings.HasPrefix(gateway, prefix)
	}
	return grant == gateway
}

func list(of []string) string {
	if len(of) == 0 {
		return "nothing"
	}
	return strings.Join(of, ", ")
}
