package trafficshift

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/apply"
	"github.com/sluice-dev/sluice/controllers/plan"
	"github.com/sluice-dev/sluice/controllers/shift"
)

// conflictDelay is how soon a pass that read something too early is repeated.
const conflictDelay = 100 * time.Millisecond

// world is what one pass has read: the objects, and the observation that is decided on. Objects come from a cache and are read-only.
type world struct {
	shift       *v1alpha1.TrafficShift
	spec        v1alpha1.TrafficShiftSpec
	scope       plan.Scope
	observation shift.Observation

	deployments map[string]*appsv1.Deployment // every one of the namespace, by name
	records     map[string]*appsv1.ControllerRevision
	services    []corev1.Service           // those that select the pods
	picked      *corev1.Service            // the one of them that carries the traffic, or the one to be made; nil where that cannot be told
	previews    map[string]*corev1.Service // those that have the name of a version's own, by version
	namesake    *corev1.Service            // one that has the name of the one to be made, and does not select the pods
	established string                     // the name of the one that our DestinationRule is for, once there is one
	invalid     field.ErrorList            // what of the spec cannot be read; its defaults stand in its place
	tables      map[string]*networkingv1.VirtualService
	rule        *networkingv1.DestinationRule
	merged      []*networkingv1.DestinationRule // the user's own for the host, in the same namespace
	gateway     *networkingv1.Gateway
	autoscalers autoscalers
	policy      underPolicy

	namespace   *corev1.Namespace
	named       *corev1.Service   // the one that spec.service names, where it does not select the pods
	bare        map[string]string // a pod without a sidecar, by version
	proxy       *corev1.Container // the sidecar that pods are given
	advice      []shift.Problem   // what does not stand in the way, and had better be known
	gatewayAPI  gatewayAPI        // what stands of the other way of writing routes
	unsupported field.ErrorList   // what the spec asks for that the API of its routes cannot do
}

// observe reads the world and changes nothing.
func (r *Reconciler) observe(ctx context.Context, ts *v1alpha1.TrafficShift) (*world, error) {
	w := &world{shift: ts, spec: *ts.Spec.DeepCopy()}
	for _, read := range []func(context.Context, *world) error{r.readNamespace, r.readPolicy} {
		if err := read(ctx, w); err != nil {
			return nil, err
		}
	}
	w.spec.Default()
	w.spec.Paused = ts.Paused()
	w.invalid = validated(&w.spec)
	mend(&w.spec, mendRoutingAPI(&w.spec, w.invalid))
	for _, read := range []func(context.Context, *world) error{
		r.readDeployments, r.readConfig, r.readRecords, r.readPods, r.readMesh, r.readRouting, r.readGatewayAPI, r.readService, r.chooseAPI,
		r.readAutoscalers,
	} {
		if err := read(ctx, w); err != nil {
			return nil, err
		}
	}
	problems, err := r.preflight(ctx, w)
	if err != nil {
		return nil, fmt.Errorf("preflight: %w", err)
	}
	w.scope.Entry, w.scope.Leave = w.entry(problems)
	o := &w.observation
	o.Now, o.Timing, o.Problems = r.Now().Truncate(time.Microsecond), r.Config.Timing, problems // what a MicroTime keeps
	o.NextVersion = w.nextVersion()
	o.Replicas, o.Connections = w.replicas(), w.connectionsOnly()
	o.Intents, o.Requests = intentsOf(ts), slices.Concat(deploymentPause(w.scope.Template), requestsOf(ts))
	o.ResumedBy = resumedBy(ts, w.scope.Template)
	o.Tables, o.Subsets, o.Rule = w.tablesRead(), w.subsetsRead(), w.rule != nil && w.ours(w.rule)
	if w.gatewayAPIRoutes() {
		o.Tables, o.Subsets, o.Rule = w.routeTables(), w.versionsServed(), len(w.ourVersionServices()) > 0
	}
	o.Evidence = r.evidence(ctx, w)
	o.Checks = append(r.webhookChecks(w), queryChecks(w.spec.Gates, r.Evidence.Readings(w.key()), o.Now.Add(-freshScrapes*o.Timing.Scrape))...)
	o.Turn, err = r.turn(ctx, w)
	return w, err
}

