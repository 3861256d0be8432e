package trafficshift

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// denied is what the API server answers where an admission webhook has refused a write.
func denied(words string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusForbidden, Reason: metav1.StatusReasonForbidden,
		Message: fmt.Sprintf("admission webhook %q denied the request: %s", "routes.example.com", words),
	}}
}

// refuseKind has every write of a kind refused.
func (c *cluster) refuseKind(kind string, err error) {
	c.refuse = func(o any) error {
		if k, ok := o.(interface{ GetKind() string }); ok && k.GetKind() == kind {
			return err
		}
		return nil
	}
}

// try reconciles once, whatever comes of it.
func (c *cluster) try() error {
	_, err := c.Reconcile(c.Context(), ctrl.Request{NamespacedName: c.key()})
	return err
}

// struggle lets passes, pods and seconds alternate although writes may fail, until done says so.
func (c *cluster) struggle(what string, limit int, done func(*v1alpha1.TrafficShift) bool) {
	c.Helper()
	for range limit {
		_ = c.try()
		c.kubelet()
		if done(c.shift()) {
			return
		}
		c.clock = c.clock.Add(time.Second)
	}
	c.Fatalf("waiting for %s: %+v", what, c.shift().Status)
}

func message(s *v1alpha1.TrafficShift, kind string) string {
	if c := meta.FindStatusCondition(s.Status.Conditions, kind); c != nil {
		return c.Message
	}
	return ""
}

func (c *cluster) statusWrites() int {
	return len(slices.DeleteFunc(slices.Clone(c.writes), func(w string) bool { return !strings.HasPrefix(w, "patch status") }))
}

// Whoever looks at a shift whose routes cannot be written must see that: what was refused, and in which words. It is told once, and goes
// away with its cause.
func TestARefusedWriteIsToldUntilItWorks(t *testing.T) {
	c := newCluster(t)
	c.adopt()
	c.setImage("micro-api:1.2")
	c.told.take()
	c.refuseKind("VirtualService", denied("routes are frozen"))
	c.struggle("a refused weight", 60, func(s *v1alpha1.TrafficShift) bool { return s.Status.Weight == "5%" })
	want := fmt.Sprintf("cannot apply VirtualService %s/micro-api: admission webhook %q denied the request: routes are frozen", c.ns, "routes.example.com")
	s := c.shift()
	for what, said := range map[string]string{
		"status.message": s.Status.Message, "Progressing": message(s, v1alpha1.ConditionProgressing), "Ready": message(s, v1alpha1.ConditionReady),
		"Reconciling": message(s, v1alpha1.ConditionReconciling),
	} {
		if !strings.HasPrefix(said, want) {
			t.Errorf("%s is %q; want it to begin with %q", what, said, want)
		}
	}
	if !strings.HasSuffix(s.Status.Message, "raising v2 to 5%") {
		t.Errorf("status.message is %q; want what was decided at its end", s.Status.Message)
	}
	got := []string{condition(s, v1alpha1.ConditionProgressing), condition(s, v1alpha1.ConditionReady)}
	if diff := cmp.Diff([]string{"True WriteRefused", "False WriteRefused"}, got); diff != "" {
		t.Errorf("Progressing and Ready (-want +got):\n%s", diff)
	}
	_ = c.try() // what is waited for has become another thing than what is decided
	before := c.statusWrites()
	for range 5 {
		if err := c.try(); !strings.Contains(err.Error(), "routes are frozen") {
			t.Errorf("reconciling: %v; want the refusal as an error, so that it is tried again", err)
		}
	}
	if n := c.statusWrites() - before; n != 0 {
		t.Errorf("the same refusal was written %d times more", n)
	}
	if diff := cmp.Diff([]string{"Normal ShiftStarted", "Warning WriteRefused"}, c.told.take()); diff != "" {
		t.Errorf("events while the weight is refused (-want +got):\n%s", diff)
	}
	c.refuse = nil
	c.run("the weight", 10, func(s *v1alpha1.TrafficShift) bool { return s.Status.State.RoutedSince != nil })
	s = c.shift()
	if s.Status.RefusedWrite != nil || strings.Contains(s.Status.Message, "cannot") || condition(s, v1alpha1.ConditionProgressing) != "True Raising" ||
		strings.Contains(message(s, v1alpha1.ConditionReady), "cannot") {
		t.Errorf("the refusal is still told: %+v", s.Status)
	}
	if diff := cmp.Diff([]string{"Normal WeightRaised"}, c.told.take()); diff != "" {
		t.Errorf("events once the weight is written (-want +got):\n%s", diff)
	}
}

