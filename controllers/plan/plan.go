// Package plan turns a decision into objects: whole ones, in the order in which the mesh needs them written.
//
// The package is pure. Where a weight is decided: controllers/shift. Where the objects are written: controllers/trafficshift, through
// controllers/apply.
package plan

import (
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	networkingv1 "istio.io/api/networking/v1alpha3"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/shift"
)

// Object is any API object.
type Object interface {
	metav1.Object
	runtime.Object
}

// Verb is what is done with an object.
type Verb string

// The verbs.
const (
	// Apply creates the object, or applies it where it is ours.
	Apply Verb = "apply"
	// Hold applies a few fields of the annotated Deployment, which is the user's: replicas and the mark.
	Hold Verb = "hold"
	// HandOver gives those fields up and leaves their values standing.
	HandOver Verb = "hand over"
	// PutBack writes the pod template of the annotated Deployment, and keeps no field of it.
	PutBack Verb = "put back"
	// Disown applies the object without a mark of ours, so that it outlives Sluice; what is not ours any more is left alone.
	Disown Verb = "disown"
	// Adjust changes as little of an object of the user's as makes it the one that is given.
	Adjust Verb = "adjust"
	// Forget takes every trace of a writer off an object of the user's.
	Forget Verb = "forget"
	// Add applies a few fields of another object of the user's, but takes none from anybody; Withdraw gives them up, with their values.
	Add      Verb = "add"
	Withdraw Verb = "withdraw"
	// Delete removes the object where it is ours.
	Delete Verb = "delete"
)

// Step is one write.
type Step struct {
	Verb   Verb
	Object Object
}

// Plan is an ordered list of groups. All steps of a group are tried, and their errors joined: neither VirtualService of a rollback
// waits for the other. A group is begun only when every step of those before has succeeded, but of one aside.
//
// The order is: routes, then what new versions need (records, Deployments, Service, Gateway, subsets, addresses for testers), then what old versions no
// longer need. It holds the mesh's rule R1 both ways, because a route never names a subset that was not read back from the
// cluster, and a subset never goes while a route that was read back names it (controllers/shift sees to both).
type Plan []Group

// Group is a set of steps that need nothing of each other.
type Group struct {
	Name  string
	Steps []Step
	// Aside is set where the groups that follow do not wait for it.
	Aside bool
}

// Scope is what the objects are made for, and from.
type Scope struct {
	// Shift is the TrafficShift; its spec has its defaults.
	Shift *v1alpha1.TrafficShift
	// Template is the annotated Deployment as read in this pass.
	Template *appsv1.Deployment
	// Records are the recorded versions by name.
	Records map[string]*appsv1.ControllerRevision
	// Restarted is when the pods of each version were last replaced, as its Deployment says; empty where they were not.
	Restarted map[string]string
	// Service carries the traffic; where none selects the pods, Made says that this one is to be made.
	Service *corev1.Service
	Made    bool
	// Entry is how clients outside the mesh reach the service; without hosts, not at all. Leave says that what was made for hosts that
	// nobody asks for any more is to go.
	Entry Entry
	Leave bool
	// Previews are the versions that have a Service of their own; Shown is whether there is a VirtualService for the preview's host, and
	// Hosted are the versions that have one for a host of their own.
	Previews []string
	Shown    bool
	Hosted   []string
	// Host is the Service's fully qualified name (rule V1). Short names resolve against the VirtualService's namespace.
	Host string
	// RuleBeside is whether a DestinationRule of the user's has the name that ours would have.
	RuleBeside bool
	// Policy is the DestinationRule's trafficPolicy: the user's own, or one carried over from a rule that ours hides.
	Policy *networkingv1.TrafficPolicy
	// HTTP is what every HTTP route of ours carries over from its owner; nil where that is nothing.
	HTTP *networkingv1.HTTPRoute
	// TLS is what a Gateway of ours ends TLS with; nil serves plain HTTP alone.
	TLS *networkingv1.ServerTLSSettings
	// Delegate is whether the VirtualService for the mesh is one without hosts and gateways, for a root of the user's.
	Delegate bool
	// Attached are VirtualServices of the user's whose weights are written in place of any of ours.
	Attached []*Attached
	// Wish is the number of replicas that somebody applied to the template on purpose and that scaling it to 0 would wipe out.
	Wish *int32
	// Autoscaler is the user's own of the Deployment, where one of ours follows it; Following is whether ours is there.
	Autoscaler *autoscalingv2.HorizontalPodAutoscaler
	Following  bool
	// Scaled is what is known of ScaledObjects, which are KEDA's.
	Scaled Scaled
	// Config is the configuration that the template refers to as it is now, nil where it is not tracked. Configured is the version that runs
	// with it.
	Config     Config
	Configured string
	// GatewaySelector are the labels of the pods that a Gateway of ours is for.
	GatewaySelector map[string]string
	// API is what the routes are written in; empty is Istio's own.
	API v1alpha1.RoutingAPI
	// Routes are the routes of the Gateway API that are ours as read in this pass, Versions those that have a Service for such routes.
	Routes   []Object
	Versions []string
}

