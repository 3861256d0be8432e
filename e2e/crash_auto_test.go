package e2e

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/e2e/lab/load"
	"github.com/sluice-dev/sluice/e2e/scene"
)

// README: "The controller is killed: The next controller reads its state and resumes at the same step", and what it had counted is still
// counted, once. It is killed again and again in the middle of two releases whose weights it chooses itself: the good one is promoted and the bad
// one taken back. docs/gates.md: "`run` is the same for every question about one release". Not parallel: it takes the controller away from
// everybody.
func TestControllerKilledAgainAndAgain(t *testing.T) {
	s := stage(t)
	const good, bad, kills = "lasting", "leaking", 3
	d := openDesk(t)
	users := map[string]*load.Source{}
	for _, name := range []string{good, bad} {
		deploy(t, s, name, "steps=auto", "hold=4s", "bake=30s")
	}
	gates(t, s, good, d.gate())
	for _, name := range []string{good, bad} {
		await(t, s, name, "to be adopted", scene.Stable("v1"))
		users[name] = through(t, s, name+".example.com", 100)
		follow(t, s, name, (&recollection{t: t, name: name, users: users[name]}).see)
	}
	release(t, s, good, "v2")
	release(t, s, bad, "v2", "ERROR_RATE=0.05")

	for looks := range kills {
		at := await(t, s, good, "to have looked a few times more", func(ts *v1alpha1.TrafficShift) bool {
			return remembered(ts).Errors.Harm.Blocks >= 3*(looks+1) || ts.Status.Stable == "v2"
		})
		if at.Status.Phase != v1alpha1.PhaseProgressing {
			t.Errorf("%s is %s before it was killed %d times", good, at.Status.Phase, kills)
		}
		kill(t, s)
		t.Logf("killed after %d looks at %s %s", remembered(at).Errors.Harm.Blocks, at.Status.State.Stage, at.Status.Weight)
	}
	await(t, s, good, "to be promoted", scene.Stable("v2"))
	ts := await(t, s, bad, "to be taken back", scene.Rejected("v2"))
	if got := ts.Status.History[0].Reason; !strings.Contains(got, "ErrorRate") && got != v1alpha1.ReasonSuspicionOfHarm {
		t.Errorf("the bad version ended as %s; want it convicted by its errors", got)
	}
	lossless(t, users[good])
	d.check(t, good, "v2")
}

// memory is what of a gate's memory can be compared: how many looks it has taken, and the candidate's requests in them.
type memory struct {
	Errors struct {
		Harm struct {
			Blocks int `json:"t"`
		} `json:"h"`
	} `json:"e"`
	Total struct {
		Candidate struct {
			Requests int `json:"n"`
		} `json:"c"`
	} `json:"a"`
}

// remembered is the memory that a shift's status keeps; nothing where there is none.
func remembered(ts *v1alpha1.TrafficShift) memory {
	var m memory
	if raw := ts.Status.State.Gate.Memory; raw != nil {
		_ = json.Unmarshal(raw.Raw, &m) // one that cannot be read is none
	}
	return m
}

// recollection asserts that a candidate's evidence only grows, and by no more than what users were answered.
type recollection struct {
	t     *testing.T
	name  string
	users *load.Source
	last  memory
}

func (r *recollection) see(ts *v1alpha1.TrafficShift) {
	if st := ts.Status.State; st.Weight == 0 || st.Candidate != "v2" {
		return
	}
	now := remembered(ts)
	if now.Errors.Harm.Blocks < r.last.Errors.Harm.Blocks || now.Total.Candidate.Requests < r.last.Total.Candidate.Requests {
		r.t.Errorf("%s has forgotten: %+v, and before %+v", r.name, now, r.last)
	}
	const inFlight = 32 // what a source has under way at most
	if seen := count(r.users.Report(), "v2"); now.Total.Candidate.Requests > seen+inFlight {
		r.t.Errorf("%s counted %d requests of v2, which has answered %d", r.name, now.Total.Candidate.Requests, seen)
	}
	r.last = now
}
