package trafficshift

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/plan"
	"github.com/sluice-dev/sluice/controllers/shift"
)

// starting reports whether a version is about to be named and its pods to be made. What matters only then is asked only then, past the
// cache: a shift at rest asks nothing.
func (w *world) starting() bool {
	state, version := w.shift.Status.State, w.observation.Template.Version
	switch state.Phase {
	case "":
		return true
	case v1alpha1.PhaseAdopting:
		return state.Stable == ""
	case v1alpha1.PhaseStable, v1alpha1.PhaseFailed:
		return version == "" || version != state.Stable && version != state.Rejected || w.retried()
	}
	return false
}

// retried reports whether somebody asks to try a refused version again.
func (w *world) retried() bool {
	return slices.ContainsFunc(requestsOf(w.shift), func(r shift.Request) bool { return r.Action == v1alpha1.ActionRetry })
}

// checkRoom asks whether the pods of another version fit beside those that run.
func (r *Reconciler) checkRoom(ctx context.Context, w *world) ([]shift.Problem, error) {
	if !w.starting() {
		return nil, nil
	}
	problems, err := r.checkVolumes(ctx, w)
	if err != nil {
		return nil, err
	}
	exceeded, err := r.checkQuotas(ctx, w)
	return append(problems, exceeded...), err
}

// checkVolumes refuses volumes that one node, or one pod, may mount at a time: the pods of two versions run at the same time.
func (r *Reconciler) checkVolumes(ctx context.Context, w *world) ([]shift.Problem, error) {
	var problems []shift.Problem
	for _, v := range w.scope.Template.Spec.Template.Spec.Volumes {
		if v.PersistentVolumeClaim == nil {
			continue
		}
		claim := &corev1.PersistentVolumeClaim{}
		key := client.ObjectKey{Namespace: w.shift.Namespace, Name: v.PersistentVolumeClaim.ClaimName}
		if err := r.Live.Get(ctx, key, claim); apierrors.IsNotFound(err) {
			continue // the pods say so, when they wait for it
		} else if err != nil {
			return nil, fmt.Errorf("reading PersistentVolumeClaim %s: %w", key, err)
		}
		if slices.Contains(claim.Spec.AccessModes, corev1.ReadWriteMany) || slices.Contains(claim.Spec.AccessModes, corev1.ReadOnlyMany) {
			continue
		}
		problems = append(problems, problem(v1alpha1.ReasonVolumeNotShareable,
			"volume %q of the pod template of Deployment %s/%s is the PersistentVolumeClaim %s with the access modes %v, and pods of two versions must mount it at a time; accepted are claims with ReadWriteMany or ReadOnlyMany: use one, a volume of each pod's own (ephemeral), or a store outside the pods",
			v.Name, w.shift.Namespace, w.shift.Name, claim.Name, claim.Spec.AccessModes))
	}
	return problems, nil
}

// checkQuotas asks whether the namespace has room for the pods that come beside those that run.
func (r *Reconciler) checkQuotas(ctx context.Context, w *world) ([]shift.Problem, error) {
	pods := w.podsToCome()
	if pods <= 0 {
		return nil, nil
	}
	var quotas corev1.ResourceQuotaList
	if err := r.Live.List(ctx, &quotas, client.InNamespace(w.shift.Namespace)); err != nil {
		return nil, fmt.Errorf("listing ResourceQuotas: %w", err)
	}
	pod := w.podToCome()
	need := usage(pod, int64(pods))
	var short []string
	for i := range quotas.Items {
		if q := &quotas.Items[i]; covers(q, pod) {
			short = append(short, lacking(q, need, w.freed(q))...)
		}
	}
	if len(short) == 0 {
		return nil, nil
	}
	slices.Sort(short)
	return []shift.Problem{problem(v1alpha1.ReasonQuotaExceeded,
		"%d pods of the next version of Deployment %s/%s must fit beside those that run, and do not: %s; raise the quota, lower the requests of the template, or scale TrafficShift %s down",
		pods, w.shift.Namespace, w.shift.Name, strings.Join(short, ", "), w.shift.Name)}, nil
}

