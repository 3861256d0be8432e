package apply_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/controllers/apply"
	"github.com/sluice-dev/sluice/controllers/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// fixture is a namespace with the Deployment that owns what is written.
type fixture struct {
	*testing.T
	client.Client
	apply.Writer
	ns    string
	owner *appsv1.Deployment
}

func setUp(t *testing.T) *fixture {
	t.Helper()
	t.Parallel()
	c, ns := testenv.Namespace(t)
	f := &fixture{T: t, Client: c, Writer: apply.Writer{Client: c, Live: c, Manager: "sluice"}, ns: ns}
	f.owner = deployment("micro-api", ns, 3)
	if err := c.Create(t.Context(), f.owner, client.FieldOwner("kubectl-create")); err != nil {
		t.Fatal(err)
	}
	return f
}

func deployment(name, ns string, replicas int32) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	return &appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: ns},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{
					Name: "app", Image: name + ":1.1", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}},
					Env: []corev1.EnvVar{{Name: "MODE", Value: "fast"}},
				}}},
			},
		},
	}
}

// objects are one of every kind that Sluice writes, controlled by the owner.
func (f *fixture) objects() map[string]client.Object {
	meta := metav1.ObjectMeta{
		Name: "micro-api", Namespace: f.ns, Labels: map[string]string{"app.kubernetes.io/managed-by": "sluice"},
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(f.owner, appsv1.SchemeGroupVersion.WithKind("Deployment"))},
	}
	istio := func(kind string) metav1.TypeMeta {
		return metav1.TypeMeta{APIVersion: "networking.istio.io/v1", Kind: kind}
	}
	vs := &networkingv1.VirtualService{TypeMeta: istio("VirtualService"), ObjectMeta: meta}
	vs.Spec.Hosts, vs.Spec.Gateways = []string{"micro-api.shop.svc.cluster.local"}, []string{"mesh"}
	destination := func(subset string) *networking.Destination {
		return &networking.Destination{Host: vs.Spec.Hosts[0], Subset: subset, Port: &networking.PortSelector{Number: 80}}
	}
	vs.Spec.Http = []*networking.HTTPRoute{{Name: "http", Route: []*networking.HTTPRouteDestination{
		{Destination: destination("v1"), Weight: 100}, {Destination: destination("v2")},
	}}}
	rule := &networkingv1.DestinationRule{TypeMeta: istio("DestinationRule"), ObjectMeta: meta}
	rule.Spec.Host = vs.Spec.Hosts[0]
	rule.Spec.Subsets = []*networking.Subset{{Name: "v1", Labels: map[string]string{"version": "v1"}}}
	gateway := &networkingv1.Gateway{TypeMeta: istio("Gateway"), ObjectMeta: meta}
	gateway.Spec.Selector = map[string]string{"istio": "ingressgateway"}
	gateway.Spec.Servers = []*networking.Server{{Port: &networking.Port{Number: 80, Name: "http", Protocol: "HTTP"}, Hosts: []string{"shop.example.com"}}}
	service := &corev1.Service{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}, ObjectMeta: meta}
	service.Spec.Selector = map[string]string{"app": "micro-api"}
	service.Spec.Ports = []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(8080), Protocol: corev1.ProtocolTCP}}
	record := &appsv1.ControllerRevision{TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "ControllerRevision"}, ObjectMeta: meta}
	record.Data, record.Revision = runtime.RawExtension{Raw: []byte(`{"metadata":{"labels":{"app":"micro-api"}},"spec":{"containers":[]}}`)}, 1
	version := deployment("micro-api-v1", f.ns, 3)
	version.OwnerReferences = meta.OwnerReferences
	return map[string]client.Object{
		"VirtualService": vs, "DestinationRule": rule, "Gateway": gateway, "Service": service, "ControllerRevision": record, "Deployment": version,
	}
}

// live reads an object as it is.
func (f *fixture) live(o client.Object) client.Object {
	f.Helper()
	live, ok := o.DeepCopyObject().(client.Object)
	if !ok {
		f.Fatalf("%T is no object", o)
	}
	if err := f.Get(f.Context(), client.ObjectKeyFromObject(o), live); err != nil {
		f.Fatal(err)
	}
	return live
}