// suspended reports whether nothing is to be written for the shift but its own status.
func (w *world) suspended() bool { return shift.Suspended(w.spec, w.observation) }

// writable reports whether there is a Deployment that objects can be made for, and owned by.
func (w *world) writable() bool { return w.scope.Template != nil && w.scope.Service != nil }

// ours reports whether the annotated Deployment controls an object.
func (w *world) ours(o metav1.Object) bool {
	return w.scope.Template != nil && metav1.IsControlledBy(o, w.scope.Template)
}

// readDeployments reads the annotated Deployment and its versions.
func (r *Reconciler) readDeployments(ctx context.Context, w *world) error {
	var list appsv1.DeploymentList
	if err := r.Client.List(ctx, &list, client.InNamespace(w.shift.Namespace)); err != nil {
		return fmt.Errorf("listing Deployments: %w", err)
	}
	w.deployments = map[string]*appsv1.Deployment{}
	for i := range list.Items {
		w.deployments[list.Items[i].Name] = &list.Items[i]
	}
	template, ok := w.deployments[w.shift.Name]
	if !ok || !template.DeletionTimestamp.IsZero() {
		return nil
	}
	shiftCopy := w.shift.DeepCopy()
	shiftCopy.Spec = w.spec
	w.scope = plan.Scope{Shift: shiftCopy, Template: template, Records: map[string]*appsv1.ControllerRevision{}, Restarted: map[string]string{}, GatewaySelector: r.Config.GatewaySelector}
	if n := ptr.Deref(template.Spec.Replicas, 1); n > 0 && apply.AppliedByOthers(template, v1alpha1.FieldManager, "replicas") {
		w.scope.Wish = &n
	}
	w.observation.Template = shift.Template{
		Exists: true, UID: string(template.UID), Replicas: ptr.Deref(template.Spec.Replicas, 1), Available: template.Status.AvailableReplicas,
		Settled: settled(template), Held: template.Annotations[v1alpha1.AnnotationHeld] == "true", Generation: template.Generation,
		HistoryLimit: int(ptr.Deref(template.Spec.RevisionHistoryLimit, 10)), Paused: template.Spec.Paused, Name: template.Name,
	}
	return nil
}

// settled reports whether a Deployment's own rollout has ended, as kubectl rollout status reads it.
func settled(d *appsv1.Deployment) bool {
	want := ptr.Deref(d.Spec.Replicas, 1)
	s := d.Status
	return s.ObservedGeneration >= d.Generation && s.UpdatedReplicas >= want && s.Replicas == s.UpdatedReplicas && s.AvailableReplicas >= want
}

// readRecords reads what is known of versions: records, and the Deployments that run them.
func (r *Reconciler) readRecords(ctx context.Context, w *world) error {
	if w.scope.Template == nil {
		return nil
	}
	var list appsv1.ControllerRevisionList
	if err := r.Client.List(ctx, &list, client.InNamespace(w.shift.Namespace), client.MatchingLabels{v1alpha1.LabelShift: w.shift.Name}); err != nil {
		return fmt.Errorf("listing ControllerRevisions: %w", err)
	}
	w.records = w.scope.Records
	for i := range list.Items {
		if version, ok := w.versionOf(list.Items[i].Name); ok && w.ours(&list.Items[i]) {
			w.records[version] = &list.Items[i]
		}
	}
	versions := map[string]shift.Version{}
	for version, record := range w.records {
		verdict := record.Annotations[v1alpha1.AnnotationVerdict]
		versions[version] = shift.Version{Name: version, Recorded: true, Proven: verdict == v1alpha1.ReasonPromoted, Verdict: verdict}
	}
	for name, d := range w.deployments {
		version, ok := w.versionOf(name)
		if !ok || !w.ours(d) || !d.DeletionTimestamp.IsZero() {
			continue
		}
		v := versions[version]
		v.Name, v.Exists = version, true
		v.Replicas, v.Ready, v.Available = ptr.Deref(d.Spec.Replicas, 1), d.Status.ReadyReplicas, d.Status.AvailableReplicas
		v.RestartedAt = d.Spec.Template.Annotations[v1alpha1.AnnotationRestartedAt]
		w.scope.Restarted[version] = v.RestartedAt
		versions[version] = v
	}
	for _, v := range versions {
		w.observation.Versions = append(w.observation.Versions, v)
	}
	slices.SortFunc(w.observation.Versions, func(a, b shift.Version) int { return cmp.Compare(shift.Number(a.Name), shift.Number(b.Name)) })
	if err := w.matchTemplate(); err != nil {
		return err
	}
	if w.scope.Config != nil {
		w.scope.Configured = w.observation.Template.Version
	}
	return nil
}

