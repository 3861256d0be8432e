// Package trafficshift is the reconciler of TrafficShifts. It is the only package that sees every stage: it observes the cluster,
// lets controllers/shift decide, lets controllers/plan turn the decision into objects, and writes them through controllers/apply.
package trafficshift

import (
	"context"
	"strings"
	"sync"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/apply"
	"github.com/sluice-dev/sluice/controllers/shift"
	"github.com/sluice-dev/sluice/metrics/exporter"
)

// Config is what is the same for every shift of a cluster.
type Config struct {
	// Timing are the mesh's delays.
	Timing shift.Timing
	// ClusterDomain ends every Service's name: cluster.local.
	ClusterDomain string
	// RootNamespace is Istio's: DestinationRules there apply to every namespace.
	RootNamespace string
	// GatewaySelector are the labels of the gateway pods that a Gateway of ours is for.
	GatewaySelector map[string]string
	// AllowedHosts and AllowedGateways are granted to a namespace whose administrator has said nothing.
	AllowedHosts, AllowedGateways []string
	// ConfigTracking is whether the controller may read ConfigMaps and Secrets.
	ConfigTracking bool
}

// Reconciler reconciles TrafficShifts.
type Reconciler struct {
	// Client reads from the manager's cache and writes. Live reads past it.
	Client client.Client
	Live   client.Reader
	// Recorder tells users what has happened; Exporter tells Prometheus.
	Recorder events.EventRecorder
	Exporter *exporter.Exporter
	Evidence Evidence
	Webhooks Webhooks
	Config   Config
	// Now is the clock.
	Now func() time.Time

	digests digests
	turns   turns
	// GatewayAPI reports whether the cluster has the Gateway API's routes, which are watched from then on. SetupWithManager sets it.
	GatewayAPI func() (bool, error)
	// KEDA reports the same of ScaledObjects.
	KEDA func() (bool, error)
}

// SetupWithManager registers the reconciler and its watches.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	b := r.watchConfig(ctrl.NewControllerManagedBy(mgr)).
		Named("trafficshift").
		For(&v1alpha1.TrafficShift{}).
		Watches(&appsv1.Deployment{}, handler.EnqueueRequestsFromMapFunc(byShift)).
		Watches(&networkingv1.VirtualService{}, handler.EnqueueRequestsFromMapFunc(r.byAttachment)).
		Watches(&networkingv1.DestinationRule{}, handler.EnqueueRequestsFromMapFunc(byLabel)).
		Watches(&networkingv1.Gateway{}, handler.EnqueueRequestsFromMapFunc(byLabel)).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(byPod)).
		Watches(&corev1.Service{}, handler.EnqueueRequestsFromMapFunc(r.byNamespace)).
		Watches(&corev1.Namespace{}, handler.EnqueueRequestsFromMapFunc(r.byNamespace), builder.WithPredicates(
			predicate.Or(predicate.AnnotationChangedPredicate{}, predicate.LabelChangedPredicate{}))).
		Watches(&v1alpha1.ShiftPolicy{}, handler.EnqueueRequestsFromMapFunc(r.byPolicy), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha1.TrafficShift{}, handler.EnqueueRequestsFromMapFunc(r.waitingBehind), builder.WithPredicates(queueMoves())).
		Watches(&autoscalingv2.HorizontalPodAutoscaler{}, handler.EnqueueRequestsFromMapFunc(byTarget), builder.WithPredicates(targetsChanged())).
		WatchesRawSource(source.Channel(r.news(), handler.EnqueueRequestsFromMapFunc(byName))).
		WithOptions(controller.Options{MaxConcurrentReconciles: 4, RateLimiter: retries()})
	c, err := b.Build(r)
	if err != nil {
		return err
	}
	routes, scaled := routesWatch(mgr.GetCache()), r.scaledObjectsWatch(mgr.GetCache())
	r.GatewayAPI, r.KEDA = routes.present, scaled.present
	for _, w := range []*lateWatch{routes, scaled} {
		w.mapper, w.watch, w.now = mgr.GetRESTMapper(), c.Watch, r.Now
		if _, err := w.present(); err != nil {
			return err
		}
	}
	return nil
}

// retries is how soon a pass that failed is tried again: what is being taken back must not wait for minutes after the API server has
// recovered, as it does with controller-runtime's own limit of a thousand seconds.
func retries() workqueue.TypedRateLimiter[reconcile.Request] {
	return workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](firstRetry, lastRetry)
}