func (f *fixture) create(o client.Object) client.Object {
	f.Helper()
	if wrote, err := f.Writer.Apply(f.Context(), f.owner.UID, o, nil); err != nil || !wrote {
		f.Fatalf("creating: wrote %t, %v", wrote, err)
	}
	return f.live(o)
}

// merge changes an object as somebody else would, with kubectl patch.
func (f *fixture) merge(o client.Object, patch string) client.Object {
	f.Helper()
	if err := f.Patch(f.Context(), f.live(o), client.RawPatch(types.MergePatchType, []byte(patch)), client.FieldOwner("kubectl-patch")); err != nil {
		f.Fatal(err)
	}
	return f.live(o)
}

func TestTheSameTwiceWritesNothing(t *testing.T) {
	f := setUp(t)
	for name, desired := range f.objects() {
		created := f.create(desired)
		if wrote, err := f.Writer.Apply(t.Context(), f.owner.UID, desired, created); err != nil || wrote {
			t.Errorf("%s: the second time wrote %t, %v; want no write", name, wrote, err)
		}
		if got := f.live(desired).GetResourceVersion(); got != created.GetResourceVersion() {
			t.Errorf("%s: resourceVersion went from %s to %s", name, created.GetResourceVersion(), got)
		}
	}
}

func TestDriftIsPutRight(t *testing.T) {
	tests := map[string]struct{ kind, drift string }{
		"AnotherWeight":       {"VirtualService", `{"spec": {"http": [{"name": "http", "route": [{"destination": {"host": "x"}}]}]}}`},
		"AnotherHost":         {"VirtualService", `{"spec": {"hosts": ["other.shop.svc.cluster.local"]}}`},
		"HiddenFromOthers":    {"VirtualService", `{"spec": {"exportTo": ["."]}}`},
		"AnotherSubset":       {"DestinationRule", `{"spec": {"subsets": [{"name": "v1", "labels": {"version": "v7"}}]}}`},
		"PolicyNobodyAsked":   {"DestinationRule", `{"spec": {"trafficPolicy": {"tls": {"mode": "DISABLE"}}}}`},
		"SelectorLabelAdded":  {"Gateway", `{"spec": {"selector": {"tier": "edge"}}}`},
		"AnotherServer":       {"Gateway", `{"spec": {"servers": [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}]}}`},
		"AnotherImage":        {"Deployment", `{"spec": {"template": {"spec": {"containers": [{"name": "app", "image": "evil:1"}]}}}}`},
		"ScaledByHand":        {"Deployment", `{"spec": {"replicas": 7}}`},
		"MarkTakenAway":       {"Service", `{"metadata": {"labels": {"app.kubernetes.io/managed-by": null}}}`},
		"AnotherSelector":     {"Service", `{"spec": {"selector": {"app": "other"}}}`},
		"SubsetsWithoutHosts": {"DestinationRule", `{"spec": {"host": "other"}}`},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			f := setUp(t)
			desired := f.objects()[tc.kind]
			created := f.create(desired)
			drifted := f.merge(desired, tc.drift)
			if wrote, err := f.Writer.Apply(t.Context(), f.owner.UID, desired, drifted); err != nil || !wrote {
				t.Fatalf("wrote %t, %v; want the drift put right", wrote, err)
			}
			healed := f.live(desired)
			if diff := cmp.Diff(spec(t, created), spec(t, healed)); diff != "" {
				t.Errorf("after it was put right (-before +after):\n%s", diff)
			}
			if wrote, err := f.Writer.Apply(t.Context(), f.owner.UID, desired, healed); err != nil || wrote {
				t.Errorf("once more: wrote %t, %v; drift that cannot be put right is written for ever", wrote, err)
			}
		})
	}
}

// spec is what of an object matters, as JSON shows it: Istio's messages must not be compared by reflection.
func spec(t *testing.T, o client.Object) map[string]any {
	t.Helper()
	u, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]any{"spec": u["spec"], "labels": o.GetLabels()}
}

func TestWhatOthersAddToTheirPartStays(t *testing.T) {
	f := setUp(t)
	for name, desired := range f.objects() {
		f.create(desired)
		live := f.merge(desired, `{"metadata": {"labels": {"team": "checkout"}, "annotations": {"note": "mine"}}}`)
		if wrote, err := f.Writer.Apply(t.Context(), f.owner.UID, desired, live); err != nil || wrote {
			t.Errorf("%s: a label of somebody else's is fought over: wrote %t, %v", name, wrote, err)
		}
	}
}

