package v1alpha1

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestADurationIsEvenSteps(t *testing.T) {
	half := &metav1.Duration{Duration: 30 * time.Minute}
	tests := map[string]struct {
		spec  TrafficShiftSpec
		steps []Step
		hold  time.Duration
		want  string // part of the refusal
	}{
		"Alone":     {TrafficShiftSpec{Duration: half}, ladder("10", "20", "30", "40", "50", "60", "70", "80", "90", "100"), 3 * time.Minute, ""},
		"WithSteps": {TrafficShiftSpec{Duration: half, Steps: ladder("5", "50", "100")}, ladder("5", "50", "100"), 10 * time.Minute, ""},
		"WithHold": {TrafficShiftSpec{Duration: half, Steps: ladder("50", "100"), Hold: &metav1.Duration{Duration: time.Minute}}, ladder("50", "100"), time.Minute,
			"exclude each other"},
		"WithAuto":  {TrafficShiftSpec{Duration: half, Pacing: PacingAuto}, nil, 30 * time.Second, "leave out duration"},
		"BlueGreen": {TrafficShiftSpec{Duration: half, Strategy: StrategyBlueGreen}, ladder("100"), time.Minute, "is a canary's"},
		"Nothing":   {TrafficShiftSpec{Duration: &metav1.Duration{}, Steps: ladder("100")}, ladder("100"), 0, "more than 0s"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := *tc.spec.DeepCopy()
			got.Default()
			if diff := cmp.Diff(tc.steps, got.Steps); diff != "" {
				t.Errorf("steps (-want +got):\n%s", diff)
			}
			if got.Hold.Duration != tc.hold {
				t.Errorf("hold %s; want %s", got.Hold.Duration, tc.hold)
			}
			var refused string
			for _, err := range got.Validate(nil) {
				if err.Field == "duration" {
					refused = err.Detail
				}
			}
			if (tc.want == "") != (refused == "") || !strings.Contains(refused, tc.want) {
				t.Errorf("refused with %q; want %q", refused, tc.want)
			}
		})
	}
}
