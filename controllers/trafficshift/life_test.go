package trafficshift

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/shift"
)

func unstructuredOf(o map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: o}
}

func TestAdoptionTakesTheServiceOver(t *testing.T) {
	c := newCluster(t)
	c.adopt()
	if diff := cmp.Diff([]string{"micro-api 0", "micro-api-v1 3"}, c.deploymentSizes()); diff != "" {
		t.Errorf("Deployments (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]int32{"v1": 100}, c.weights("micro-api")); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
	record, template := &appsv1.ControllerRevision{}, &appsv1.Deployment{}
	if !c.get("micro-api-v1", record) || !c.get("micro-api", template) {
		t.Fatal("the record or the template is missing")
	}
	if got := record.Annotations[v1alpha1.AnnotationChangeCause]; got != "first release" {
		t.Errorf("the record's change cause is %q", got)
	}
	if got := record.Annotations[v1alpha1.AnnotationChangedBy]; got != "kubectl" {
		t.Errorf("the record says that %q wrote the template; want kubectl", got)
	}
	if template.Annotations[v1alpha1.AnnotationHeld] != "true" {
		t.Errorf("the template is not marked as held: %v", template.Annotations)
	}
	s := c.shift()
	want := map[string]string{
		v1alpha1.ConditionAccepted: "True Accepted", v1alpha1.ConditionReady: "True Stable", v1alpha1.ConditionProgressing: "False Stable",
		v1alpha1.ConditionReconciling: "", v1alpha1.ConditionStalled: "", v1alpha1.ConditionEvidenceAvailable: "Unknown AtRest",
	}
	for kind, value := range want {
		if got := condition(s, kind); got != value {
			t.Errorf("condition %s is %q; want %q", kind, got, value)
		}
	}
	if s.Status.Replicas != 3 || s.Status.Selector != "sluice.dev/version in (micro-api-v1)" {
		t.Errorf("scale: %d replicas, selector %q", s.Status.Replicas, s.Status.Selector)
	}
	if diff := cmp.Diff([]string{"Normal Adopted"}, c.told.take()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if len(c.counts.watched) != 0 {
		t.Errorf("at rest evidence is still asked for: %v", c.counts.watched)
	}
}

// The same world twice writes nothing: not at rest, and not in the middle of a shift.
func TestASecondPassWritesNothing(t *testing.T) {
	c := newCluster(t)
	quiet := func(when string) {
		t.Helper()
		c.pass()
		c.writes = nil
		c.pass()
		if len(c.writes) > 0 {
			t.Errorf("%s a second pass wrote %q", when, c.writes)
		}
	}
	c.adopt()
	quiet("at rest")
	c.setImage("micro-api:1.2")
	c.run("5%", 60, func(s *v1alpha1.TrafficShift) bool {
		return s.Status.Weight == "5%" && s.Status.State.VerifiedSince != nil
	})
	quiet("at 5%")
	c.run("promotion", 90, promoted("v2"))
	quiet("after promotion")
}

func TestAGoodReleaseIsPromoted(t *testing.T) {
	c := newCluster(t)
	c.adopt()
	c.told.take()
	c.setImage("micro-api:1.2")
	seen := []string{}
	c.run("promotion", 120, func(s *v1alpha1.TrafficShift) bool {
		if w := s.Status.Weight; w != "" && (len(seen) == 0 || seen[len(seen)-1] != w) {
			seen = append(seen, w)
		}
		return s.Status.Stable == "v2" && resting(s)
	})
	if diff := cmp.Diff([]string{"0%", "5%", "50%", "100%"}, seen); diff != "" {
		t.Errorf("weights (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"micro-api 0", "micro-api-v1 0", "micro-api-v2 3"}, c.deploymentSizes()); diff != "" {
		t.Errorf("Deployments (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"v2"}, c.subsets()); diff != "" {
		t.Errorf("subsets (-want +got):\n%s", diff)
	}
	want := []string{"Normal ShiftStarted", "Normal WeightRaised", "Normal WeightRaised", "Normal WeightRaised", "Normal Promoted"}
	if diff := cmp.Diff(want, c.told.take()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	h := c.shift().Status.History
	if len(h) != 1 || h[0].Version != "v2" || h[0].Reason != v1alpha1.ReasonPromoted || h[0].StartedAt == nil || h[0].EndedAt == nil {
		t.Errorf("history %+v; want v2 promoted, with its times", h)
	}
	if got := c.shift().Status; got.Candidate != "" || got.Weight != "" || got.Step != "" {
		t.Errorf("at rest the status still shows candidate %q, weight %q, step %q", got.Candidate, got.Weight, got.Step)
	}
}

func TestABadReleaseIsTakenBack(t *testing.T) {
	c := newCluster(t)
	c.adopt()
	c.told.take()
	c.counts.errors["v2"] = 0.5
	c.setImage("micro-api:1.2")
	c.run("rejection", 90, func(s *v1alpha1.TrafficShift) bool {
		return s.Status.Phase == v1alpha1.PhaseFailed && len(s.Status.State.Retiring) == 0
	})
	s := c.shift()
	if s.Status.Stable != "v1" || s.Status.Rejected != "v2" || !strings.Contains(s.Status.Message, "vs stable 0.0%") {
		t.Errorf("stable %q, rejected %q, message %q; want v2 rejected, with the numbers", s.Status.Stable, s.Status.Rejected, s.Status.Message)
	}
	if diff := cmp.Diff(map[string]int32{"v1": 100}, c.weights("micro-api")); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"micro-api 0", "micro-api-v1 3", "micro-api-v2 0"}, c.deploymentSizes()); diff != "" {
		t.Errorf("Deployments (-want +got):\n%s", diff)
	}
	if got := condition(s, v1alpha1.ConditionStalled); got != "True Rejected" {
		t.Errorf("Stalled is %q; want True Rejected, for kstatus", got)
	}
	if got := condition(s, v1alpha1.ConditionReady); got != "False Rejected" {
		t.Errorf("Ready is %q; want False Rejected", got)
	}
	want := []string{"Normal ShiftStarted", "Normal WeightRaised", "Warning " + v1alpha1.ReasonErrorRateVsStable}
	if diff := cmp.Diff(want, c.told.take()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	record := &appsv1.ControllerRevision{}
	c.get("micro-api-v2", record)
	if got := record.Annotations[v1alpha1.AnnotationVerdict]; got != v1alpha1.ReasonErrorRateVsStable {
		t.Errorf("the record of v2 says %q; want why it was rejected", got)
	}
}

func TestIntentsAreCarriedOutAndTakenAway(t *testing.T) {
	c := newCluster(t)
	c.adopt()
	c.setImage("micro-api:1.2")
	c.run("5%", 60, func(s *v1alpha1.TrafficShift) bool { return s.Status.Weight == "5%" })
	c.patch(&v1alpha1.TrafficShift{}, "micro-api", `{"metadata": {"annotations": {"sluice.dev/abort": "v2"}}}`)
	c.run("the abort", 60, func(s *v1alpha1.TrafficShift) bool {
		return s.Status.Phase == v1alpha1.PhaseFailed && len(s.Status.State.Retiring) == 0
	})
	if got := c.shift(); got.Annotations[v1alpha1.AnnotationAbort] != "" || got.Status.History[0].Reason != v1alpha1.ReasonAborted {
		t.Errorf("annotations %v, history %+v; want the abort carried out and taken away", got.Annotations, got.Status.History)
	}
	c.patch(&v1alpha1.TrafficShift{}, "micro-api", `{"metadata": {"annotations": {"sluice.dev/retry": "v2"}}}`)
	c.run("promotion", 120, promoted("v2"))
	if got := c.shift(); got.Annotations[v1alpha1.AnnotationRetry] != "" {
		t.Errorf("annotations %v; want the retry taken away", got.Annotations)
	}
}

func TestMissingEvidenceIsAConditionAndAHold(t *testing.T) {
	c := newCluster(t)
	c.adopt()
	c.setImage("micro-api:1.2")
	c.run("5%", 60, func(s *v1alpha1.TrafficShift) bool {
		return s.Status.Weight == "5%" && s.Status.State.VerifiedSince != nil
	})
	c.told.take()
	c.counts.err = errStub("Prometheus is away")
	for range 30 {
		c.clock = c.clock.Add(c.pass().RequeueAfter)
	}
	s := c.shift()
	if got := condition(s, v1alpha1.ConditionEvidenceAvailable); s.Status.Weight != "5%" || got != "False NoEvidence" {
		t.Errorf("weight %s, EvidenceAvailable %q; want a hold at 5%% that says why", s.Status.Weight, got)
	}
	if diff := cmp.Diff([]string{"Warning NoEvidence"}, c.told.take()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	c.counts.err = nil
	c.run("promotion", 120, promoted("v2"))
}

type errStub string

func (e errStub) Error() string { return string(e) }

func TestDeletingTheShiftHandsTheServiceBack(t *testing.T) {
	c := newCluster(t)
	c.apply(strings.NewReplacer("name: micro-api}\nspec:", "name: micro-api}\nspec:\n  hosts: [shop.example.com]").Replace(trafficShift))
	c.apply(service)
	c.kubelet()
	c.Config.AllowedHosts = []string{"*.example.com"}
	c.run("adoption", 60, resting)
	if diff := cmp.Diff(c.weights("micro-api"), c.weights("micro-api-hosts")); diff != "" {
		t.Errorf("weights (-mesh +hosts):\n%s", diff)
	}
	c.told.take()
	if err := c.Delete(t.Context(), c.shift()); err != nil {
		t.Fatal(err)
	}
	c.run("the hand-over", 90, func(s *v1alpha1.TrafficShift) bool { return s.Name == "" })
	if diff := cmp.Diff([]string{"micro-api 3"}, c.deploymentSizes()); diff != "" {
		t.Errorf("Deployments (-want +got):\n%s", diff)
	}
	template := &appsv1.Deployment{}
	c.get("micro-api", template)
	if _, held := template.Annotations[v1alpha1.AnnotationHeld]; held {
		t.Errorf("the mark is still there: %v", template.Annotations)
	}
	if c.weights("micro-api") != nil || c.subsets() != nil {
		t.Errorf("left behind: routes %v, subsets %v", c.weights("micro-api"), c.subsets())
	}
	hosts := &networkingv1.VirtualService{}
	if !c.get("micro-api-hosts", hosts) || len(hosts.OwnerReferences) > 0 || hosts.Spec.Http[0].Route[0].Destination.Subset != "" {
		t.Errorf("hosts that only Sluice served must keep an un-owned VirtualService without subsets: %v %v", hosts.OwnerReferences, hosts.Spec.Http)
	}
	if !c.get("micro-api", &networkingv1.Gateway{}) {
		t.Error("hosts that only Sluice served must keep their Gateway")
	}
	if diff := cmp.Diff([]string{"Normal Detached"}, c.told.take()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// An old leader decides on what it read before: its status must not take back what the new one has decided.
func TestAStatusDecidedOnAnOldReadIsRefused(t *testing.T) {
	c := newCluster(t)
	c.adopt()
	old := c.shift()
	w, err := c.observe(t.Context(), old)
	if err != nil {
		t.Fatal(err)
	}
	c.patch(&v1alpha1.TrafficShift{}, "micro-api", `{"metadata": {"annotations": {"note": "newer"}}}`)
	d := decisionOf(t, c, w)
	d.Message = "something else"
	if err := c.persist(t.Context(), old, w, d); err == nil || !strings.Contains(err.Error(), "the object has been modified") {
		t.Errorf("persisting on an old read: %v; want a conflict", err)
	}
}

// The user's Service, labels and template stay the user's.
func TestNothingOfTheUsersIsChanged(t *testing.T) {
	c := newCluster(t)
	c.apply(service)
	before := &appsv1.Deployment{}
	c.get("micro-api", before)
	c.apply(trafficShift)
	c.kubelet()
	c.run("adoption", 60, resting)
	after := &appsv1.Deployment{}
	c.get("micro-api", after)
	if diff := cmp.Diff(before.Spec.Template, after.Spec.Template); diff != "" {
		t.Errorf("the template has changed:\n%s", diff)
	}
	if diff := cmp.Diff(before.Labels, after.Labels); diff != "" {
		t.Errorf("the labels have changed:\n%s", diff)
	}
	version := &appsv1.Deployment{}
	c.get("micro-api-v1", version)
	if got := version.Spec.Template.Labels["version"]; got != "v1" {
		t.Errorf("the pods of v1 carry version %q", got)
	}
	if !slices.ContainsFunc(version.OwnerReferences, func(r metav1.OwnerReference) bool { return r.UID == after.UID }) {
		t.Errorf("v1 is owned by %v; want the annotated Deployment", version.OwnerReferences)
	}
}

func decisionOf(t *testing.T, c *cluster, w *world) shift.Decision {
	t.Helper()
	d, err := shift.Decide(w.spec, w.shift.Status.State, w.observation)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