// freed is what a quota gets back when the next version starts: the pods of a refused one are kept until then, and no longer.
func (w *world) freed(q *corev1.ResourceQuota) corev1.ResourceList {
	freed := corev1.ResourceList{}
	for _, r := range w.shift.Status.State.Retiring {
		dep := w.deployments[plan.VersionName(w.shift.Name, r.Version)]
		if r.KeptSince == nil || dep == nil || r.Version == w.observation.Template.Version { // its own pods count as there already
			continue
		}
		if pod := w.withProxy(&dep.Spec.Template.Spec); covers(q, pod) {
			freed = usage(pod, int64(dep.Status.Replicas))
			delete(freed, "count/deployments.apps") // these stay
			delete(freed, "count/replicasets.apps")
		}
	}
	return freed
}

// podsToCome is how many pods more there are at the most, without those that the next version has already.
func (w *world) podsToCome() int32 {
	for _, v := range w.observation.Versions {
		if v.Name == w.observation.Template.Version && v.Exists {
			return w.overlap() - v.Replicas
		}
	}
	return w.overlap()
}

// overlap is how many pods a version that is introduced takes beside those that run: the first one all of them, whatever the spec says
// of later ones, because the Deployment's own go on until it has the traffic.
func (w *world) overlap() int32 {
	if phase := w.shift.Status.State.Phase; phase == "" || phase == v1alpha1.PhaseAdopting {
		return w.replicas()
	}
	if shift.RollsBack(w.spec, w.shift.Status.State, w.observation) {
		return w.replicas() // all of them at once
	}
	return shift.Overlap(w.spec, w.replicas())
}

// podToCome is a pod of the next version.
func (w *world) podToCome() *corev1.PodSpec { return w.withProxy(&w.scope.Template.Spec.Template.Spec) }

// withProxy is a pod with the sidecar that one of the stable version's pods was given.
func (w *world) withProxy(spec *corev1.PodSpec) *corev1.PodSpec {
	pod := spec.DeepCopy()
	if w.proxy != nil && !hasProxy(pod) {
		pod.Containers = append(pod.Containers, *w.proxy)
	}
	return pod
}

// usage is what so many pods count for in a quota, by the names that quotas have for it.
func usage(pod *corev1.PodSpec, pods int64) corev1.ResourceList {
	need := corev1.ResourceList{}
	add := func(name corev1.ResourceName, q resource.Quantity) {
		q.Mul(pods)
		need[name] = q
	}
	for name, q := range total(pod, func(c corev1.ResourceRequirements) corev1.ResourceList { return c.Requests }) {
		add(corev1.ResourceName("requests."+string(name)), q)
		add(name, q) // "cpu" means "requests.cpu"
	}
	for name, q := range total(pod, func(c corev1.ResourceRequirements) corev1.ResourceList { return c.Limits }) {
		add(corev1.ResourceName("limits."+string(name)), q)
	}
	for _, name := range []corev1.ResourceName{corev1.ResourcePods, "count/pods"} {
		add(name, resource.MustParse("1"))
	}
	for _, name := range []corev1.ResourceName{"count/deployments.apps", "count/replicasets.apps"} {
		need[name] = resource.MustParse("1")
	}
	return need
}

// total adds up the containers of a pod as the scheduler does: those that run together, or an init container that needs more before.
func total(pod *corev1.PodSpec, of func(corev1.ResourceRequirements) corev1.ResourceList) corev1.ResourceList {
	sum, peak := corev1.ResourceList{}, corev1.ResourceList{}
	plus := func(to, more corev1.ResourceList) {
		for name, q := range more {
			s := to[name]
			s.Add(q)
			to[name] = s
		}
	}
	atLeast := func(to, least corev1.ResourceList) {
		for name, q := range least {
			if s := to[name]; s.Cmp(q) < 0 {
				to[name] = q
			}
		}
	}
	for _, c := range pod.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			plus(sum, of(c.Resources)) // a native sidecar stays
			continue
		}
		during := sum.DeepCopy()
		plus(during, of(c.Resources))
		atLeast(peak, during)
	}
	for _, c := range pod.Containers {
		plus(sum, of(c.Resources))
	}
	atLeast(sum, peak)
	if pod.Resources != nil {
		maps.Copy(sum, of(*pod.Resources)) // what the pod says as a whole holds
	}
	plus(sum, pod.Overhead)
	return sum
}

