package trafficshift

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// A spec that cannot be read must not keep a candidate from being taken back: what is wrong gives way, and nothing else does.
func TestMendLeavesASpecThatIsValid(t *testing.T) {
	none := int32(0)
	spec := v1alpha1.TrafficShiftSpec{
		Pacing: "slow", MaxErrorRate: "lots", MaxIncrease: "0", MaxFailedRequests: &none, Reporter: "me", MinRequests: &none,
		Capacity: "half", Drain: &metav1.Duration{Duration: -time.Second},
		HTTPSRedirect: new(bool), Routing: &v1alpha1.Routing{Delegate: true, HTTP: &apiextensionsv1.JSON{Raw: []byte(`{"match": []}`)}},
		Gates: []v1alpha1.Gate{
			{Name: "first", Query: &v1alpha1.QueryGate{PromQL: "up", Min: "1"}},
			{Name: "second", Query: &v1alpha1.QueryGate{PromQL: "up", Min: "one"}},
			{Name: "first", Manual: &v1alpha1.ManualGate{}},
			{Name: "fourth"},
			{Name: "fifth", Manual: &v1alpha1.ManualGate{Before: "50"}},
		},
	}
	bad := v1alpha1.TrafficShiftSpec{Duration: &metav1.Duration{Duration: time.Hour}, Steps: []v1alpha1.Step{{Weight: new(intstr.FromInt(7))}}}
	bad.Default()
	mend(&bad, bad.Validate(field.NewPath("spec")))
	if errs := bad.Validate(field.NewPath("spec")); len(errs) > 0 {
		t.Errorf("a duration with bad steps is still not valid: %v", errs)
	}
	spec.Default()
	mend(&spec, spec.Validate(field.NewPath("spec")))
	if errs := spec.Validate(field.NewPath("spec")); len(errs) > 0 {
		t.Errorf("still not valid: %v", errs)
	}
	if spec.Routing == nil || !spec.Routing.Delegate {
		t.Error("a mistake in one field of the routing has changed whose routes they are")
	}
	var names []string
	for _, g := range spec.Gates {
		names = append(names, g.Name)
	}
	if diff := cmp.Diff([]string{"first", "fifth"}, names); diff != "" {
		t.Errorf("gates that are asked (-want +got):\n%s", diff)
	}
}