const firstRetry, lastRetry = 100 * time.Millisecond, 10 * time.Second

// CacheByObject bounds what the manager keeps in memory: of pods and records only those of versions.
func CacheByObject() map[client.Object]cache.ByObject {
	ours := func(key string) labels.Selector {
		req, err := labels.NewRequirement(key, selection.Exists, nil)
		if err != nil { // the keys are constants
			panic(err)
		}
		return labels.NewSelector().Add(*req)
	}
	return map[client.Object]cache.ByObject{
		&corev1.Pod{}:                {Label: ours(v1alpha1.LabelVersion)},
		&appsv1.ControllerRevision{}: {Label: ours(v1alpha1.LabelShift)},
		&discoveryv1.EndpointSlice{}: {Label: ours(v1alpha1.LabelShift)},
	}
}

// byShift maps a Deployment to the shift that it is the template, or a version, of.
func byShift(_ context.Context, o client.Object) []reconcile.Request {
	if name, ok := o.GetLabels()[v1alpha1.LabelShift]; ok {
		return request(o.GetNamespace(), name)
	}
	return request(o.GetNamespace(), o.GetName())
}

func byLabel(_ context.Context, o client.Object) []reconcile.Request {
	name, ok := o.GetLabels()[v1alpha1.LabelShift]
	if !ok {
		return nil
	}
	return request(o.GetNamespace(), name)
}

func byName(_ context.Context, o client.Object) []reconcile.Request {
	return request(o.GetNamespace(), o.GetName())
}

// byPod maps a version's pod by its label "micro-api-v2".
func byPod(_ context.Context, o client.Object) []reconcile.Request {
	version := o.GetLabels()[v1alpha1.LabelVersion]
	if i := strings.LastIndex(version, "-"); i > 0 {
		return request(o.GetNamespace(), version[:i])
	}
	return nil
}

func byTarget(_ context.Context, o client.Object) []reconcile.Request {
	hpa, ok := o.(*autoscalingv2.HorizontalPodAutoscaler)
	if !ok {
		return nil
	}
	return request(hpa.Namespace, hpa.Spec.ScaleTargetRef.Name)
}

// targetsChanged lets an autoscaler through when its settings change, not each time it looks at its metrics.
func targetsChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		was, ok1 := e.ObjectOld.(*autoscalingv2.HorizontalPodAutoscaler)
		is, ok2 := e.ObjectNew.(*autoscalingv2.HorizontalPodAutoscaler)
		return !ok1 || !ok2 || !equality.Semantic.DeepEqual(was.Spec, is.Spec)
	}}
}

// byNamespace maps a Service or a Namespace to every shift there: what they say may stand in a shift's way, or no longer.
func (r *Reconciler) byNamespace(ctx context.Context, o client.Object) []reconcile.Request {
	namespace := o.GetNamespace()
	if namespace == "" {
		namespace = o.GetName()
	}
	var list v1alpha1.TrafficShiftList
	if err := r.Client.List(ctx, &list, client.InNamespace(namespace)); err != nil {
		return nil
	}
	requests := make([]reconcile.Request, 0, len(list.Items))
	for i := range list.Items {
		requests = append(requests, request(namespace, list.Items[i].Name)...)
	}
	return requests
}

// news turns the updates of evidence and webhooks into events: they wake the shifts that they are about, and no others.
func (r *Reconciler) news() <-chan event.GenericEvent {
	out := make(chan event.GenericEvent)
	wake := func(namespace, name string) {
		out <- event.GenericEvent{Object: &v1alpha1.TrafficShift{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}}
	}
	var sources sync.WaitGroup
	sources.Go(func() {
		for key := range r.Evidence.Updates() {
			wake(key.Namespace, key.Name)
		}
	})
	sources.Go(func() {
		for key := range r.Webhooks.Updates() {
			wake(key.Namespace, key.Name)
		}
	})
	go func() {
		defer close(out)
		sources.Wait()
	}()
	return out
}

func request(namespace, name string) []reconcile.Request {
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: namespace, Name: name}}}
}

func (r *Reconciler) writer() apply.Writer {
	return apply.Writer{Client: r.Client, Live: r.Live, Manager: v1alpha1.FieldManager}
}
