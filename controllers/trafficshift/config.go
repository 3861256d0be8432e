package trafficshift

import (
	"context"
	"fmt"
	"slices"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/plan"
	"github.com/sluice-dev/sluice/controllers/shift"
)

// digests remembers what was made of ConfigMaps and Secrets, by resourceVersion: their contents are asked for when they have changed, and never
// kept.
type digests struct {
	lock sync.Mutex
	of   map[digestKey]digest
}

// digestLimit is how many are remembered. Names that change with their contents are never asked for again, so beyond that all are forgotten,
// and made again as they are needed.
const digestLimit = 10_000

// digestKey is one object, and what one template takes of it.
type digestKey struct {
	types.NamespacedName
	kind, keys string
}

type digest struct{ version, sum string }

func (d *digests) get(key digestKey, version string) (string, bool) {
	d.lock.Lock()
	defer d.lock.Unlock()
	found, ok := d.of[key]
	return found.sum, ok && found.version == version
}

func (d *digests) put(key digestKey, version, sum string) {
	d.lock.Lock()
	defer d.lock.Unlock()
	if d.of == nil || len(d.of) >= digestLimit {
		d.of = map[digestKey]digest{}
	}
	d.of[key] = digest{version, sum}
}

// tracks reports whether a change of configuration is a release of this service.
func (r *Reconciler) tracks(w *world) bool {
	return w.spec.ConfigTracking && r.Config.ConfigTracking && w.scope.Template != nil
}

// readConfig reads the digests of what the template refers to. One that is missing and not optional leaves its digest open: nothing that could
// start without it is to be released.
func (r *Reconciler) readConfig(ctx context.Context, w *world) error {
	if !r.tracks(w) {
		return nil
	}
	w.scope.Config = plan.Config{}
	for _, ref := range plan.ConfigRefs(&w.scope.Template.Spec.Template) {
		sum, err := r.digest(ctx, w.shift.Namespace, ref)
		if err != nil {
			return err
		}
		if sum != "" {
			w.scope.Config[ref.ID()] = sum
		}
	}
	return nil
}

// digest is empty where a reference does not count: it is missed, or it asks to be left out.
func (r *Reconciler) digest(ctx context.Context, namespace string, ref plan.ConfigRef) (string, error) {
	found := &metav1.PartialObjectMetadata{}
	found.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind(ref.Kind))
	key := digestKey{types.NamespacedName{Namespace: namespace, Name: ref.Name}, ref.Kind, fmt.Sprint(ref.Keys)}
	err := r.Client.Get(ctx, key.NamespacedName, found)
	switch {
	case apierrors.IsNotFound(err) && ref.Optional:
		return plan.Absent, nil
	case apierrors.IsNotFound(err):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("reading %s %s: %w", ref.Kind, key.NamespacedName, err)
	case found.Annotations[v1alpha1.AnnotationTracking] == v1alpha1.TrackingDisabled:
		return "", nil
	}
	if sum, ok := r.digests.get(key, found.ResourceVersion); ok {
		return sum, nil
	}
	data, version, err := r.contents(ctx, key)
	if err != nil {
		return "", err
	}
	sum := ref.Digest(data)
	r.digests.put(key, version, sum)
	return sum, nil
}

// contents reads past the cache, which holds no contents.
func (r *Reconciler) contents(ctx context.Context, key digestKey) (data map[string][]byte, version string, err error) {
	if key.kind == plan.Secret {
		secret := &corev1.Secret{}
		if err := r.Live.Get(ctx, key.NamespacedName, secret); err != nil {
			return nil, "", fmt.Errorf("reading Secret %s: %w", key.NamespacedName, err)
		}
		return secret.Data, secret.ResourceVersion, nil
	}
	config := &corev1.ConfigMap{}
	if err := r.Live.Get(ctx, key.NamespacedName, config); err != nil {
		return nil, "", fmt.Errorf("reading ConfigMap %s: %w", key.NamespacedName, err)
	}
	data = map[string][]byte{}
	for name, text := range config.Data {
		data[name] = []byte(text)
	}
	for name, raw := range config.BinaryData {
		data[name] = raw
	}
	return data, config.ResourceVersion, nil
}

// configured reports whether a recorded version runs with the configuration as it is now; where it does not, and is the one that users are on,
// it says what has changed.
func (w *world) configured(version string, record *appsv1.ControllerRevision) bool {
	changed := w.scope.Config.Changed(plan.RecordedConfig(record))
	if version == w.shift.Status.State.Stable {
		w.observation.Template.Changed = changed
	}
	return len(changed) == 0
}

// checkTracking refuses to track what the controller may not read.
func (r *Reconciler) checkTracking(w *world) []shift.Problem {
	if !w.spec.ConfigTracking || r.Config.ConfigTracking {
		return nil
	}
	return []shift.Problem{problem(v1alpha1.ReasonConfigTrackingOff,
		"spec.configTracking: true, but the controller may not read ConfigMaps and Secrets; its administrator allows it with the chart's value configTracking.enabled: true; or leave the field, or the annotation %s, out",
		v1alpha1.AnnotationTracking)}
}

// watchConfig adds the watches that tracking needs: of metadata alone.
func (r *Reconciler) watchConfig(b *builder.Builder) *builder.Builder {
	if !r.Config.ConfigTracking {
		return b
	}
	for kind, o := range map[string]client.Object{plan.ConfigMap: &corev1.ConfigMap{}, plan.Secret: &corev1.Secret{}} {
		b = b.Watches(o, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
			return r.byConfig(ctx, plan.ConfigRef{Kind: kind, Name: o.GetName()}, o.GetNamespace())
		}), builder.OnlyMetadata)
	}
	return b
}

// byConfig maps a ConfigMap or Secret to the shifts that track it.
func (r *Reconciler) byConfig(ctx context.Context, ref plan.ConfigRef, namespace string) []reconcile.Request {
	var list v1alpha1.TrafficShiftList
	if err := r.Client.List(ctx, &list, client.InNamespace(namespace)); err != nil {
		return nil
	}
	var requests []reconcile.Request
	for i := range list.Items {
		template := &appsv1.Deployment{}
		ts := &list.Items[i]
		if !ts.Spec.ConfigTracking || r.Client.Get(ctx, client.ObjectKeyFromObject(ts), template) != nil {
			continue
		}
		if slices.ContainsFunc(plan.ConfigRefs(&template.Spec.Template), func(used plan.ConfigRef) bool { return used.ID() == ref.ID() }) {
			requests = append(requests, request(namespace, ts.Name)...)
		}
	}
	return requests
}
