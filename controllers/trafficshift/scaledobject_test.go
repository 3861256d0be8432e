package trafficshift

import (
	"cmp"
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/source"
	"sigs.k8s.io/yaml"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/plan"
)

// scaledObject is a user's: everything that is carried over, and everything that is not.
const scaledObject = `
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: by-queue
  labels: {team: shop, scaledobject.keda.sh/name: by-queue}
  annotations: {owner: shop, autoscaling.keda.sh/paused-scale-in: "true", scaledobject.keda.sh/transfer-hpa-ownership: "true"}
spec:
  scaleTargetRef: {name: micro-api, envSourceContainerName: app}
  pollingInterval: 15
  cooldownPeriod: 60
  idleReplicaCount: 0
  minReplicaCount: 2
  maxReplicaCount: 6
  fallback: {failureThreshold: 3, replicas: 4}
  advanced:
    restoreToOriginalReplicaCount: true
    horizontalPodAutoscalerConfig: {name: by-queue, behavior: {scaleDown: {stabilizationWindowSeconds: 60}}}
  triggers:
  - {type: rabbitmq, metadata: {queueName: orders, mode: QueueLength, value: "20"}, authenticationRef: {name: rabbit}}
`

func (c *cluster) scaledObject(name string) *unstructured.Unstructured {
	c.Helper()
	o := &unstructured.Unstructured{}
	o.SetGroupVersionKind(plan.ScaledObjectKind)
	if !c.get(name, o) {
		return nil
	}
	return o
}

func (c *cluster) patchScaledObject(patch string) {
	c.Helper()
	o := &unstructured.Unstructured{}
	o.SetGroupVersionKind(plan.ScaledObjectKind)
	c.patch(o, "by-queue", patch)
}

// keda does what KEDA does that matters here: it wakes a Deployment that stands at 0, unless it is told to pause.
func (c *cluster) keda() (woken bool) {
	c.Helper()
	o, d := c.scaledObject("by-queue"), &appsv1.Deployment{}
	if o == nil || !c.get("micro-api", d) || *d.Spec.Replicas > 0 || kedaPauses(cmp.Or(o.GetAnnotations()[plan.KEDAPaused], "false")) {
		return false
	}
	c.patch(&appsv1.Deployment{}, "micro-api", `{"spec":{"replicas":1}}`)
	return true
}

// untouched is a ScaledObject without what changes by itself.
func untouchedObject(o *unstructured.Unstructured) *unstructured.Unstructured {
	o = o.DeepCopy()
	o.SetResourceVersion("")
	return o
}

func followScaledObject(t *testing.T) (c *cluster, was *unstructured.Unstructured) {
	t.Helper()
	c = newCluster(t)
	c.installKEDA()
	c.apply(service)
	c.apply(scaledObject)
	was = untouchedObject(c.scaledObject("by-queue"))
	c.apply(following)
	c.kubelet()
	c.run("the first version to settle", 60, func(s *v1alpha1.TrafficShift) bool { return s.Status.State.Stage == v1alpha1.StagePinning })
	if diff := gocmp.Diff(was, untouchedObject(c.scaledObject("by-queue"))); diff != "" || c.scaledObject("micro-api-sluice") != nil {
		t.Errorf("the Deployment is not held yet, and there is one of ours, or theirs was changed (-want +got):\n%s", diff)
	}
	c.run("adoption", 60, func(s *v1alpha1.TrafficShift) bool { return !c.keda() && resting(s) })
	return c, was
}