// versionOf reads "v2" out of "micro-api-v2".
func (w *world) versionOf(name string) (string, bool) {
	version, ok := strings.CutPrefix(name, w.shift.Name+"-")
	return version, ok && shift.Number(version) > 0
}

// matchTemplate finds the recorded version that the live template equals: by its record, or by its Deployment without what Sluice
// added, as the same API server shows both. Defaults that a cluster upgrade brings cancel out in the second, webhooks in the first.
func (w *world) matchTemplate() error {
	live := &w.scope.Template.Spec.Template
	state := w.shift.Status.State
	for _, v := range slices.Backward(w.observation.Versions) {
		record, ok := w.records[v.Name]
		if !ok {
			continue
		}
		recorded, err := plan.RecordedTemplate(record)
		if err != nil {
			return err
		}
		d := w.deployments[plan.VersionName(w.shift.Name, v.Name)]
		if !plan.SameTemplate(live, recorded) && (d == nil || !w.ours(d) || !plan.SameTemplate(live, plan.UserTemplate(d))) || !w.configured(v.Name, record) {
			continue
		}
		w.observation.Template.Version = v.Name
		if v.Name == state.Stable || v.Name == state.Candidate {
			return nil // of several equal versions, the one in use
		}
	}
	return nil
}

// nextVersion is the first name that was never used and that no other owner's Deployment has, nor a Service where it is to have one.
func (w *world) nextVersion() string {
	n := w.shift.Status.State.LastVersion
	for _, v := range w.observation.Versions {
		n = max(n, shift.Number(v.Name))
	}
	for {
		n++
		name := fmt.Sprintf("v%d", n)
		if _, taken := w.deployments[plan.VersionName(w.shift.Name, name)]; !taken && len(w.previewTaken(name)) == 0 {
			return name
		}
	}
}

// replicas is how many pods carry all of the traffic: the TrafficShift's own, or the template's where nobody has said.
func (w *world) replicas() int32 {
	if n := w.spec.Replicas; n != nil {
		return *n
	}
	if w.scope.Template == nil {
		return 0
	}
	if !w.observation.Template.Held {
		return ptr.Deref(w.scope.Template.Spec.Replicas, 1)
	}
	if stable, ok := w.deployments[plan.VersionName(w.shift.Name, w.shift.Status.State.Stable)]; ok {
		return ptr.Deref(stable.Spec.Replicas, 1)
	}
	return 1 // a held template's 0 is Sluice's own, and says nothing
}

// readPods adds to every version what its pods tell: restarts, and why a container cannot start.
func (r *Reconciler) readPods(ctx context.Context, w *world) error {
	for i := range w.observation.Versions {
		v := &w.observation.Versions[i]
		if !v.Exists || v.Replicas == 0 {
			continue
		}
		var pods corev1.PodList
		labels := client.MatchingLabels{v1alpha1.LabelVersion: plan.VersionName(w.shift.Name, v.Name)}
		if err := r.Client.List(ctx, &pods, client.InNamespace(w.shift.Namespace), labels); err != nil {
			return fmt.Errorf("listing pods of %s: %w", v.Name, err)
		}
		for j := range pods.Items {
			restarts, waiting := trouble(&pods.Items[j])
			v.Restarts, v.Waiting = max(v.Restarts, restarts), max(v.Waiting, waiting) // the same of several in any order
			w.noteBare(v.Name, &pods.Items[j])
		}
		v.Waiting = cmp.Or(v.Waiting, unmade(w.deployments[plan.VersionName(w.shift.Name, v.Name)]))
	}
	return nil
}

