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
	"github.com/sluice-dev/sluice/controllers/shift"
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

// What says whom a candidate is shown to gives way as well.
func TestMendPutsUsersRight(t *testing.T) {
	group := []apiextensionsv1.JSON{{Raw: []byte(`{"headers":{"x-group":{"exact":"b"}}}`)}}
	late := metav1.Duration{Duration: -time.Hour}
	for name, spec := range map[string]v1alpha1.TrafficShiftSpec{
		"strategy":           {Strategy: "rolling", ABTest: &v1alpha1.ABTest{}, Session: &v1alpha1.Session{Cookie: "="}},
		"test without group": {Strategy: v1alpha1.StrategyABTest},
		"test without rules": {Strategy: v1alpha1.StrategyABTest, ABTest: &v1alpha1.ABTest{}},
		"test":               {Strategy: v1alpha1.StrategyABTest, ABTest: &v1alpha1.ABTest{Match: group, Duration: &late, Conclude: "win"}},
		"stray group":        {Strategy: v1alpha1.StrategyBlueGreen, ABTest: &v1alpha1.ABTest{Match: group}},
		"pacing":             {Strategy: v1alpha1.StrategyBlueGreen, Pacing: v1alpha1.PacingAuto},
		"session":            {Session: &v1alpha1.Session{Attributes: "Max-Age=5"}},
		"rollback window":    {RollbackWindow: &v1alpha1.RollbackWindow{Revisions: 11}},
		"preview":            {Preview: &v1alpha1.Preview{Host: "*"}},
		"preview alone":      {Preview: &v1alpha1.Preview{Host: "preview.example.com"}},
		"steps":              {Strategy: v1alpha1.StrategyBlueGreen, Steps: []v1alpha1.Step{{Mirror: "0"}, {Match: group, Gates: []string{"nobody's"}}}},
		"attached":           {Strategy: v1alpha1.StrategyABTest, ABTest: &v1alpha1.ABTest{Match: group}, Routing: &v1alpha1.Routing{VirtualService: &v1alpha1.AttachedVirtualService{Name: "mine"}}},
	} {
		t.Run(name, func(t *testing.T) {
			spec.Default()
			errs := spec.Validate(field.NewPath("spec"))
			if len(errs) == 0 {
				t.Fatal("nothing is wrong with it")
			}
			mend(&spec, errs)
			if errs := spec.Validate(field.NewPath("spec")); len(errs) > 0 {
				t.Errorf("still not valid: %v", errs)
			}
			if _, err := shift.Decide(spec, v1alpha1.State{}, shift.Observation{}); err != nil {
				t.Errorf("nothing can be decided: %v", err)
			}
		})
	}
}