// A service at rest whose objects cannot be written is not Ready, whatever was decided.
func TestARefusalAtRestIsNotReady(t *testing.T) {
	c := newCluster(t)
	c.adopt()
	c.patch(&v1alpha1.TrafficShift{}, "micro-api", `{"spec": {"replicas": 4}}`)
	c.refuseKind("Deployment", denied("no more pods"))
	_ = c.try()
	s := c.shift()
	got := []string{condition(s, v1alpha1.ConditionReady), condition(s, v1alpha1.ConditionReconciling), condition(s, v1alpha1.ConditionProgressing)}
	if diff := cmp.Diff([]string{"False WriteRefused", "True WriteRefused", "False WriteRefused"}, got); diff != "" {
		t.Errorf("Ready, Reconciling, Progressing (-want +got):\n%s", diff)
	}
	if want := fmt.Sprintf("cannot apply Deployment %s/micro-api-v1: ", c.ns); !strings.HasPrefix(s.Status.Message, want) {
		t.Errorf("status.message is %q; want it to begin with %q", s.Status.Message, want)
	}
	c.refuse = nil
	c.pass()
	if got := condition(c.shift(), v1alpha1.ConditionReady); got != "True Stable" || c.shift().Status.RefusedWrite != nil {
		t.Errorf("Ready is %q, refusedWrite %v; want True Stable and none", got, c.shift().Status.RefusedWrite)
	}
}

// A conflict only says that something was read too early.
func TestAConflictIsNotToldAsARefusal(t *testing.T) {
	c := newCluster(t)
	c.adopt()
	c.patch(&v1alpha1.TrafficShift{}, "micro-api", `{"spec": {"replicas": 4}}`)
	c.refuseKind("Deployment", apierrors.NewConflict(schema.GroupResource{Resource: "deployments"}, "micro-api-v1", errors.New("it was changed")))
	c.told.take()
	c.pass()
	if s := c.shift(); s.Status.RefusedWrite != nil || condition(s, v1alpha1.ConditionReady) != "True Stable" {
		t.Errorf("refusedWrite %v, Ready %q", s.Status.RefusedWrite, condition(s, v1alpha1.ConditionReady))
	}
	if diff := cmp.Diff([]string(nil), c.told.take()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// What keeps a pass from coming to a decision at all is told as well.
func TestARefusalBeforeTheDecisionIsTold(t *testing.T) {
	c := newCluster(t)
	c.apply(service)
	c.apply(strings.Replace(trafficShift, "  replicas: 3\n", "", 1))
	_ = c.try() // its finalizer
	c.refuse = func(o any) error {
		if _, ok := o.(*v1alpha1.TrafficShift); ok {
			return denied("nobody writes here")
		}
		return nil
	}
	_ = c.try()
	want := fmt.Sprintf("cannot set spec.replicas of TrafficShift %s/micro-api: admission webhook %q denied the request: nobody writes here; it is tried again, and nothing is decided before", c.ns, "routes.example.com")
	if got := c.shift().Status.Message; got != want {
		t.Errorf("status.message is %q; want %q", got, want)
	}
}

func TestAnotherWordingIsToldAfterAWhile(t *testing.T) {
	at := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	refused := func(write, words string, after time.Duration) *v1alpha1.RefusedWrite {
		return &v1alpha1.RefusedWrite{Write: write, Message: words, At: metav1.NewTime(at.Add(after))}
	}
	first := refused("apply A", "port 1", 0)
	tests := map[string]struct {
		is   *v1alpha1.RefusedWrite
		want bool
	}{
		"TheSameMuchLater":      {refused("apply A", "port 1", time.Hour), true},
		"OtherWordsAtOnce":      {refused("apply A", "port 2", time.Second), true},
		"OtherWordsAfterAWhile": {refused("apply A", "port 2", recheckDelay), false},
		"AnotherWrite":          {refused("apply B", "port 1", time.Second), false},
		"None":                  {nil, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := sameRefusal(first, tc.is); got != tc.want {
				t.Errorf("sameRefusal is %v; want %v", got, tc.want)
			}
		})
	}
}
