package trafficshift

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/yaml"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/internal/testenv"
	"github.com/sluice-dev/sluice/controllers/shift"
	"github.com/sluice-dev/sluice/metrics/analysis"
	"github.com/sluice-dev/sluice/metrics/exporter"
	"github.com/sluice-dev/sluice/metrics/query"
	"github.com/sluice-dev/sluice/metrics/webhook"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// The tests of this package hold the wiring against a real API server, and drive Reconcile by hand: the clock, the evidence and the
// pods are the test's own. What is decided, and when, is for the tests of controllers/shift.

// cluster is one namespace, and the reconciler of one TrafficShift in it.
type cluster struct {
	*testing.T
	client.Client
	*Reconciler
	ns     string
	clock  time.Time
	told   *recorder
	counts *counts
	hooks  *hooks
	writes []string          // every write of the reconciler's, in order
	broken map[int]bool      // versions by number whose pods do not become ready
	unseen string            // a Service whose endpoints nobody has found yet
	refuse func(o any) error // what the API server says to a write of the reconciler's
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	t.Parallel()
	api, ns := testenv.Namespace(t)
	c := &cluster{T: t, Client: api, ns: ns, clock: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC), told: &recorder{}, hooks: &hooks{}, broken: map[int]bool{}}
	c.counts = &counts{cluster: c, errors: map[string]float64{}, rps: 100}
	out, err := exporter.New(prometheus.NewRegistry(), exporter.Build{})
	if err != nil {
		t.Fatal(err)
	}
	c.Reconciler = &Reconciler{
		Client: interceptor.NewClient(api, c.watched()), Live: api, Recorder: c.told, Exporter: out, Evidence: c.counts, Webhooks: c.hooks,
		Config: Config{
			Timing:        shift.Timing{Settle: 2 * time.Second, Drain: 5 * time.Second, Scrape: time.Second},
			ClusterDomain: "cluster.local", RootNamespace: "istio-system", GatewaySelector: map[string]string{"istio": "ingressgateway", "of": ns},
		},
		Now: func() time.Time { return c.clock }, GatewayAPI: func() (bool, error) { return true, nil }, KEDA: func() (bool, error) { return false, nil },
	}
	c.pod("istio-ingressgateway", c.Config.GatewaySelector, "istio-proxy")
	return c
}

// pod makes a pod that nothing runs, with containers of these names.
func (c *cluster) pod(name string, labels map[string]string, containers ...string) *corev1.Pod {
	c.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: c.ns, Name: name, Labels: labels}}
	for _, container := range containers {
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: container, Image: "any"})
	}
	if err := c.Create(c.Context(), pod); err != nil {
		c.Fatal(err)
	}
	return pod
}

// watched notes every write of the reconciler's.
func (c *cluster) watched() interceptor.Funcs {
	note := func(verb string, o any) { c.writes = append(c.writes, fmt.Sprintf("%s %T", verb, o)) }
	return interceptor.Funcs{
		Create: func(ctx context.Context, api client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			note("create", o)
			return api.Create(ctx, o, opts...)
		},
		Update: func(ctx context.Context, api client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
			note("update", o)
			return api.Update(ctx, o, opts...)
		},
		Patch: func(ctx context.Context, api client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			note("patch", o)
			if err := c.refuses(o); err != nil {
				return err
			}
			return api.Patch(ctx, o, p, opts...)
		},
		Apply: func(ctx context.Context, api client.WithWatch, o runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
			note("apply", o)
			if err := c.refuses(o); err != nil {
				return err
			}
			return api.Apply(ctx, o, opts...)
		},
		Delete: func(ctx context.Context, api client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			note("delete", o)
			return api.Delete(ctx, o, opts...)
		},
		SubResourcePatch: func(ctx context.Context, api client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			note("patch "+sub, o)
			return api.SubResource(sub).Patch(ctx, o, p, opts...)
		},
	}
}

func (c *cluster) refuses(o any) error {
	if c.refuse == nil {
		return nil
	}
	return c.refuse(o)
}

