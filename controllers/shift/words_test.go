package shift_test

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// Whatever becomes of a service that is seen by its connections alone, nothing that is said of it speaks of requests; and a limit on
// response times, which nobody could measure, is not waited for.
func TestConnectionsAreCalledSo(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(w *world)
		reason string
	}{
		"Promoted":  {func(w *world) { w.measured = late() }, v1alpha1.ReasonPromoted},
		"Worse":     {func(w *world) { w.errorRate[2] = 0.5 }, v1alpha1.ReasonErrorRateVsStable},
		"ByAPace":   {func(w *world) { w.errorRate[2] = 0.5; w.spec.Steps, w.spec.Pacing = nil, v1alpha1.PacingAuto }, v1alpha1.ReasonErrorRateVsStable},
		"Bypassed":  {func(w *world) { w.bypass = true }, v1alpha1.ReasonRouteBypassed},
		"Elsewhere": {func(w *world) { w.noHost = func(share v1alpha1.Permille) float64 { return float64(min(share, 1)) / 3 } }, v1alpha1.ReasonNoHealthyUpstream},
	} {
		t.Run(name, func(t *testing.T) {
			w := adopted(t)
			w.connections = true
			w.spec.MaxLatency = &v1alpha1.LatencyLimit{Percentile: "99", Below: metav1.Duration{Duration: time.Second}}
			tc.change(w)
			w.spec.Default()
			var said []string
			w.after = func() {
				said = append(said, w.last.Message)
				for _, v := range w.last.Verdicts {
					said = append(said, v.Message)
				}
			}
			w.template = 2
			w.run(600, func() bool { return len(w.ended) > 0 })
			if got := w.ended[0]; got.Reason != tc.reason {
				t.Errorf("outcome %+v; want %s", got, tc.reason)
			}
			said = append(said, w.ended[0].Message)
			spoken := false
			for _, text := range said {
				spoken = spoken || strings.Contains(text, "connections")
				if strings.Contains(text, "request") {
					t.Errorf("%q", text)
				}
			}
			if !spoken {
				t.Errorf("nothing was said of connections: %q", said)
			}
		})
	}
}

// late gives the candidate nothing for the first looks at a weight.
func late() func(share v1alpha1.Permille) v1alpha1.Permille {
	looks := 0
	return func(share v1alpha1.Permille) v1alpha1.Permille {
		if looks++; looks%20 < 6 {
			return 0
		}
		return share
	}
}
