package shim

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap/zapcore"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/yaml"

	sluice "github.com/sluice-dev/sluice/api/v1alpha1"
)

// The tests of this file hold the wiring against a real API server: what is owned by whom, and which writes wake the shim.

// environment is one API server for all tests, started by the first that needs it.
var environment = &envtest.Environment{CRDDirectoryPaths: []string{"../../manifests/crd"}, ErrorIfCRDPathMissing: true}

var apiServer = sync.OnceValues(environment.Start)

func TestMain(m *testing.M) {
	log.SetLogger(zap.New(zap.WriteTo(os.Stderr), zap.Level(zapcore.WarnLevel)))
	code := m.Run()
	if environment.Config != nil {
		_ = environment.Stop()
	}
	os.Exit(code)
}

// cluster is one namespace, and a shim that looks at nothing else.
type cluster struct {
	*testing.T
	client.Client
	ns     string
	events *recorder
}

func start(t *testing.T) *cluster {
	t.Helper()
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		t.Skip("KUBEBUILDER_ASSETS is not set: it names the folder with etcd and kube-apiserver (make test sets it)")
	}
	t.Parallel()
	config, err := apiServer()
	if err != nil {
		t.Fatalf("cannot start the API server: %v", err)
	}
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{scheme.AddToScheme, sluice.AddToScheme} {
		if err := add(s); err != nil {
			t.Fatal(err)
		}
	}
	c, err := client.New(config, client.Options{Scheme: s})
	if err != nil {
		t.Fatal(err)
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "shop-"}}
	if err := c.Create(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	cl := &cluster{T: t, Client: c, ns: ns.Name, events: &recorder{}}
	cl.run(config, s)
	return cl
}

func (c *cluster) run(config *rest.Config, s *runtime.Scheme) {
	c.Helper()
	skip := true
	opts := ctrl.Options{Scheme: s, Metrics: server.Options{BindAddress: "0"}}
	opts.Controller.SkipNameValidation = &skip // one shim for each test
	opts.Cache.DefaultNamespaces = map[string]cache.Config{c.ns: {}}
	mgr, err := ctrl.NewManager(config, opts)
	if err != nil {
		c.Fatal(err)
	}
	r := &Reconciler{Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Recorder: c.events}
	if err := r.SetupWithManager(mgr); err != nil {
		c.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- mgr.Start(ctx) }()
	c.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			c.Error(err)
		}
	})
}

// recorder keeps events in place of sending them.
type recorder struct {
	mu    sync.Mutex
	notes []string
}

func (r *recorder) Eventf(_, _ runtime.Object, kind, reason, _, note string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notes = append(r.notes, kind+" "+reason+" "+fmt.Sprintf(note, args...))
}

func (r *recorder) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.notes...)
}

const manifest = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: micro-api, annotations: {%s}}
spec:
  %s
  selector: {matchLabels: {app: micro-api}}
  template:
    metadata: {labels: {app: micro-api}}
    spec: {containers: [{name: app, image: "micro-api:1.1"}]}