func TestAScaledObjectOfTheDeploymentIsFollowed(t *testing.T) {
	c, was := followScaledObject(t)
	if diff := gocmp.Diff([]string{"micro-api 0", "micro-api-v1 3"}, c.deploymentSizes()); diff != "" {
		t.Errorf("sizes (-want +got):\n%s", diff)
	}
	c.checkCopy(`
scaleTargetRef: {apiVersion: sluice.dev/v1alpha1, kind: TrafficShift, name: micro-api}
pollingInterval: 15
cooldownPeriod: 60
idleReplicaCount: 0
minReplicaCount: 2
maxReplicaCount: 6
fallback: {failureThreshold: 3, replicas: 4}
advanced:
  horizontalPodAutoscalerConfig: {behavior: {scaleDown: {stabilizationWindowSeconds: 60}}}
triggers:
- {type: rabbitmq, metadata: {queueName: orders, mode: QueueLength, value: "20"}, authenticationRef: {name: rabbit}}
`, map[string]string{
		"autoscaling.keda.sh/paused-scale-in":      "true",
		"scaledobject.keda.sh/hpa-excluded-labels": "app.kubernetes.io/managed-by,sluice.dev/shift",
	})
	theirs := c.scaledObject("by-queue")
	added := map[string]string{"autoscaling.keda.sh/paused": "True", "sluice.dev/paused-for": "micro-api"}
	for key, value := range added {
		if got := theirs.GetAnnotations()[key]; got != value {
			t.Errorf("annotation %s is %q; want %q", key, got, value)
		}
	}
	if diff := gocmp.Diff(was.Object["spec"], theirs.Object["spec"]); diff != "" {
		t.Errorf("the user's settings were changed (-want +got):\n%s", diff)
	}

	c.idle()
	c.setImage("micro-api:1.2")
	c.run("a whole release, without KEDA waking the Deployment", 200, func(s *v1alpha1.TrafficShift) bool {
		if c.keda() {
			t.Fatal("KEDA has woken the held Deployment")
		}
		return s.Status.Stable == "v2" && resting(s)
	})

	c.patchScaledObject(`{"metadata": {"annotations": {"autoscaling.keda.sh/paused-scale-in": null}}, "spec": {"maxReplicaCount": 8, "fallback": null, "advanced": null, "idleReplicaCount": null}}`)
	c.pass()
	c.checkCopy(`
scaleTargetRef: {apiVersion: sluice.dev/v1alpha1, kind: TrafficShift, name: micro-api}
pollingInterval: 15
cooldownPeriod: 60
minReplicaCount: 2
maxReplicaCount: 8
triggers:
- {type: rabbitmq, metadata: {queueName: orders, mode: QueueLength, value: "20"}, authenticationRef: {name: rabbit}}
`, map[string]string{"scaledobject.keda.sh/hpa-excluded-labels": "app.kubernetes.io/managed-by,sluice.dev/shift"})
	c.idle()
}

// idle asserts that the same world again writes nothing.
func (c *cluster) idle() {
	c.Helper()
	c.pass()
	before := len(c.writes)
	c.pass()
	if n := len(c.writes); n != before {
		c.Errorf("the same again writes %v", c.writes[before:])
	}
}

func (c *cluster) checkCopy(spec string, annotations map[string]string) {
	c.Helper()
	o, template := c.scaledObject("micro-api-sluice"), &appsv1.Deployment{}
	if o == nil || !c.get("micro-api", template) || !metav1.IsControlledBy(o, template) {
		c.Fatalf("no ScaledObject micro-api-sluice that the Deployment owns: %v", o)
	}
	var want any
	if err := yaml.Unmarshal([]byte(spec), &want); err != nil {
		c.Fatal(err)
	}
	raw, err := o.MarshalJSON()
	if err != nil {
		c.Fatal(err)
	}
	var got struct{ Spec any }
	if err := yaml.Unmarshal(raw, &got); err != nil {
		c.Fatal(err)
	}
	if diff := gocmp.Diff(want, got.Spec); diff != "" {
		c.Errorf("the spec of ours (-want +got):\n%s", diff)
	}
	if diff := gocmp.Diff(annotations, o.GetAnnotations()); diff != "" {
		c.Errorf("the annotations of ours (-want +got):\n%s", diff)
	}
	labels := map[string]string{"app.kubernetes.io/managed-by": "sluice", "sluice.dev/shift": "micro-api"}
	if diff := gocmp.Diff(labels, o.GetLabels()); diff != "" {
		c.Errorf("the labels of ours (-want +got):\n%s", diff)
	}
}

