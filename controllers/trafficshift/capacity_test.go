package trafficshift

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/internal/testenv"
)

// How many pods there are: what the types' own rules refuse, the API server refuses as well, and what it accepts they accept.
func TestTheAPIServerRefusesMistakesInCapacity(t *testing.T) {
	api, ns := testenv.Namespace(t)
	tests := map[string]struct{ spec, want string }{
		"ReadyThreshold":       {`readyThreshold: "80%"`, ""},
		"ReadyThresholdBare":   {`readyThreshold: "99.5"`, ""},
		"ReadyThresholdOfNone": {`readyThreshold: "0.0%"`, "must be above 0%"},
		"ReadyThresholdOfMore": {`readyThreshold: "101%"`, "readyThreshold"},
		"ReadyThresholdWords":  {`readyThreshold: most`, "readyThreshold"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			u := shiftOf(t, ns, "capacity-"+strings.ToLower(name), tc.spec)
			err := api.Create(t.Context(), u)
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("error %v; want a refusal that says %q", err, tc.want)
			}
			var spec v1alpha1.TrafficShiftSpec
			if body, ok := u.Object["spec"]; ok && runtime.DefaultUnstructuredConverter.FromUnstructured(body.(map[string]any), &spec) == nil {
				spec.Default()
				if errs := spec.Validate(nil); (len(errs) == 0) != (tc.want == "") {
					t.Errorf("Validate does not agree: %v", errs)
				}
			}
		})
	}
}