// apply creates the objects of a manifest in the cluster's namespace, unless they name another.
func (c *cluster) apply(manifest string) {
	c.Helper()
	for doc := range strings.SplitSeq(manifest, "\n---\n") {
		o := map[string]any{}
		if err := yaml.Unmarshal([]byte(doc), &o); err != nil {
			c.Fatalf("%v:\n%s", err, doc)
		}
		u := unstructuredOf(o)
		if u.GetNamespace() == "" {
			u.SetNamespace(c.ns)
		}
		if err := c.Create(c.Context(), u, client.FieldOwner("kubectl")); err != nil {
			c.Fatalf("creating %s %s: %v", u.GetKind(), u.GetName(), err)
		}
	}
}

// service is what a user has before Sluice: a Deployment of three pods, and its Service.
const service = `
apiVersion: apps/v1
kind: Deployment
metadata:
  name: micro-api
  labels: {app: micro-api}
  annotations: {kubernetes.io/change-cause: "first release"}
spec:
  replicas: 3
  selector: {matchLabels: {app: micro-api}}
  template:
    metadata:
      labels: {app: micro-api, version: blue}
      annotations: {prometheus.io/scrape: "true"}
    spec:
      securityContext: {runAsNonRoot: true}
      volumes:
      - {name: cache, emptyDir: {sizeLimit: 1024Mi}}
      - {name: config, configMap: {name: settings}}
      containers:
      - name: app
        image: micro-api:1.1
        ports: [{name: http, containerPort: 8080}]
        env: [{name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
        resources: {requests: {cpu: "1000m", memory: 0.5Gi}, limits: {memory: 1024Mi}}
        readinessProbe: {httpGet: {path: /healthz, port: http}}
        lifecycle: {preStop: {exec: {command: [sleep, "5"]}}}
        volumeMounts: [{name: cache, mountPath: /cache}, {name: config, mountPath: /etc/app}]
---
apiVersion: v1
kind: Service
metadata: {name: micro-api}
spec:
  selector: {app: micro-api}
  ports: [{name: http, port: 80, targetPort: http}]
`

const trafficShift = `
apiVersion: sluice.dev/v1alpha1
kind: TrafficShift
metadata: {name: micro-api}
spec:
  replicas: 3
  steps: [{weight: 5}, {weight: 50}, {weight: 100}]
  hold: 3s
  bake: 3s
`

func (c *cluster) key() types.NamespacedName {
	return types.NamespacedName{Namespace: c.ns, Name: "micro-api"}
}

// pass reconciles once.
func (c *cluster) pass() ctrl.Result {
	c.Helper()
	res, err := c.Reconcile(c.Context(), ctrl.Request{NamespacedName: c.key()})
	if err != nil {
		c.Fatalf("reconciling: %v\nstatus: %+v", err, c.shift().Status)
	}
	return res
}

// run lets passes, pods and seconds alternate until done says so.
func (c *cluster) run(what string, limit int, done func(*v1alpha1.TrafficShift) bool) {
	c.Helper()
	for range limit {
		c.pass()
		c.kubelet()
		if done(c.shift()) {
			return
		}
		c.clock = c.clock.Add(time.Second)
	}
	s := c.shift().Status
	c.Fatalf("waiting for %s: %s/%s: %s\nconditions: %+v\nevents:\n%s", what, s.Phase, s.State.Stage, s.Message, s.Conditions, c.told)
}

func (c *cluster) adopt() {
	c.Helper()
	c.apply(service)
	c.apply(trafficShift)
	c.kubelet()
	c.run("adoption", 60, resting)
}

func resting(s *v1alpha1.TrafficShift) bool {
	return s.Status.Phase == v1alpha1.PhaseStable && len(s.Status.State.Retiring) == 0
}

func (c *cluster) shift() *v1alpha1.TrafficShift {
	c.Helper()
	s := &v1alpha1.TrafficShift{}
	if err := c.Get(c.Context(), c.key(), s); client.IgnoreNotFound(err) != nil {
		c.Fatal(err)
	}
	return s
}

// get reads an object; it reports whether it is there.
func (c *cluster) get(name string, into client.Object) bool {
	c.Helper()
	err := c.Get(c.Context(), types.NamespacedName{Namespace: c.ns, Name: name}, into)
	if client.IgnoreNotFound(err) != nil {
		c.Fatal(err)
	}
	return err == nil
}

