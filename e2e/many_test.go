package e2e

import (
	"fmt"
	"testing"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/e2e/lab/load"
	"github.com/sluice-dev/sluice/e2e/scene"
)

// Many services of one namespace are released at the same moment: each is judged by its own evidence, and the bad one alone goes back.
func TestManyShiftsAtOnce(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const crowd, bad = 8, 3
	var names []string
	var users []*load.Source
	for i := range crowd {
		names = append(names, fmt.Sprintf("crowd-%d", i))
		deploy(t, s, names[i])
	}
	for _, name := range names {
		await(t, s, name, "to be adopted", scene.Stable("v1"))
		users = append(users, through(t, s, name+".example.com", 25))
	}
	for i, name := range names {
		env := []string{}
		if i == bad {
			env = append(env, "ERROR_RATE=0.5")
		}
		release(t, s, name, "v2", env...)
	}
	for i, name := range names {
		if i == bad {
			ts := await(t, s, name, "to be taken back", scene.Rejected("v2"))
			if got := ts.Status.History[0].Reason; got != v1alpha1.ReasonErrorRate && got != v1alpha1.ReasonErrorRateVsStable {
				t.Errorf("%s ended as %s; want it convicted by its errors", name, got)
			}
			continue
		}
		await(t, s, name, "to be promoted", scene.Stable("v2"))
		lossless(t, users[i])
	}
}