`

// object renders the Deployment with these annotations ("hold: 1m") and this line of its spec ("replicas: 3").
func (c *cluster) object(spec string, annotations ...string) *unstructured.Unstructured {
	c.Helper()
	for i, a := range annotations {
		annotations[i] = sluice.Prefix + a
	}
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(fmt.Appendf(nil, manifest, strings.Join(annotations, ", "), spec), &u.Object); err != nil {
		c.Fatal(err)
	}
	u.SetNamespace(c.ns)
	return u
}

func (c *cluster) create(spec string, annotations ...string) {
	c.Helper()
	if err := c.Create(c.Context(), c.object(spec, annotations...)); err != nil {
		c.Fatal(err)
	}
}

// kubectlApply does what client-side kubectl apply does: it remembers what its user wrote.
func (c *cluster) kubectlApply(spec string, annotations ...string) {
	c.Helper()
	u := c.object(spec, annotations...)
	raw, err := u.MarshalJSON()
	if err != nil {
		c.Fatal(err)
	}
	all := u.GetAnnotations()
	all[lastAppliedKey] = string(raw)
	u.SetAnnotations(all)
	if err := c.Create(c.Context(), u.DeepCopy()); err == nil || !apierrors.IsAlreadyExists(err) {
		if err != nil {
			c.Fatal(err)
		}
		return
	}
	if err := c.Patch(c.Context(), u, client.Merge, client.FieldOwner("kubectl-client-side-apply")); err != nil {
		c.Fatal(err)
	}
}

func (c *cluster) serverSideApply(manager, spec string, annotations ...string) {
	c.Helper()
	u := client.ApplyConfigurationFromUnstructured(c.object(spec, annotations...))
	if err := c.Apply(c.Context(), u, client.FieldOwner(manager), client.ForceOwnership); err != nil {
		c.Fatal(err)
	}
}

// annotate merges annotations into the Deployment; "hold: null" removes one.
func (c *cluster) annotate(annotations ...string) {
	c.Helper()
	u := c.object("paused: false", annotations...)
	patch := map[string]any{"metadata": map[string]any{"annotations": u.Object["metadata"].(map[string]any)["annotations"]}}
	raw, err := yaml.Marshal(patch)
	if err == nil {
		raw, err = yaml.YAMLToJSON(raw)
	}
	if err != nil {
		c.Fatal(err)
	}
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: c.ns, Name: "micro-api"}}
	if err := c.Patch(c.Context(), d, client.RawPatch("application/merge-patch+json", raw)); err != nil {
		c.Fatal(err)
	}
}

func (c *cluster) shift() *sluice.TrafficShift {
	c.Helper()
	s, err := get(c.Context(), c, client.ObjectKey{Namespace: c.ns, Name: "micro-api"})
	if err != nil {
		c.Fatal(err)
	}
	return s
}

// want waits until describe says so.
func (c *cluster) want(want string, describe func() string) {
	c.Helper()
	got := ""
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if got = describe(); got == want {
			return
		}
	}
	c.Fatalf("after 10s (-want +got):\n%s", cmp.Diff(want, got))
}

// stays holds that describe keeps saying so while the shim has time to do something.
func (c *cluster) stays(want string, describe func() string) {
	c.Helper()
	c.want(want, describe)
	for range 20 {
		if got := describe(); got != want {
			c.Fatalf("it did not stay (-want +got):\n%s", cmp.Diff(want, got))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (c *cluster) named() string {
	s := c.shift()
	if s == nil {
		return "none"
	}
	return strings.Join(appliedFields(s, FieldManager), " ")
}

func (c *cluster) replicas() string {
	s := c.shift()
	if s == nil || s.Spec.Replicas == nil {
		return "open"
	}
	return fmt.Sprintf("%d, seen %q", *s.Spec.Replicas, s.Annotations[sluice.AnnotationLastWish])
}

func (c *cluster) reasons() string {
	var out []string
	for _, note := range c.events.all() {
		out = append(out, strings.Join(strings.Fields(note)[:2], " "))
	}
	return strings.Join(out, ", ")
}

func TestAnnotationsMakeATrafficShift(t *testing.T) {
	c := start(t)
	c.create("replicas: 3", "strategy: canary", `steps: "10,100"`, "hold: 90s")
	c.want("hold steps strategy", c.named)
	c.want(`3, seen ""`, c.replicas)

	s := c.shift()
	if s.Spec.Hold.Duration != 90*time.Second || len(s.Spec.Steps) != 2 || s.Spec.Bake.Duration != 10*time.Minute || s.Spec.MaxErrorRate != "1%" {
		t.Errorf("named fields or defaults are not as written: %+v", s.Spec)
	}
	owner := metav1.GetControllerOf(s)
	if owner == nil || owner.Kind != "Deployment" || owner.Name != "micro-api" || s.Labels[sluice.LabelManagedBy] != sluice.ManagedBy {
		t.Errorf("not owned or not marked: %+v, %v", owner, s.Labels)
	}

	c.annotate("hold: 2m", `bake: "30s"`)
	c.want("bake hold steps strategy", c.named)
	if s := c.shift(); s.Spec.Hold.Duration != 2*time.Minute || s.Spec.Bake.Duration != 30*time.Second {
		t.Errorf("a change is not followed: %+v", s.Spec)
	}

	c.annotate("hold: null", "steps: null")
	c.want("bake strategy", c.named)
	if s := c.shift(); s.Spec.Hold != nil || s.Spec.Steps != nil {
		t.Errorf("released fields are still there: %+v", s.Spec)
	}
	if notes := c.events.all(); notes != nil {
		t.Errorf("events: %v", notes)
	}
}

// Steps and pacing: auto exclude each other: who switches must not be left with both, or with neither.
func TestSwitchingBetweenAListAndAuto(t *testing.T) {
	c := start(t)
	c.create("replicas: 3", "strategy: canary", `steps: "10,100"`)
	c.want("steps strategy", c.named)
	for _, auto := range []bool{true, false, true} {
		if auto {
			c.annotate("steps: auto", `max-failed-requests: "20"`)
			c.want("maxFailedRequests pacing strategy", c.named)
		} else {
			c.annotate(`steps: "5,50,100"`, "max-failed-requests: null")
			c.want("steps strategy", c.named)
		}
		s := c.shift()
		if got := s.Spec.Pacing == sluice.PacingAuto; got != auto || (len(s.Spec.Steps) == 0) != auto {
			t.Errorf("auto %t: pacing %q and steps %v", auto, s.Spec.Pacing, s.Spec.Steps)
		}
	}
	c.stays("", c.reasons)
}

// Steps that somebody wrote on the TrafficShift are not the annotations' to take away: the conflict is told.
func TestAutoOverStepsOfSomebodyElse(t *testing.T) {
	c := start(t)
	c.create("replicas: 3", "strategy: canary")
	c.want(`3, seen ""`, c.replicas)
	c.applyShift("kubectl", nil, map[string]any{"steps": []any{map[string]any{"weight": int64(100)}}})
	c.annotate("steps: auto")
	c.want("Warning InvalidAnnotation", c.reasons)
	if note := c.events.all()[0]; !strings.Contains(note, "leave out steps, or write pacing: ladder") {
		t.Errorf("the event does not say what to do: %s", note)
	}
}

func TestAtRestNothingIsWritten(t *testing.T) {
	c := start(t)
	c.create("replicas: 3", "strategy: canary", `paused: "false"`, `max-latency: "p99<500ms"`, `steps: "0.5,100%"`, "hosts: a.example.com",
		"reporter: auto", `max-increase: "0.5%"`, `max-failed-requests: "50"`, "prometheus: team-a")
	c.want(`3, seen ""`, c.replicas)
	before := c.shift().ResourceVersion
	c.annotate(`held: "true"`) // wakes the shim, and changes nothing that it writes
	c.stays(before, func() string { return c.shift().ResourceVersion })
	d := &appsv1.Deployment{}
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: c.ns, Name: "micro-api"}, d); err != nil {
		t.Fatal(err)
	}
	fields, errs := Translate(d.Annotations)
	if len(errs) > 0 || !settled(d, c.shift(), fields) {
		t.Errorf("the shim would apply for ever: %v %v", fields, errs)
	}
}

func TestTheRestIsTheUsers(t *testing.T) {
	c := start(t)
	c.create("replicas: 3", "strategy: canary", "hold: 90s", "hosts: a.example.com")
	c.want(`3, seen ""`, c.replicas)
	// A file of the user's, applied from the server's side, adds what has no annotation.
	c.applyShift("kubectl", nil, map[string]any{"trafficPolicy": map[string]any{"connectionPool": map[string]any{"tcp": map[string]any{"maxConnections": int64(10)}}}})
	c.annotate("hold: 2m")
	c.want("2m0s", func() string { return c.shift().Spec.Hold.Duration.String() })
	if s := c.shift(); s.Spec.TrafficPolicy == nil || !strings.Contains(string(s.Spec.TrafficPolicy.Raw), "maxConnections") {
		t.Errorf("the trafficPolicy of the user's is gone: %+v", s.Spec)
	}
	// An edit of a field that an annotation names is undone.
	s := c.shift()
	s.Spec.Hold.Duration = time.Hour
	if err := c.Update(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	c.stays("2m0s", func() string { return c.shift().Spec.Hold.Duration.String() })
	c.stays("", c.reasons)
}

func (c *cluster) applyShift(manager string, annotations map[string]string, spec map[string]any) {
	c.Helper()
	u := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	u.SetGroupVersionKind(shiftKind)
	u.SetNamespace(c.ns)
	u.SetName("micro-api")
	u.SetAnnotations(annotations)
	if err := c.Apply(c.Context(), client.ApplyConfigurationFromUnstructured(u), client.FieldOwner(manager)); err != nil {
		c.Fatal(err)
	}
}

func TestATrafficShiftThatExtendsTheAnnotations(t *testing.T) {
	c := start(t)
	// Applied before the Deployment, as a tool that applies a folder may do.
	c.applyShift("kubectl", map[string]string{sluice.AnnotationExtends: "true"}, map[string]any{"trafficPolicy": map[string]any{"tls": map[string]any{"mode": "ISTIO_MUTUAL"}}})
	c.create("replicas: 3", "strategy: canary", "hold: 90s")
	c.want("hold strategy", c.named)
	c.want(`3, seen ""`, c.replicas)
	s := c.shift()
	if s.Spec.TrafficPolicy == nil || metav1.GetControllerOf(s) == nil || s.Labels[sluice.LabelManagedBy] != "" {
		t.Errorf("trafficPolicy, owner or labels are not as they should be: %+v", s)
	}
	c.stays("", c.reasons)
}

// What the annotations of a strategy become is applied once, and not for ever: it reads back as it was written.
func TestStrategiesSettle(t *testing.T) {
	for named, annotations := range map[string][]string{
		"abTest.conclude abTest.match preview session.maxAge strategy": {"strategy: ab-test", `match: "header:x-group=b & query:beta=1, cookie:group=b"`, `session: "true"`, `preview: "true"`},
		"preview session.maxAge steps strategy":                        {"strategy: canary", `steps: "mirror:10%@5m,0.5,10..100/30@90s"`, "session: 1h", `preview: "true"`},
		"steps strategy":                                               {"strategy: blue-green", `steps: "mirror:10,100"`},
	} {
		t.Run(named, func(t *testing.T) {
			c := start(t)
			c.create("replicas: 3", annotations...)
			c.want(named, c.named)
			c.want("3", func() string { // which is the last that is written
				n := int32(-1)
				if r := c.shift().Spec.Replicas; r != nil {
					n = *r
				}
				return fmt.Sprint(n)
			})
			version := c.shift().ResourceVersion
			c.stays(version, func() string { return c.shift().ResourceVersion })
		})
	}
}

func TestABadValueKeepsTheLastAcceptedSpec(t *testing.T) {
	c := start(t)
	c.create("replicas: 3", "strategy: canary", "hold: 1 minute")
	c.want("Warning InvalidAnnotation", c.reasons)
	c.stays("none", c.named)

	c.annotate("hold: 90s")
	c.want("hold strategy", c.named)

	c.annotate(`steps: "5,50"`, "hold: 5m")
	invalid := func() string { return c.shift().Annotations[sluice.AnnotationInvalid] }
	c.want("Deployment "+c.ns+`/micro-api: metadata.annotations[sluice.dev/steps]: Invalid value: "5,50": the last step must be 100: `+
		`that is where the candidate becomes stable; accepted: auto, or rising percentages of at most one decimal that end in 100, each with its hold `+
		`where it has one, and mirrors before them, such as "5,20,50,100", "10..100/10" or "mirror:10%@5m,20@1m,100"`, invalid)
	c.stays("1m30s", func() string { return c.shift().Spec.Hold.Duration.String() })
	c.stays("Warning InvalidAnnotation, Warning InvalidAnnotation", c.reasons)

	c.annotate("bake: 1m") // another reconcile of the same mistake is not another event
	c.stays("Warning InvalidAnnotation, Warning InvalidAnnotation", c.reasons)

	c.annotate(`steps: "5,100"`)
	c.want("bake hold steps strategy", c.named)
	c.want("", invalid)
	c.stays("Warning InvalidAnnotation, Warning InvalidAnnotation", c.reasons)
}

func TestWhatTheAPIServerRefusesIsAMistakeToo(t *testing.T) {
	c := start(t)
	c.create("replicas: 3", "strategy: canary", "gateway: infra/public") // and no hosts, here or on a TrafficShift
	c.want("Warning InvalidAnnotation", c.reasons)
	c.stays("none", c.named)
	if note := c.events.all()[0]; !strings.Contains(note, "gateways need hosts") {
		t.Errorf("the event does not say why: %s", note)
	}
	c.annotate("hosts: a.example.com")
	c.want("gateways hosts strategy", c.named)
}

func TestAnUnknownKeyIsReported(t *testing.T) {
	c := start(t)
	c.create("replicas: 3", "strategy: canary", `step: "5,100"`, "example.com: x")
	c.want("Warning UnknownAnnotation, Warning UnknownAnnotation", c.reasons)
	if note := c.events.all()[1]; !strings.Contains(note, "did you mean sluice.dev/steps?") {
		t.Errorf("the event does not help: %s", note)
	}
	c.stays("none", c.named)
}

func TestKeysWithoutAStrategyAreReported(t *testing.T) {
	c := start(t)
	c.create("replicas: 3", "hold: 1m")
	c.want("Warning InvalidAnnotation", c.reasons)
	c.stays("none", c.named)
}

func TestATrafficShiftWrittenByHandWins(t *testing.T) {
	c := start(t)
	c.applyShift("kubectl", nil, map[string]any{"hold": "7m"})
	c.create("replicas: 3", "strategy: canary", "hold: 1m")
	c.want("Warning AnnotationsIgnored", c.reasons)
	c.annotate("hold: 2m")
	c.stays("7m0s", func() string { return c.shift().Spec.Hold.Duration.String() })
	c.stays("Warning AnnotationsIgnored", c.reasons)

	// Without the strategy it is not ours to delete either.
	c.annotate("strategy: null", "hold: null")
	c.stays("7m0s", func() string { return c.shift().Spec.Hold.Duration.String() })

	// Gone, it makes room.
	c.annotate("strategy: canary", "hold: 2m")
	if err := c.Delete(t.Context(), c.shift()); err != nil {
		t.Fatal(err)
	}
	c.want("hold strategy", c.named)
}

func TestWithoutItsStrategyTheTrafficShiftGoes(t *testing.T) {
	c := start(t)
	c.create("replicas: 3", "strategy: canary")
	c.want(`3, seen ""`, c.replicas)
	s := c.shift()
	s.Finalizers = []string{sluice.Finalizer}
	if err := c.Update(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	c.annotate("strategy: null")
	c.want("true", func() string { return fmt.Sprint(c.shift().DeletionTimestamp != nil) })

	// Asked for again while the service is being handed back: a new one, and only once the old one is gone.
	c.annotate("strategy: canary", "hold: 90s")
	c.stays("strategy", c.named)
	old := c.shift()
	old.Finalizers = nil
	if err := c.Update(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	c.want("hold strategy", c.named)
	if c.shift().UID == old.UID {
		t.Error("the old TrafficShift lives")
	}
}

func TestTheDeploymentsOfVersionsAreNotShimmed(t *testing.T) {
	c := start(t)
	u := c.object("replicas: 3", "strategy: canary")
	u.SetOwnerReferences([]metav1.OwnerReference{*metav1.NewControllerRef(&metav1.ObjectMeta{Name: "parent", UID: "1"}, deploymentKind)})
	if err := c.Create(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	c.stays("none", c.named)
}

func TestReplicasOfKubectlApply(t *testing.T) {
	c := start(t)
	c.kubectlApply("paused: false", "strategy: canary")
	c.want(`1, seen ""`, c.replicas) // a defaulted 1 is where it starts, and no wish
	c.kubectlApply("replicas: 3", "strategy: canary")
	c.want(`3, seen "3"`, c.replicas)
	c.hold() // Sluice puts the template to 0
	c.stays(`3, seen "3"`, c.replicas)
	c.kubectlApply("replicas: 5", "strategy: canary", `held: "true"`)
	c.want(`5, seen "5"`, c.replicas)
}

func TestReplicasOfServerSideApply(t *testing.T) {
	c := start(t)
	c.serverSideApply("flux", "replicas: 4", "strategy: canary", `replicas: "2"`)
	c.want(`2, seen "4"`, c.replicas)
	c.serverSideApply("flux", "replicas: 6", "strategy: canary")
	c.want(`6, seen "6"`, c.replicas)
	c.hold()
	c.stays(`6, seen "6"`, c.replicas)
	c.annotate(`last-wish: "7"`) // as whoever puts a held template back to 0 leaves it
	c.want(`7, seen "7"`, c.replicas)
}

// hold does what the TrafficShift's controller does to a template.
func (c *cluster) hold() {
	c.Helper()
	u := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"replicas": int64(0)}}}
	u.SetGroupVersionKind(deploymentKind)
	u.SetNamespace(c.ns)
	u.SetName("micro-api")
	u.SetAnnotations(map[string]string{sluice.AnnotationHeld: "true"})
	if err := c.Apply(c.Context(), client.ApplyConfigurationFromUnstructured(u), client.FieldOwner(sluice.FieldManager), client.ForceOwnership); err != nil {
		c.Fatal(err)
	}
}

func TestReplicasOfAScaler(t *testing.T) {
	c := start(t)
	c.kubectlApply("replicas: 3", "strategy: canary", "hold: 1m")
	c.want(`3, seen "3"`, c.replicas)
	scale := &autoscalingv1.Scale{Spec: autoscalingv1.ScaleSpec{Replicas: 9}}
	if err := c.SubResource("scale").Update(t.Context(), c.shift(), client.WithSubResourceBody(scale), client.FieldOwner("kube-controller-manager")); err != nil {
		t.Fatal(err)
	}
	c.kubectlApply("replicas: 5", "strategy: canary", "hold: 2m")
	c.want(`9, seen "5"`, c.replicas)
	c.want("2m0s", func() string { return c.shift().Spec.Hold.Duration.String() })
	c.stays(`9, seen "5"`, c.replicas)
}

// What was switched on by an annotation is switched off by it.
func TestAnAnnotationSwitchesOff(t *testing.T) {
	for key, is := range map[string]func(*sluice.TrafficShiftSpec) bool{
		"paused":          func(s *sluice.TrafficShiftSpec) bool { return s.Paused },
		"suspend":         func(s *sluice.TrafficShiftSpec) bool { return s.Suspend },
		"skip-analysis":   func(s *sluice.TrafficShiftSpec) bool { return s.SkipAnalysis },
		"config-tracking": func(s *sluice.TrafficShiftSpec) bool { return s.ConfigTracking },
	} {
		t.Run(key, func(t *testing.T) {
			c := start(t)
			reads := func() string {
				s := c.shift()
				return fmt.Sprint(s != nil && is(&s.Spec))
			}
			c.create("replicas: 3", "strategy: canary", key+`: "true"`)
			c.want("true", reads)
			c.annotate(key + `: "false"`)
			c.want("false", reads)
			c.annotate(key + `: "true"`)
			c.want("true", reads)
		})
	}
}