// patch changes an object as somebody else would.
func (c *cluster) patch(o client.Object, name, patch string) {
	c.Helper()
	o.SetNamespace(c.ns)
	o.SetName(name)
	if err := c.Patch(c.Context(), o, client.RawPatch(types.MergePatchType, []byte(patch)), client.FieldOwner("kubectl")); err != nil {
		c.Fatal(err)
	}
}

// setImage is a release, with kubectl set image.
func (c *cluster) setImage(image string) {
	c.Helper()
	d := &appsv1.Deployment{}
	c.get("micro-api", d)
	d.Spec.Template.Spec.Containers[0].Image = image
	if err := c.Update(c.Context(), d, client.FieldOwner("kubectl-set")); err != nil {
		c.Fatal(err)
	}
}

// kubelet reports the pods of every Deployment, which no controller does here.
func (c *cluster) kubelet() {
	c.Helper()
	var all appsv1.DeploymentList
	if err := c.List(c.Context(), &all, client.InNamespace(c.ns)); err != nil {
		c.Fatal(err)
	}
	for i := range all.Items {
		d := &all.Items[i]
		n := *d.Spec.Replicas
		ready := n
		if number := shift.Number(d.Name[strings.LastIndex(d.Name, "-")+1:]); c.broken[int(number)] {
			ready = 0
		}
		want := appsv1.DeploymentStatus{ObservedGeneration: d.Generation, Replicas: n, UpdatedReplicas: n, ReadyReplicas: ready, AvailableReplicas: ready}
		if d.Status.ObservedGeneration == want.ObservedGeneration && d.Status.ReadyReplicas == ready && d.Status.Replicas == n {
			continue
		}
		d.Status = want
		if err := c.Status().Update(c.Context(), d); err != nil {
			c.Fatal(err)
		}
	}
	c.publishEndpoints()
}

// weights are what a VirtualService gives each version.
func (c *cluster) weights(name string) map[string]int32 {
	c.Helper()
	vs := &networkingv1.VirtualService{}
	if !c.get(name, vs) {
		return c.routeWeights(name)
	}
	weights := map[string]int32{}
	for _, route := range vs.Spec.GetTcp() {
		for _, d := range route.GetRoute() {
			weights[d.GetDestination().GetSubset()] = d.GetWeight()
		}
	}
	for _, route := range vs.Spec.GetTls() {
		for _, d := range route.GetRoute() {
			weights[d.GetDestination().GetSubset()] = d.GetWeight()
		}
	}
	if len(vs.Spec.GetHttp()) == 0 {
		return weights
	}
	for _, d := range weightedIn(vs)[0].GetRoute() {
		weights[d.GetDestination().GetSubset()] = d.GetWeight()
	}
	return weights
}

func (c *cluster) subsets() []string {
	c.Helper()
	rule := &networkingv1.DestinationRule{}
	if !c.get("micro-api", rule) {
		return nil
	}
	var names []string
	for _, s := range rule.Spec.GetSubsets() {
		names = append(names, s.GetName())
	}
	return names
}

// condition shows a condition as "True Reason".
func condition(s *v1alpha1.TrafficShift, kind string) string {
	c := meta.FindStatusCondition(s.Status.Conditions, kind)
	if c == nil {
		return ""
	}
	return string(c.Status) + " " + c.Reason
}

func versionNames(ds []appsv1.Deployment) []string {
	var names []string
	for _, d := range ds {
		names = append(names, fmt.Sprintf("%s %d", d.Name, *d.Spec.Replicas))
	}
	slices.Sort(names)
	return names
}

// deployments are all of the namespace, with their replicas.
func (c *cluster) deploymentSizes() []string {
	c.Helper()
	var all appsv1.DeploymentList
	if err := c.List(c.Context(), &all, client.InNamespace(c.ns)); err != nil {
		c.Fatal(err)
	}
	return versionNames(all.Items)
}

