package trafficshift

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/apply"
	"github.com/sluice-dev/sluice/controllers/plan"
	"github.com/sluice-dev/sluice/controllers/shift"
)

var scaledObjectList = schema.GroupVersionKind{
	Group: plan.ScaledObjectKind.Group, Version: plan.ScaledObjectKind.Version, Kind: plan.ScaledObjectKind.Kind + "List",
}

// scaledObjectsWatch finds KEDA in the cluster, and watches the metadata of its ScaledObjects: they are read past the cache where they
// matter, which is rarely.
func (r *Reconciler) scaledObjectsWatch(cache cache.Cache) *lateWatch {
	var o client.Object = &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: plan.ScaledObjectKind.GroupVersion().String(), Kind: plan.ScaledObjectKind.Kind}}
	changed := predicate.Or(predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{}) // not each time that KEDA has looked at its triggers
	return &lateWatch{
		title: "KEDA", kinds: []schema.GroupVersionKind{plan.ScaledObjectKind},
		sources: []source.Source{source.Kind(cache, o, handler.EnqueueRequestsFromMapFunc(r.byNamespace), changed)},
	}
}

// scaledObjects are what KEDA scales a service by.
type scaledObjects struct {
	// template are those that target the Deployment, shift those of other owners that target the TrafficShift.
	template, shift []*unstructured.Unstructured
	// named is the one that has the name of ours, whoever owns it. Paused are those that Sluice has paused for this shift.
	named  *unstructured.Unstructured
	paused []*unstructured.Unstructured
}

// readScaledObjects reads the ScaledObjects that matter for the service.
func (r *Reconciler) readScaledObjects(ctx context.Context, w *world) error {
	if wanted, err := r.wantsScaledObjects(ctx, w); err != nil || !wanted {
		return err
	}
	all, err := r.listScaledObjects(ctx, w.shift.Namespace)
	if err != nil {
		return err
	}
	s := &w.autoscalers.scaled
	for _, o := range all {
		if o.GetName() == plan.AutoscalerName(w.shift.Name) {
			s.named = o
		}
		if pausedFor(o, w.shift.Name) {
			s.paused = append(s.paused, o)
		}
		ref := targetOf(o)
		switch {
		case ref.Name != w.shift.Name || w.ours(o):
		case ref.Kind == "Deployment":
			s.template = append(s.template, o)
		case ref.Kind == "TrafficShift":
			s.shift = append(s.shift, o)
		}
	}
	return nil
}

// wantsScaledObjects reports whether it is worth asking for them: where one is to be followed or has to do with the shift already, and when a
// release, or the first version, is about to start. At other times the autoscaler that KEDA makes tells.
func (r *Reconciler) wantsScaledObjects(ctx context.Context, w *world) (bool, error) {
	state, version := w.shift.Status.State, w.observation.Template.Version
	starting := state.Weight == 0 && (state.Candidate != "" || version == "" || version != state.Stable && version != state.Rejected)
	if present, err := r.KEDA(); err != nil || !present {
		return false, err
	}
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(scaledObjectList)
	if err := r.Client.List(ctx, list, client.InNamespace(w.shift.Namespace)); err != nil {
		return false, fmt.Errorf("listing ScaledObjects: %w", err)
	}
	return len(list.Items) > 0 && (starting || w.spec.Autoscaler == v1alpha1.AutoscalerFollow) ||
		slices.ContainsFunc(list.Items, func(o metav1.PartialObjectMetadata) bool {
			return o.Name == plan.AutoscalerName(w.shift.Name) || pausedFor(&o, w.shift.Name)
		}), nil
}