// covers reports whether a quota counts such pods. Of a scope that cannot be told from the template nothing is refused.
func covers(q *corev1.ResourceQuota, pod *corev1.PodSpec) bool {
	for _, scope := range q.Spec.Scopes {
		if !inScope(corev1.ScopedResourceSelectorRequirement{ScopeName: scope, Operator: corev1.ScopeSelectorOpExists}, pod) {
			return false
		}
	}
	if q.Spec.ScopeSelector != nil {
		for _, s := range q.Spec.ScopeSelector.MatchExpressions {
			if !inScope(s, pod) {
				return false
			}
		}
	}
	return true
}

func inScope(s corev1.ScopedResourceSelectorRequirement, pod *corev1.PodSpec) bool {
	requests := total(pod, func(c corev1.ResourceRequirements) corev1.ResourceList { return c.Requests })
	limits := total(pod, func(c corev1.ResourceRequirements) corev1.ResourceList { return c.Limits })
	switch s.ScopeName {
	case corev1.ResourceQuotaScopeNotTerminating:
		return pod.ActiveDeadlineSeconds == nil
	case corev1.ResourceQuotaScopeBestEffort:
		return len(requests)+len(limits) == 0
	case corev1.ResourceQuotaScopeNotBestEffort:
		return len(requests)+len(limits) > 0
	case corev1.ResourceQuotaScopePriorityClass:
		switch s.Operator {
		case corev1.ScopeSelectorOpIn:
			return slices.Contains(s.Values, pod.PriorityClassName)
		case corev1.ScopeSelectorOpNotIn:
			return pod.PriorityClassName != "" && !slices.Contains(s.Values, pod.PriorityClassName)
		case corev1.ScopeSelectorOpExists:
			return pod.PriorityClassName != ""
		}
	}
	return false
}

// lacking says of what a quota has too little left.
func lacking(q *corev1.ResourceQuota, need, freed corev1.ResourceList) []string {
	var short []string
	for name, hard := range q.Status.Hard {
		want, asked := need[name]
		used := q.Status.Used[name]
		after := used.DeepCopy()
		after.Add(want)
		after.Sub(freed[name])
		if !asked || after.Cmp(hard) <= 0 {
			continue
		}
		short = append(short, fmt.Sprintf("they need %s %s, and ResourceQuota %s/%s has %s of %s used", name, want.String(), q.Namespace, q.Name, used.String(), hard.String()))
	}
	return short
}

// advise notes what does not stand in the way.
func (w *world) advise(reason, format string, args ...any) {
	w.advice = append(w.advice, problem(reason, format, args...))
}

// adviseOnNodes tells what keeps pods of two versions off one node: there must be as many more nodes, or the candidate's pods stay
// pending. Nodes come and go, so nothing is refused.
func (w *world) adviseOnNodes() {
	pod := &w.scope.Template.Spec.Template
	if !pod.Spec.HostNetwork {
		for _, c := range pod.Spec.Containers {
			for _, p := range c.Ports {
				if p.HostPort != 0 {
					w.advise(v1alpha1.ReasonHostPorts, "container %s of Deployment %s/%s takes hostPort %d, so that no node runs pods of two versions: %d more nodes must be free for a candidate; take hostPort out where a Service will do",
						c.Name, w.shift.Namespace, w.shift.Name, p.HostPort, w.overlap())
				}
			}
		}
	}
	if key := keepsApart(pod); key != "" {
		w.advise(v1alpha1.ReasonAntiAffinity, "the required podAntiAffinity of Deployment %s/%s keeps pods of two versions apart by %s: %d more of these must be free for a candidate; make it preferred, or add matchLabelKeys: [pod-template-hash]",
			w.shift.Namespace, w.shift.Name, key, w.overlap())
	}
}

// keepsApart is the topology by which a template's own pods, of whatever version, refuse to be together; empty where they do not.
func keepsApart(pod *corev1.PodTemplateSpec) string {
	if pod.Spec.Affinity == nil || pod.Spec.Affinity.PodAntiAffinity == nil {
		return ""
	}
	own := maps.Clone(pod.Labels)
	delete(own, v1alpha1.LabelIstioVersion) // each version has another
	for _, term := range pod.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
		if len(term.Namespaces) == 0 && term.NamespaceSelector == nil && len(term.MatchLabelKeys) == 0 && selectsLabels(term.LabelSelector, own) {
			return term.TopologyKey
		}
	}
	return ""
}

func selectsLabels(s *metav1.LabelSelector, set map[string]string) bool {
	selector, err := metav1.LabelSelectorAsSelector(s)
	return err == nil && selector.Matches(labels.Set(set))
}