func TestForeignObjectsAreLeftAlone(t *testing.T) {
	stranger := []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "Deployment", Name: "stranger", UID: "7", Controller: new(bool)}}
	*stranger[0].Controller = true
	for name, owners := range map[string][]metav1.OwnerReference{"Nobody's": nil, "SomebodyElse's": stranger} {
		t.Run(name, func(t *testing.T) {
			f := setUp(t)
			for kind, desired := range f.objects() {
				foreign, _ := desired.DeepCopyObject().(client.Object)
				foreign.SetOwnerReferences(owners)
				foreign.SetLabels(map[string]string{"app.kubernetes.io/managed-by": "somebody"})
				if err := f.Create(t.Context(), foreign); err != nil {
					t.Fatal(err)
				}
				before := f.live(desired)
				for seen, live := range map[string]client.Object{"in the cache": before, "not in the cache yet": nil} {
					if wrote, err := f.Writer.Apply(t.Context(), f.owner.UID, desired, live); wrote || !errors.Is(err, apply.ErrForeign) {
						t.Errorf("%s, %s: wrote %t, %v; want ErrForeign", kind, seen, wrote, err)
					}
				}
				if wrote, err := f.Disown(t.Context(), f.owner.UID, desired, before); wrote || err != nil {
					t.Errorf("%s: disowning wrote %t, %v; want it left alone", kind, wrote, err)
				}
				if wrote, err := f.Writer.Delete(t.Context(), f.owner.UID, before); wrote || err != nil {
					t.Errorf("%s: deleting wrote %t, %v; want it left alone", kind, wrote, err)
				}
				if got := f.live(desired); got.GetResourceVersion() != before.GetResourceVersion() {
					t.Errorf("%s: a foreign object was written", kind)
				}
			}
		})
	}
}

// An old leader, or a cache that lags, must not write: what it decided on is not how things are.
func TestAStaleDecisionIsRefused(t *testing.T) {
	f := setUp(t)
	for kind, desired := range f.objects() {
		stale := f.create(desired)
		f.merge(desired, `{"metadata": {"annotations": {"note": "newer"}}}`)
		changed, _ := desired.DeepCopyObject().(client.Object)
		changed.SetLabels(map[string]string{"app.kubernetes.io/managed-by": "sluice", "changed": "true"})
		if _, err := f.Writer.Apply(t.Context(), f.owner.UID, changed, stale); !apierrors.IsConflict(err) {
			t.Errorf("%s: applying on a stale read: %v; want a conflict", kind, err)
		}
		if _, err := f.Writer.Apply(t.Context(), f.owner.UID, changed, nil); !apierrors.IsConflict(err) {
			t.Errorf("%s: creating what the cache does not show yet: %v; want a conflict", kind, err)
		}
		if _, err := f.Disown(t.Context(), f.owner.UID, changed, stale); !apierrors.IsConflict(err) {
			t.Errorf("%s: disowning on a stale read: %v; want a conflict", kind, err)
		}
		if _, err := f.Writer.Delete(t.Context(), f.owner.UID, stale); !apierrors.IsConflict(err) {
			t.Errorf("%s: deleting on a stale read: %v; want a conflict", kind, err)
		}
	}
}

func TestDisownedObjectsOutliveTheirOwner(t *testing.T) {
	f := setUp(t)
	for _, kind := range []string{"VirtualService", "Gateway"} {
		desired := f.objects()[kind]
		live := f.create(desired)
		bare, _ := desired.DeepCopyObject().(client.Object)
		bare.SetOwnerReferences(nil)
		bare.SetLabels(nil)
		if wrote, err := f.Disown(t.Context(), f.owner.UID, bare, live); err != nil || !wrote {
			t.Fatalf("%s: wrote %t, %v", kind, wrote, err)
		}
		got := f.live(desired)
		if len(got.GetOwnerReferences()) > 0 || len(got.GetLabels()) > 0 {
			t.Errorf("%s is still marked: owners %v, labels %v", kind, got.GetOwnerReferences(), got.GetLabels())
		}
		if diff := cmp.Diff(spec(t, live)["spec"], spec(t, got)["spec"]); diff != "" {
			t.Errorf("%s: its spec changed:\n%s", kind, diff)
		}
		if wrote, err := f.Disown(t.Context(), f.owner.UID, bare, got); wrote || err != nil {
			t.Errorf("%s: disowning what is not ours any more wrote %t, %v", kind, wrote, err)
		}
	}
}