// counts is evidence: what Prometheus would have counted, given the routes as they are.
type counts struct {
	*cluster
	rps     int64
	errors  map[string]float64 // by subset
	err     error
	watched map[query.Key]query.Subject
	read    func() map[string]int32 // reads the weights, where no object of ours carries them
	shown   string                  // a version whose requests do not come by its weight
	// histories are those that were asked for, by their end; historyErr is what became of them.
	histories  []time.Time
	historyErr error
}

func (e *counts) Check(_, connection string) error {
	if connection != "" {
		return fmt.Errorf("connection %q: %w; accepted: default", connection, query.ErrNoConnection)
	}
	return nil
}

func (e *counts) Watch(k query.Key, connection string, s query.Subject) error {
	if e.watched == nil {
		e.watched = map[query.Key]query.Subject{}
	}
	e.watched[k] = s
	return e.Check(k.Namespace, connection)
}
func (e *counts) Unwatch(k query.Key)       { delete(e.watched, k) }
func (e *counts) Updates() <-chan query.Key { return nil }

func (e *counts) Readings(query.Key) []query.Reading { return nil }

// History is a minute before until, in one sample.
func (e *counts) History(_ context.Context, k query.Key, until time.Time) ([]analysis.Sample, error) {
	e.histories = append(e.histories, until)
	return []analysis.Sample{{From: until.Add(-time.Minute), To: until, Reporter: analysis.Source, Stable: analysis.Counts{Requests: 60 * e.rps}}}, e.historyErr
}

func (e *counts) Since(_ context.Context, k query.Key, from time.Time) (analysis.Sample, error) {
	if e.err != nil {
		return analysis.Sample{}, e.err
	}
	if from.IsZero() {
		from = e.clock
	}
	s := analysis.Sample{From: from, To: e.clock, Newest: e.clock, Reporter: analysis.Source}
	subject, requests := e.watched[k], e.rps*int64(e.clock.Sub(from)/time.Second)
	for version, weight := range e.split(k.Name) {
		n := requests * int64(weight) / 100
		c := analysis.Counts{Requests: n, Errors: int64(float64(n) * e.errors[version])}
		switch k.Name + "-" + version {
		case subject.Candidate:
			s.Candidate = c
		case subject.Stable:
			s.Stable = c
		}
	}
	if e.shown != "" && e.shown == subject.Candidate {
		s.Candidate.Requests += requests / 10
	}
	return s, nil
}

func (e *counts) split(name string) map[string]int32 {
	if e.read != nil {
		return e.read()
	}
	return e.weights(name)
}

// hooks are webhooks: what each gate's answers, once it is asked.
type hooks struct {
	asked   []webhook.Question
	answers map[string]webhook.Answer
	stopped int
}

func (h *hooks) Watch(_ webhook.Key, questions []webhook.Question) { h.asked = questions }
func (h *hooks) Unwatch(webhook.Key)                               { h.asked, h.stopped = nil, h.stopped+1 }
func (h *hooks) Updates() <-chan webhook.Key                       { return nil }

func (h *hooks) Answers(webhook.Key) []webhook.Answer {
	var all []webhook.Answer
	for _, q := range h.asked {
		a := h.answers[q.Event.Gate]
		a.Gate = q.Event.Gate
		all = append(all, a)
	}
	return all
}

// recorder keeps events as they were told, structure and all.
type recorder struct{ events []told }

type told struct {
	Kind, Reason, Action, Note string
	Related                    string
}

func (r *recorder) Eventf(_, related runtime.Object, kind, reason, action, note string, args ...any) {
	e := told{Kind: kind, Reason: reason, Action: action, Note: fmt.Sprintf(note, args...)}
	if o, ok := related.(metav1.Object); ok {
		e.Related = o.GetName()
	}
	r.events = append(r.events, e)
}

// reasons are the events so far, as "Kind Reason", and forgets them.
func (r *recorder) take() []string {
	var all []string
	for _, e := range r.events {
		all = append(all, e.Kind+" "+e.Reason)
	}
	r.events = nil
	return all
}

func (r *recorder) String() string {
	var b strings.Builder
	for _, e := range r.events {
		fmt.Fprintf(&b, "%s %s %s: %s\n", e.Kind, e.Reason, e.Action, e.Note)
	}
	return b.String()
}