// trouble reads a pod's highest restart count, and why it, or a container of it, is kept from running. Starting up is no trouble.
func trouble(pod *corev1.Pod) (restarts int32, waiting string) {
	if !pod.DeletionTimestamp.IsZero() {
		return 0, ""
	}
	for _, c := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		restarts = max(restarts, c.RestartCount)
		if s := c.State.Waiting; s != nil && s.Reason != "ContainerCreating" && s.Reason != "PodInitializing" {
			waiting = cmp.Or(waiting, s.Reason)
		}
	}
	return restarts, cmp.Or(waiting, unscheduled(pod))
}

// readMesh reads the objects of our names. Whether they are ours is for those to ask who use them.
func (r *Reconciler) readMesh(ctx context.Context, w *world) error {
	w.tables = map[string]*networkingv1.VirtualService{}
	for _, name := range []string{w.shift.Name, plan.HostsName(w.shift.Name), plan.PreviewName(w.shift.Name)} {
		vs := &networkingv1.VirtualService{}
		if found, err := r.read(ctx, w.shift.Namespace, name, vs); err != nil {
			return err
		} else if found {
			w.tables[name] = vs
		}
	}
	if err := r.readPreviewHosts(ctx, w); err != nil {
		return err
	}
	if err := r.readRule(ctx, w); err != nil {
		return err
	}
	gateway := &networkingv1.Gateway{}
	found, err := r.read(ctx, w.shift.Namespace, w.shift.Name, gateway)
	if err != nil {
		return err
	}
	if found {
		w.gateway = gateway
	}
	return nil
}

// readRule reads our DestinationRule, which stands beside the user's own where that has the name.
func (r *Reconciler) readRule(ctx context.Context, w *world) error {
	rule, beside := &networkingv1.DestinationRule{}, &networkingv1.DestinationRule{}
	found, err := r.read(ctx, w.shift.Namespace, w.shift.Name, rule)
	if err != nil {
		return err
	}
	two, err := r.read(ctx, w.shift.Namespace, plan.RuleBeside(w.shift.Name), beside)
	if err != nil {
		return err
	}
	switch {
	case two && w.ours(beside):
		w.rule, w.scope.RuleBeside = beside, true
	case found && !w.ours(rule):
		w.scope.RuleBeside = true
		if two {
			w.rule = beside // somebody else's: its name is taken
		}
	case found:
		w.rule = rule
	}
	return nil
}

func (r *Reconciler) read(ctx context.Context, namespace, name string, into client.Object) (bool, error) {
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, into)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading %T %s/%s: %w", into, namespace, name, err)
	}
	return true, nil
}

// live returns the object of the world that a planned object would change, nil where there is none.
func (w *world) live(o plan.Object) client.Object {
	var live client.Object
	switch o.(type) {
	case *appsv1.Deployment:
		if d, ok := w.deployments[o.GetName()]; ok {
			live = d
		}
	case *appsv1.ControllerRevision:
		if version, ok := w.versionOf(o.GetName()); ok && w.records[version] != nil {
			live = w.records[version]
		}
	case *corev1.Service:
		for i := range w.services {
			if w.services[i].Name == o.GetName() {
				live = &w.services[i]
			}
		}
		if version, ok := w.versionOf(o.GetName()); ok && w.previews[version] != nil {
			live = w.previews[version]
		}
	case *networkingv1.VirtualService:
		if vs, ok := w.tables[o.GetName()]; ok {
			live = vs
		}
	case *networkingv1.DestinationRule:
		if w.rule != nil && w.rule.Name == o.GetName() {
			live = w.rule
		}
	case *autoscalingv2.HorizontalPodAutoscaler:
		if hpa := w.autoscalers.named; hpa != nil {
			live = hpa
		}
	case *networkingv1.Gateway:
		if w.gateway != nil {
			live = w.gateway
		}
	case *unstructured.Unstructured:
		if so := w.autoscalers.scaled.named; so != nil && so.GetName() == o.GetName() && so.GroupVersionKind() == o.GetObjectKind().GroupVersionKind() {
			live = so
		}
	}
	if live == nil {
		return w.liveGatewayAPI(o)
	}
	return live
}