func TestDeleteRemovesWhatIsOurs(t *testing.T) {
	f := setUp(t)
	for kind, desired := range f.objects() {
		live := f.create(desired)
		if wrote, err := f.Writer.Delete(t.Context(), f.owner.UID, live); err != nil || !wrote {
			t.Fatalf("%s: wrote %t, %v", kind, wrote, err)
		}
		if err := f.Get(t.Context(), client.ObjectKeyFromObject(desired), live); !apierrors.IsNotFound(err) {
			t.Errorf("%s is still there: %v", kind, err)
		}
	}
	if wrote, err := f.Writer.Delete(t.Context(), f.owner.UID, nil); wrote || err != nil {
		t.Errorf("deleting nothing wrote %t, %v", wrote, err)
	}
}

func fields(d *appsv1.Deployment, replicas int64, held bool) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"replicas": replicas}}}
	u.SetGroupVersionKind(appsv1.SchemeGroupVersion.WithKind("Deployment"))
	u.SetNamespace(d.Namespace)
	u.SetName(d.Name)
	u.SetResourceVersion(d.ResourceVersion)
	if held {
		u.SetAnnotations(map[string]string{"sluice.dev/held": "true"})
	}
	return u
}

func (f *fixture) template() *appsv1.Deployment {
	f.Helper()
	d, ok := f.live(f.owner).(*appsv1.Deployment)
	if !ok {
		f.Fatal("the owner is no Deployment")
	}
	return d
}

// A field whose last applier lets go of it falls back to its default, and spec.replicas to 1: a service of three pods would be handed
// back with one.
func TestHoldAndHandOverKeepTheReplicas(t *testing.T) {
	f := setUp(t)
	for _, step := range []int64{0, 3} { // held at 0, and brought up again to be handed back
		live := f.template()
		if wrote, err := f.Hold(t.Context(), fields(live, step, true), live); err != nil || !wrote {
			t.Fatalf("holding at %d: wrote %t, %v", step, wrote, err)
		}
		held := f.template()
		if *held.Spec.Replicas != int32(step) || held.Annotations["sluice.dev/held"] != "true" {
			t.Fatalf("held at %d replicas with %v; want %d and the mark", *held.Spec.Replicas, held.Annotations, step)
		}
		if wrote, err := f.Hold(t.Context(), fields(held, step, true), held); err != nil || wrote {
			t.Errorf("holding at %d again: wrote %t, %v", step, wrote, err)
		}
		if diff := cmp.Diff(live.Spec.Template, held.Spec.Template); diff != "" {
			t.Errorf("holding changed the template:\n%s", diff)
		}
		if _, err := f.Hold(t.Context(), fields(live, 9, true), live); !apierrors.IsConflict(err) {
			t.Errorf("holding on a stale read: %v; want a conflict", err)
		}
	}
	held := f.template()
	if wrote, err := f.HandOver(t.Context(), fields(held, 3, false), held); err != nil || !wrote {
		t.Fatalf("handing over: wrote %t, %v", wrote, err)
	}
	free := f.template()
	if *free.Spec.Replicas != 3 {
		t.Errorf("handed over with %d replicas; want 3", *free.Spec.Replicas)
	}
	if _, ok := free.Annotations["sluice.dev/held"]; ok {
		t.Errorf("handed over with the mark still on it: %v", free.Annotations)
	}
	for _, m := range free.ManagedFields {
		if m.Manager == "sluice" {
			t.Errorf("the manager sluice still has fields of it: %s", m.FieldsV1)
		}
	}
	if wrote, err := f.HandOver(t.Context(), fields(free, 3, false), free); err != nil || wrote {
		t.Errorf("handing over again: wrote %t, %v", wrote, err)
	}
	if err := f.Client.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(owned(f, 5)), client.FieldOwner("argocd"), client.ForceOwnership); err != nil {
		t.Errorf("the owner cannot write its replicas afterwards: %v", err)
	}
}