// listScaledObjects reads past the cache. A cluster without KEDA has none.
func (r *Reconciler) listScaledObjects(ctx context.Context, namespace string) ([]*unstructured.Unstructured, error) {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(scaledObjectList)
	if err := r.Live.List(ctx, list, client.InNamespace(namespace)); err != nil {
		if meta.IsNoMatchError(err) || apierrors.IsNotFound(err) { // never there, or not any more
			return nil, nil
		}
		return nil, fmt.Errorf("listing ScaledObjects: %w", err)
	}
	var all []*unstructured.Unstructured
	for i := range list.Items {
		all = append(all, &list.Items[i])
	}
	slices.SortFunc(all, named)
	return all, nil
}

// targetOf is what a ScaledObject scales: a Deployment where it does not say.
func targetOf(o *unstructured.Unstructured) autoscalingv2.CrossVersionObjectReference {
	ref := autoscalingv2.CrossVersionObjectReference{Kind: "Deployment"}
	if kind, found, _ := unstructured.NestedString(o.Object, "spec", "scaleTargetRef", "kind"); found && kind != "" {
		ref.Kind = kind
	}
	ref.Name, _, _ = unstructured.NestedString(o.Object, "spec", "scaleTargetRef", "name")
	return ref
}

func pausedFor(o metav1.Object, name string) bool {
	return o.GetAnnotations()[v1alpha1.AnnotationPausedFor] == name && apply.Managed(o, v1alpha1.FieldManager)
}

// scaledObjectOf is the name of the ScaledObject that an autoscaler was made for.
func scaledObjectOf(hpa *autoscalingv2.HorizontalPodAutoscaler) string {
	if ref := metav1.GetControllerOf(hpa); ref != nil && ref.Kind == plan.ScaledObjectKind.Kind {
		return ref.Name
	}
	return ""
}

// made reports whether KEDA made an autoscaler for a ScaledObject that was read, which then stands for it.
func (s scaledObjects) made(hpa *autoscalingv2.HorizontalPodAutoscaler) bool {
	name := scaledObjectOf(hpa)
	is := func(o *unstructured.Unstructured) bool { return o.GetName() == name }
	return name != "" && (slices.ContainsFunc(s.template, is) || slices.ContainsFunc(s.shift, is) || s.named != nil && is(s.named))
}

// scopeScaledObjects says what ours is to be made from, what is to be paused, and what is to be let go of.
func (w *world) scopeScaledObjects() {
	s := w.autoscalers.scaled
	scaled := plan.Scaled{Following: s.named != nil && w.ours(s.named), Paused: s.paused}
	if w.follows() && len(s.template) > 0 {
		scaled.Object = asWritten(s.template[0])
		_, written := scaled.Object.GetAnnotations()[plan.KEDAPaused]
		scaled.Pausable = !written
	}
	for _, o := range s.paused {
		if w.spec.Autoscaler != v1alpha1.AutoscalerFollow || !slices.Contains(s.template, o) {
			scaled.Strays = append(scaled.Strays, o)
		}
	}
	w.scope.Scaled = scaled
}

// asWritten is a ScaledObject as its owner has written it: without a pause that is Sluice's alone.
func asWritten(o *unstructured.Unstructured) *unstructured.Unstructured {
	annotations := maps.Clone(o.GetAnnotations())
	if apply.OwnedAlone(o, v1alpha1.FieldManager, "metadata", "annotations", plan.KEDAPaused) {
		delete(annotations, plan.KEDAPaused)
	}
	written := o.DeepCopy()
	written.SetAnnotations(annotations)
	return written
}

// scaledObjectProblem says what is wrong with a ScaledObject that nobody has asked to follow.
func (w *world) scaledObjectProblem(name string) string {
	return fmt.Sprintf("ScaledObject %s/%s targets the Deployment, which Sluice holds at 0 and KEDA would wake; %s", w.shift.Namespace, name, w.retargetOrFollow())
}

// lateKEDA says why a ScaledObject cannot be followed that was not read: the cluster has only just got KEDA.
func (w *world) lateKEDA(name string) string {
	return fmt.Sprintf("ScaledObject %s/%s cannot be followed yet, because the cluster had no such kind when it was asked last; it is asked again every %s, or %s", w.shift.Namespace, name, askAgain, w.retarget())
}