// Handed back, a ScaledObject is what it was, down to who wrote what of it. It stays paused until the Deployment's own pods have all the
// traffic: KEDA would scale them by what they get.
func TestAScaledObjectIsGivenBackAsItWas(t *testing.T) {
	detach := func(c *cluster) {
		c.patch(&v1alpha1.TrafficShift{}, "micro-api", `{"metadata":{"annotations":{"sluice.dev/detach":"true"}}}`)
	}
	for name, tc := range map[string]struct {
		let  func(*cluster)
		gone func(*cluster, *v1alpha1.TrafficShift) bool
	}{
		"Detached": {detach, func(_ *cluster, s *v1alpha1.TrafficShift) bool { return s.Status.State.Stage == v1alpha1.StageReleased }},
		"Deleted": {
			func(c *cluster) {
				if err := c.Delete(c.Context(), c.shift()); err != nil {
					c.Fatal(err)
				}
			},
			func(_ *cluster, s *v1alpha1.TrafficShift) bool { return s.Name == "" },
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, was := followScaledObject(t)
			tc.let(c)
			c.run("to be handed back", 90, func(s *v1alpha1.TrafficShift) bool {
				o, stage := c.scaledObject("by-queue"), s.Status.State.Stage
				routed := stage == v1alpha1.StageReturning || stage == v1alpha1.StageUnpinning || stage == v1alpha1.StageRemoving
				if paused := o.GetAnnotations()[plan.KEDAPaused] == "True"; routed && !paused {
					t.Fatalf("KEDA scales the Deployment at stage %s, while the versions have its traffic", stage)
				}
				if routed && c.scaledObject("micro-api-sluice") != nil {
					t.Fatal("there is one of ours while the service is handed back")
				}
				return tc.gone(c, s)
			})
			if diff := gocmp.Diff(was, untouchedObject(c.scaledObject("by-queue"))); diff != "" {
				t.Errorf("the ScaledObject, once handed back (-want +got):\n%s", diff)
			}
			if diff := gocmp.Diff([]string{"micro-api 3"}, c.deploymentSizes()); diff != "" {
				t.Errorf("sizes (-want +got):\n%s", diff)
			}
		})
	}
}

// A Deployment that is deleted takes all of ours with it. What was written into the user's own does not stay behind.
func TestAScaledObjectIsWokenWhenItsDeploymentIsGone(t *testing.T) {
	c, was := followScaledObject(t)
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: c.ns, Name: "micro-api"}}
	if err := c.Delete(t.Context(), d, client.PropagationPolicy(metav1.DeletePropagationOrphan)); err != nil {
		t.Fatal(err)
	}
	c.get("micro-api", d)
	if slices.Contains(d.Finalizers, metav1.FinalizerOrphanDependents) { // nobody runs here who would see to it
		c.patch(d, "micro-api", `{"metadata":{"finalizers":null}}`)
	}
	c.pass()
	if diff := gocmp.Diff(was, untouchedObject(c.scaledObject("by-queue"))); diff != "" {
		t.Errorf("the ScaledObject (-want +got):\n%s", diff)
	}
}

