package e2e

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

func shiftOf(name string) *v1alpha1.TrafficShift {
	ts := &v1alpha1.TrafficShift{}
	ts.Namespace, ts.Name = deployment(name).Namespace, name
	return ts
}

func condition(ts *v1alpha1.TrafficShift, kind string) *metav1.Condition {
	return meta.FindStatusCondition(ts.Status.Conditions, kind)
}

// README: "A mistake is refused when it is written, where the cluster can, and otherwise becomes a condition and one Warning event that name the
// key, the value and what is accepted; it never stops traffic."
func TestBadAnnotationsAreRefusedByName(t *testing.T) {
	s := stage(t)
	t.Parallel()
	service(t, s, "typo")
	users := through(t, s, "typo.example.com", 40)
	tests := map[string]struct{ key, value, accepted string }{
		"NotALadder":   {v1alpha1.AnnotationSteps, "a lot", "5,20,50,100"},
		"NotADuration": {v1alpha1.AnnotationHold, "a while", "a duration"},
		"NotARate":     {v1alpha1.AnnotationMaxErrorRate, "150%", "1%"},
		"UnknownKey":   {v1alpha1.Prefix + "stepz", "5,100", "steps"},
		"NoStrategy":   {v1alpha1.AnnotationStrategy, "rainbow", "canary"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			err := s.Annotate(t.Context(), deployment("typo"), map[string]string{tc.key: tc.value})
			if err == nil {
				t.Fatalf("%s: %q was accepted", tc.key, tc.value)
			}
			for _, part := range []string{tc.key, tc.accepted} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("the refusal does not say %q: %v", part, err)
				}
			}
		})
	}
	// What admission lets through, because the cluster's administrator switched it off or it was written before, is a condition.
	if err := s.Annotate(t.Context(), deployment("typo"), map[string]string{v1alpha1.AnnotationService: "nobody"}); err != nil {
		t.Fatal(err)
	}
	ts := await(t, s, "typo", "to say which Service is missing", func(ts *v1alpha1.TrafficShift) bool {
		c := condition(ts, v1alpha1.ConditionAccepted)
		return c != nil && c.Status == "False"
	})
	if c := condition(ts, v1alpha1.ConditionAccepted); c.Reason != v1alpha1.ReasonServiceUnsupported || !strings.Contains(c.Message, `"nobody"`) {
		t.Errorf("condition %+v; want it to name the Service", c)
	}
	lossless(t, users)
}