// checkScaledObject refuses a ScaledObject that cannot be followed although its owner asks for it. One that becomes so later is followed all
// the same, as far as it can be: without it nothing would scale the service.
func (w *world) checkScaledObject(o *unstructured.Unstructured) []shift.Problem {
	if ours := w.autoscalers.scaled.named; ours != nil && !w.ours(ours) {
		return []shift.Problem{nameTaken(plan.ScaledObjectKind.Kind, ours)}
	}
	return w.refuseAutoscaler(w.scaledObjectUnfit(asWritten(o)))
}

// nameLimit is how long the name of the autoscaler that KEDA makes may be: it is a label's value as well.
const nameLimit = 63

// scaledObjectUnfit says why a ScaledObject cannot be followed, and what to do.
func (w *world) scaledObjectUnfit(o *unstructured.Unstructured) string {
	title := fmt.Sprintf("ScaledObject %s/%s", o.GetNamespace(), o.GetName())
	paused, has := o.GetAnnotations()[plan.KEDAPaused]
	replicas, fixed := o.GetAnnotations()[plan.KEDAPausedReplicas]
	made := "keda-hpa-" + plan.AutoscalerName(w.shift.Name)
	switch {
	case has && !kedaPauses(paused):
		return fmt.Sprintf("%s has the annotation %s: %q, so that KEDA would go on scaling the Deployment, which Sluice holds at 0; take it out", title, plan.KEDAPaused, paused)
	case fixed && replicas != "0":
		return fmt.Sprintf("%s has the annotation %s: %q, to which KEDA would scale the Deployment, which Sluice holds at 0; pause with %s: \"true\" instead, and scale the TrafficShift",
			title, plan.KEDAPausedReplicas, replicas, plan.KEDAPaused)
	case len(made) > nameLimit:
		return fmt.Sprintf("%s cannot be followed: KEDA would name an autoscaler %s, which is longer than %d characters; %s", title, made, nameLimit, w.retarget())
	}
	return environmentTrigger(title, o)
}

// kedaPauses reports whether KEDA takes a value of its annotation for a pause: whatever is no word for false.
func kedaPauses(value string) bool {
	paused, err := strconv.ParseBool(value)
	return paused || err != nil
}

// environmentTrigger finds a trigger with a setting that KEDA looks up in the environment of the target's container. A TrafficShift has none.
func environmentTrigger(title string, o *unstructured.Unstructured) string {
	triggers, _, _ := unstructured.NestedSlice(o.Object, "spec", "triggers")
	for i, t := range triggers {
		trigger, _ := t.(map[string]any)
		metadata, _ := trigger["metadata"].(map[string]any)
		for _, key := range slices.Sorted(maps.Keys(metadata)) {
			if strings.HasSuffix(key, "FromEnv") {
				return fmt.Sprintf("%s reads spec.triggers[%d].metadata.%s from the environment of the Deployment's container, and a TrafficShift has no containers; write the value, or give the trigger an authenticationRef",
					title, i, key)
			}
		}
	}
	return ""
}

// byName finds the one of the user's that is to be paused, or let go of.
func (s scaledObjects) byName(name string) *unstructured.Unstructured {
	for _, o := range slices.Concat(s.template, s.paused) {
		if o.GetName() == name {
			return o
		}
	}
	return nil
}

// wakeScaledObjects has KEDA scale by what was paused for a shift that is gone, or whose Deployment is.
func (r *Reconciler) wakeScaledObjects(ctx context.Context, ts *v1alpha1.TrafficShift) error {
	if present, err := r.KEDA(); err != nil || !present {
		return err
	}
	all, err := r.listScaledObjects(ctx, ts.Namespace)
	if err != nil {
		return err
	}
	for _, o := range all {
		if !pausedFor(o, ts.Name) {
			continue
		}
		if _, err := r.writer().Withdraw(ctx, o); err != nil {
			return err
		}
	}
	return nil
}