func owned(f *fixture, replicas int64) *unstructured.Unstructured {
	u := fields(f.owner, replicas, false)
	u.SetResourceVersion("")
	return u
}

// A template is put back as it was, what was added since taken out; and then it is its owner's as if nothing had been.
func TestPutBackWritesTheTemplateAndKeepsNoField(t *testing.T) {
	f := setUp(t)
	live, recorded := f.owner, f.owner.Spec.Template.DeepCopy()
	live.Spec.Template.Spec.Containers[0].Image = "micro-api:1.3"
	live.Spec.Template.Annotations = map[string]string{"added": "since"}
	live.Spec.Template.Spec.Containers[0].Env = append(live.Spec.Template.Spec.Containers[0].Env, corev1.EnvVar{Name: "ADDED", Value: "since"})
	f.as("kubectl", live)
	template, err := runtime.DefaultUnstructuredConverter.ToUnstructured(recorded)
	if err != nil {
		t.Fatal(err)
	}
	fields := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "spec": map[string]any{"template": template}}}
	fields.SetNamespace(f.ns)
	fields.SetName(live.Name)

	stale := live.DeepCopy()
	stale.ResourceVersion = "1"
	if _, err := f.PutBack(t.Context(), fields, stale); !apierrors.IsConflict(err) {
		t.Errorf("a stale decision is answered with %v; want a conflict", err)
	}
	if wrote, err := f.PutBack(t.Context(), fields, live); err != nil || !wrote {
		t.Fatalf("wrote %t, %v", wrote, err)
	}
	got := &appsv1.Deployment{}
	if err := f.Client.Get(t.Context(), client.ObjectKeyFromObject(live), got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(*recorded, got.Spec.Template); diff != "" {
		t.Errorf("the template (-want +got):\n%s", diff)
	}
	if got.Spec.Replicas == nil || *got.Spec.Replicas != 3 {
		t.Errorf("replicas %v; want them left alone", got.Spec.Replicas)
	}
	for _, e := range got.ManagedFields {
		if strings.HasPrefix(e.Manager, "sluice") {
			t.Errorf("%s keeps fields: %s", e.Manager, e.FieldsV1)
		}
	}
	if wrote, err := f.PutBack(t.Context(), fields, got); err != nil || wrote {
		t.Errorf("the same again: wrote %t, %v", wrote, err)
	}
	again := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apps/v1", "kind": "Deployment",
		"spec": map[string]any{"template": map[string]any{"spec": map[string]any{"containers": []any{map[string]any{"name": "app", "image": "micro-api:1.4"}}}}},
	}}
	again.SetNamespace(f.ns)
	again.SetName(live.Name)
	if err := f.Client.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(again), client.FieldOwner("git")); err != nil && strings.Contains(err.Error(), "sluice") {
		t.Errorf("the next apply meets a conflict with Sluice: %v", err)
	}
}

func TestTheManagerOfAField(t *testing.T) {
	f := setUp(t)
	f.owner.Annotations = map[string]string{"sluice.dev/promote": "v2"}
	f.as("kubectl-annotate", f.owner)
	for want, path := range map[string][]string{
		"kubectl-annotate": {"metadata", "annotations", "sluice.dev/promote"}, "kubectl-create": {"spec", "replicas"}, "": {"spec", "paused"},
	} {
		if got := apply.ManagerOf(f.owner, path...); got != want {
			t.Errorf("%v is %q's; want %q", path, got, want)
		}
	}
}

// as updates an object as a manager does.
func (f *fixture) as(manager string, o client.Object) {
	f.Helper()
	if err := f.Client.Update(f.Context(), o, client.FieldOwner(manager)); err != nil {
		f.Fatal(err)
	}
}

func TestErrorsNameTheObject(t *testing.T) {
	f := setUp(t)
	vs := f.objects()["VirtualService"]
	foreign, _ := vs.DeepCopyObject().(client.Object)
	foreign.SetOwnerReferences(nil)
	_, err := f.Writer.Apply(t.Context(), f.owner.UID, vs, foreign)
	if want := "VirtualService " + f.ns + "/micro-api"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v; want it to name %s", err, want)
	}
}