// Entry is how clients outside the mesh reach a service.
type Entry struct {
	// Hosts are the external hosts, Gateways what serves them, each with its namespace; none makes one.
	Hosts, Gateways []string
	// Preview is a host of the version that is being tried, at the same gateways, or one with a place for the version, of each.
	Preview string
	// Port is the Service's port that serves them; 0 takes the one named http, or else the first.
	Port int32
	// Told is how gateways tell what is for them already; without it the Service's ports say.
	Told Told
}

// Told is how a gateway tells for whom something is.
type Told string

// How hosts are told, which is by what their port speaks: by the host of a request; by the name that a client begins TLS with; or by
// nothing but the gateway's own port.
const (
	ByHost Told = "host"
	BySNI  Told = "SNI"
	ByPort Told = "port"
)

// For plans what a decision asks for. An error names the version whose record cannot be read; nothing may be written then.
func For(s Scope, d shift.Desired) (Plan, error) {
	deployments, err := s.deployments(d)
	if err != nil {
		return nil, err
	}
	undo, err := s.undo(d)
	if err != nil {
		return nil, err
	}
	mesh := s.routing()
	groups := []Group{
		{Name: "routes", Steps: mesh.routes(d)},
		{Name: "records", Steps: s.records(d)},
		{Name: "service", Steps: mesh.entry(d)},
		{Name: "deployments", Steps: deployments},
		{Name: "subsets", Steps: mesh.subsets(d)},
		{Name: "previews", Steps: mesh.previews(d), Aside: true},
		{Name: "undo", Steps: undo},
		{Name: "pause", Steps: s.pause(d)},
		{Name: "template", Steps: s.template(d)},
		{Name: "history", Steps: s.prune(d)},
		{Name: "release", Steps: s.release(d)},
		{Name: "autoscaler", Steps: slices.Concat(s.autoscaler(d), s.scaledObject(d))},
	}
	plan := make(Plan, 0, len(groups))
	for _, g := range groups {
		if len(g.Steps) > 0 {
			plan = append(plan, g)
		}
	}
	return plan, nil
}

// VersionName is the name of a version's Deployment and record: "micro-api-v2".
func VersionName(shift, version string) string { return shift + "-" + version }

// HostsName is the name of the VirtualService for external hosts. It is an object of its own, because one object with both the mesh
// and a gateway would capture the external host inside every sidecar (rule V2).
func HostsName(shift string) string { return shift + "-hosts" }

// meta is the metadata of everything that Sluice makes: marked as ours, and owned by the annotated Deployment.
func (s Scope) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: name, Namespace: s.Template.Namespace,
		Labels: map[string]string{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy, v1alpha1.LabelShift: s.Template.Name},
		OwnerReferences: []metav1.OwnerReference{
			*metav1.NewControllerRef(s.Template, appsv1.SchemeGroupVersion.WithKind("Deployment")),
		},
	}
}

// disowned is the metadata of what outlives Sluice: a host that nothing else serves keeps its objects.
func (s Scope) disowned(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: s.Template.Namespace}
}

func (s Scope) release(d shift.Desired) []Step {
	if !d.Release {
		return nil
	}
	return []Step{{HandOver, s.hold(s.Template.Spec.Replicas, false)}}
}

func (s Scope) prune(d shift.Desired) []Step { return s.remove(d.Prune) }

// remove deletes versions: the Deployment of each, and its record.
func (s Scope) remove(versions []string) []Step {
	var steps []Step
	for _, version := range versions {
		meta := s.meta(VersionName(s.Template.Name, version))
		steps = append(steps,
			Step{Delete, &appsv1.Deployment{TypeMeta: deploymentType, ObjectMeta: meta}},
			Step{Delete, &appsv1.ControllerRevision{TypeMeta: revisionType, ObjectMeta: meta}},
		)
	}
	return steps
}

// String is for logs and golden files.
func (st Step) String() string {
	return fmt.Sprintf("%s %s %s/%s", st.Verb, st.Object.GetObjectKind().GroupVersionKind().Kind, st.Object.GetNamespace(), st.Object.GetName())
}