// Who does not want one followed any more, or has it scale something else, has it back.
func TestAScaledObjectThatIsNotFollowedAnyMoreIsWoken(t *testing.T) {
	for name, change := range map[string]func(*cluster){
		"Refused":    func(c *cluster) { c.edit(`{"spec":{"autoscaler":"refuse"}}`) },
		"Retargeted": func(c *cluster) { c.patchScaledObject(`{"spec":{"scaleTargetRef":{"name":"other"}}}`) },
		"OfTheShift": func(c *cluster) {
			c.patchScaledObject(`{"spec":{"scaleTargetRef":{"apiVersion":"sluice.dev/v1alpha1","kind":"TrafficShift"}}}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, was := followScaledObject(t)
			change(c)
			c.pass()
			if c.scaledObject("micro-api-sluice") != nil {
				t.Error("ours is still there")
			}
			if diff := gocmp.Diff(was.GetAnnotations(), c.scaledObject("by-queue").GetAnnotations()); diff != "" {
				t.Errorf("annotations (-want +got):\n%s", diff)
			}
			c.idle()
		})
	}
}

// Who has paused it pauses the service: ours is paused as well, and theirs stays so when it is handed back.
func TestAPauseOfTheUsersIsKept(t *testing.T) {
	for _, value := range []string{"true", "yes"} {
		t.Run(value, func(t *testing.T) {
			c, _ := followScaledObject(t)
			c.patchScaledObject(`{"metadata":{"annotations":{"autoscaling.keda.sh/paused":"` + value + `"}}}`)
			c.pass()
			theirs, ours := c.scaledObject("by-queue").GetAnnotations(), c.scaledObject("micro-api-sluice").GetAnnotations()
			if theirs[plan.KEDAPaused] != value || ours[plan.KEDAPaused] != value {
				t.Errorf("theirs has %v, ours %v; want the user's %q on both", theirs, ours, value)
			}
			c.idle()
			c.patchScaledObject(`{"metadata":{"annotations":{"autoscaling.keda.sh/paused":null}}}`)
			c.pass()
			theirs, ours = c.scaledObject("by-queue").GetAnnotations(), c.scaledObject("micro-api-sluice").GetAnnotations()
			if _, still := ours[plan.KEDAPaused]; theirs[plan.KEDAPaused] != "True" || still {
				t.Errorf("theirs has %v, ours %v; want Sluice's pause again, and ours to go on", theirs, ours)
			}
			c.patchScaledObject(`{"metadata":{"annotations":{"autoscaling.keda.sh/paused":"` + value + `"}}}`)
			c.patch(&v1alpha1.TrafficShift{}, "micro-api", `{"metadata":{"annotations":{"sluice.dev/detach":"true"}}}`)
			c.run("to be handed back", 90, func(s *v1alpha1.TrafficShift) bool { return s.Status.State.Stage == v1alpha1.StageReleased })
			o := c.scaledObject("by-queue")
			if got := o.GetAnnotations()[plan.KEDAPaused]; got != value {
				t.Errorf("handed back, %s is %q; want the user's own %q", plan.KEDAPaused, got, value)
			}
			if slices.ContainsFunc(o.GetManagedFields(), func(e metav1.ManagedFieldsEntry) bool { return e.Manager == v1alpha1.FieldManager }) {
				t.Errorf("Sluice has fields of it still: %v", o.GetManagedFields())
			}
		})
	}
}

// Who says that KEDA is not to be paused has the last word, and is told what comes of it. What scales the service stays.
func TestAPauseIsNotForcedOnTheUser(t *testing.T) {
	c, _ := followScaledObject(t)
	c.patchScaledObject(`{"metadata":{"annotations":{"autoscaling.keda.sh/paused":"false"}}}`)
	c.pass()
	c.idle()
	s := c.shift()
	if got := condition(s, v1alpha1.ConditionAccepted); got != "False "+v1alpha1.ReasonAutoscalerTargetsTemplate {
		t.Errorf("Accepted is %q: %s", got, s.Status.Message)
	}
	if o := c.scaledObject("by-queue"); o.GetAnnotations()[plan.KEDAPaused] != "false" {
		t.Errorf("annotations %v; want the user's own false", o.GetAnnotations())
	}
	if c.scaledObject("micro-api-sluice") == nil {
		t.Error("nothing scales the service any more")
	}
	for range 8 {
		c.keda()
		c.pass()
	}
	if got := c.shift().Status.Message; !strings.HasPrefix(got, "something keeps scaling the Deployment up") {
		t.Errorf("status says %q", got)
	}
}

func TestScaledObjectsThatCannotBeFollowedAreRefused(t *testing.T) {
	const plain = `
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: by-queue}
spec: {scaleTargetRef: {name: micro-api}, triggers: [{type: cron, metadata: {start: 0 8 * * *}}]}
`
	with := func(old, new string) string { return strings.Replace(plain, old, new, 1) }
	annotated := func(a string) string { return with("{name: by-queue}", "{name: by-queue, annotations: {"+a+"}}") }
	ofShift := "{apiVersion: sluice.dev/v1alpha1, kind: TrafficShift, name: micro-api}"
	made := strings.Replace(autoscaler, "metadata: {name: micro-api}",
		"metadata: {name: keda-hpa-by-queue, ownerReferences: [{apiVersion: keda.sh/v1alpha1, kind: ScaledObject, name: by-queue, uid: u, controller: true}]}", 1)
	const retarget, follow = "set its scaleTargetRef to apiVersion: sluice.dev/v1alpha1, kind: TrafficShift, name: micro-api", "annotation sluice.dev/autoscaler: follow"
	refused := v1alpha1.ReasonAutoscalerTargetsTemplate
	tests := map[string]struct {
		shift, also string
		late        bool // KEDA was installed just now
		reason      string
		remedy      []string
	}{
		"NotAsked":     {trafficShift, plain, false, refused, []string{"ScaledObject NS/by-queue", "KEDA would wake", retarget, follow}},
		"NotAskedMade": {trafficShift, plain + "---" + made, false, refused, []string{"ScaledObject NS/by-queue", retarget, follow}},
		"LateMade":     {following, made, true, refused, []string{"ScaledObject NS/by-queue", "asked again every 30s", retarget}},
		"Followed":     {following, plain + "---" + made, false, "", nil},
		"OfTheShift":   {trafficShift, with("{name: micro-api}, t", ofShift+", t"), false, "", nil},
		"OfTheShiftMade": {following, with("{name: micro-api}, t", ofShift+", t") + "---" +
			strings.Replace(made, "{apiVersion: apps/v1, kind: Deployment, name: micro-api}", ofShift, 1), false, "", nil},
		"Two": {following, plain + "---" + with("by-queue", "second"), false, refused, []string{"ScaledObject NS/by-queue and ScaledObject NS/second both", "keep one"}},
		"BesideAnHPA": {following, plain + "---" + autoscaler, false, refused,
			[]string{"HorizontalPodAutoscaler NS/micro-api and ScaledObject NS/by-queue both", "keep one"}},
		"OneOfTheTrafficShiftToo": {following, plain + "---" + strings.Replace(with("by-queue", "second"), "{name: micro-api}, t", ofShift+", t", 1), false, refused,
			[]string{"ScaledObject NS/by-queue targets the Deployment and would be followed, but ScaledObject NS/second targets the TrafficShift already"}},
		"NameTaken": {following, plain + "---" + strings.Replace(with("by-queue", "micro-api-sluice"), "{name: micro-api}, t", "{name: other}, t", 1), false,
			v1alpha1.ReasonNameTaken, []string{"ScaledObject NS/micro-api-sluice", "rename or delete it"}},
		"NotToBePaused":  {following, annotated(`autoscaling.keda.sh/paused: "false"`), false, refused, []string{`autoscaling.keda.sh/paused: "false"`, "take it out"}},
		"Paused":         {following, annotated(`autoscaling.keda.sh/paused: "True"`), false, "", nil},
		"FixedReplicas":  {following, annotated(`autoscaling.keda.sh/paused-replicas: "5"`), false, refused, []string{`paused-replicas: "5"`, `autoscaling.keda.sh/paused: "true"`}},
		"FixedAtNothing": {following, annotated(`autoscaling.keda.sh/paused-replicas: "0"`), false, "", nil},
		"FromEnvironment": {following, with("{start: 0 8 * * *}", "{queueName: orders, hostFromEnv: HOST}"), false, refused,
			[]string{"spec.triggers[0].metadata.hostFromEnv", "authenticationRef"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.installKEDA()
			c.KEDA = func() (bool, error) { return !tc.late, nil }
			c.apply(service)
			c.apply(strings.TrimSpace(strings.ReplaceAll(tc.also, "\n---\n\n", "\n---\n")))
			c.apply(tc.shift)
			c.judged(tc.reason, tc.remedy)
		})
	}
}

func TestALongNameIsRefusedAScaledObject(t *testing.T) {
	o := &unstructured.Unstructured{Object: map[string]any{}}
	w := &world{shift: &v1alpha1.TrafficShift{ObjectMeta: metav1.ObjectMeta{Name: strings.Repeat("n", 47)}}}
	if got := w.scaledObjectUnfit(o); got != "" {
		t.Errorf("47 characters: %s", got)
	}
	w.shift.Name += "n"
	if got := w.scaledObjectUnfit(o); !strings.Contains(got, "longer than 63 characters; set its scaleTargetRef") {
		t.Errorf("48 characters: %q", got)
	}
}

// KEDA may come after Sluice has started, and is watched from then on, once.
func TestKEDAMayComeLater(t *testing.T) {
	r, mapper := &Reconciler{}, meta.NewDefaultRESTMapper(nil)
	now, watches := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC), 0
	w := r.scaledObjectsWatch(nil)
	w.mapper, w.now, w.watch = mapper, func() time.Time { return now }, func(source.Source) error { watches++; return nil }
	for i, want := range []bool{false, true, true} {
		if got, err := w.present(); got != want || err != nil {
			t.Errorf("asked %d times: present %t, %v; want %t", i+1, got, err, want)
		}
		mapper.Add(plan.ScaledObjectKind, meta.RESTScopeNamespace)
		now = now.Add(askAgain)
	}
	if watches != 1 {
		t.Errorf("%d watches were begun; want one", watches)
	}
}

// Nothing of a service depends on KEDA where there is none, and nobody asks for what is not there.
func TestAClusterWithoutKEDA(t *testing.T) {
	c := newCluster(t)
	asked := 0
	live, ok := c.Live.(client.WithWatch)
	if !ok {
		t.Fatal("the test's API server cannot be watched")
	}
	c.Live = interceptor.NewClient(live, interceptor.Funcs{
		List: func(ctx context.Context, api client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			if kind := list.GetObjectKind().GroupVersionKind(); kind == scaledObjectList {
				asked++
				return &meta.NoKindMatchError{GroupKind: kind.GroupKind()}
			}
			return api.List(ctx, list, opts...)
		},
	})
	c.apply(service)
	c.apply(following)
	c.kubelet()
	c.run("adoption", 60, resting)
	if err := c.Delete(t.Context(), c.shift()); err != nil {
		t.Fatal(err)
	}
	c.run("to be handed back", 90, func(s *v1alpha1.TrafficShift) bool { return s.Name == "" })
	if asked > 0 {
		t.Errorf("a kind that is not there was asked for %d times", asked)
	}
}

const kedas = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: scaledobjects.keda.sh}
spec:
  group: keda.sh
  scope: Namespaced
  names: {plural: scaledobjects, kind: ScaledObject, listKind: ScaledObjectList}
  versions:
  - {name: v1alpha1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
`

// installKEDA makes the one kind of KEDA's that matters here.
func (c *cluster) installKEDA() {
	c.Helper()
	crd := map[string]any{}
	if err := yaml.Unmarshal([]byte(kedas), &crd); err != nil {
		c.Fatal(err)
	}
	if err := c.Create(c.Context(), unstructuredOf(crd)); err != nil && !apierrors.IsAlreadyExists(err) {
		c.Fatal(err)
	}
	err := wait.PollUntilContextTimeout(c.Context(), 50*time.Millisecond, 20*time.Second, true, func(ctx context.Context) (bool, error) {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(scaledObjectList)
		return c.List(ctx, list, client.InNamespace(c.ns)) == nil, nil
	})
	if err != nil {
		c.Fatalf("KEDA's kind does not come up: %v", err)
	}
	c.KEDA = func() (bool, error) { return true, nil }
}

// The example's own ScaledObject is one that is followed, for the Deployment beside it.
func TestTheExampleOfKEDAIsFollowed(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "..", "examples", "keda", "service.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	objects := map[string]*unstructured.Unstructured{}
	for doc := range strings.SplitSeq(string(raw), "\n---\n") {
		u := &unstructured.Unstructured{}
		if err := yaml.UnmarshalStrict([]byte(doc), &u.Object); err != nil {
			t.Fatal(err)
		}
		objects[u.GetKind()] = u
	}
	o, d := objects["ScaledObject"], objects["Deployment"]
	if o == nil || d == nil {
		t.Fatalf("the example has %v", slices.Sorted(maps.Keys(objects)))
	}
	ref := targetOf(o)
	if ref.Kind != "Deployment" || ref.Name != d.GetName() || d.GetAnnotations()[v1alpha1.AnnotationAutoscaler] != string(v1alpha1.AutoscalerFollow) {
		t.Errorf("it scales %+v; want Deployment %s, which asks for it to be followed", ref, d.GetName())
	}
	w := &world{shift: &v1alpha1.TrafficShift{ObjectMeta: metav1.ObjectMeta{Name: d.GetName()}}}
	if text := w.scaledObjectUnfit(o); text != "" {
		t.Error(text)
	}
}
