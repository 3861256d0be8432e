package trafficshift

import (
	"flag"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/shift"
	"github.com/sluice-dev/sluice/metrics/analysis"
)

var update = flag.Bool("update", false, "rewrite the golden files; commit only a difference that you can explain")

func at(seconds int) *metav1.MicroTime {
	t := metav1.NewMicroTime(time.Date(2026, 11, 1, 12, 0, seconds, 0, time.UTC))
	return &t
}

// TestStatusGolden shows what a user reads of a shift, for each place where one can stand. The durable state is decided by
// controllers/shift; what is shown of it is decided here.
func TestStatusGolden(t *testing.T) {
	versions := []shift.Version{{Name: "v1", Exists: true, Replicas: 3}, {Name: "v2", Exists: true, Replicas: 2}}
	counting := shift.Evidence{Available: true, Sample: analysis.Sample{Reporter: analysis.Source}}
	ended := metav1.NewTime(at(50).Time)
	verdicts := []analysis.Verdict{
		{Gate: analysis.GateRequests, Outcome: analysis.Pass, Reason: analysis.ReasonEnoughRequests, Value: 200, Limit: 50, Message: "200 of 50 requests"},
		{Gate: analysis.GateErrorRate, Outcome: analysis.Pass, Reason: analysis.ReasonWithinLimit, Value: .005, Limit: .01, Message: "candidate failed 1 of 200 requests (0.5%), limit 1.0%"},
		{Gate: "checkout", Outcome: analysis.Pass, Reason: v1alpha1.ReasonGatePassed, Value: .9871, Limit: .95, Message: "gate checkout: 0.9871", DryRun: true},
		{Gate: "tests", Outcome: analysis.Inconclusive, Reason: v1alpha1.ReasonGateNotAsked, Value: math.NaN(), Limit: math.NaN(), Message: "gate tests was not asked yet"},
	}
	tests := map[string]struct {
		obs shift.Observation
		d   shift.Decision
	}{
		"stable": {
			shift.Observation{Versions: versions[:1], Evidence: shift.Evidence{Missing: "no candidate is being judged"}},
			shift.Decision{Current: true, Reason: v1alpha1.ReasonStable, Message: "v1 has all the traffic", Next: v1alpha1.State{Phase: v1alpha1.PhaseStable, Stable: "v1", LastVersion: 1}},
		},
		"blocked": {
			shift.Observation{Problems: []shift.Problem{{Reason: v1alpha1.ReasonHostClaimed, Message: "claimed; remove it"}, {Reason: v1alpha1.ReasonNameTaken, Message: "taken; rename it"}}},
			shift.Decision{Reason: v1alpha1.ReasonHostClaimed, Message: "claimed; remove it", Next: v1alpha1.State{Phase: v1alpha1.PhaseAdopting, Stage: v1alpha1.StageRecording}},
		},
		"stepping": {
			shift.Observation{Versions: versions, Evidence: counting},
			shift.Decision{Reason: v1alpha1.ReasonHolding, Message: "v2 holds 20% for 1m0s; 1 of 200 requests failed", Until: at(100).Time, Verdicts: verdicts, Next: v1alpha1.State{
				Phase: v1alpha1.PhaseProgressing, Stage: v1alpha1.StageStepping, Stable: "v1", Candidate: "v2", LastVersion: 2, Weight: 200, Peak: 200,
				StartedAt: at(0), VerifiedSince: at(40),
				Share: v1alpha1.ShareState{Candidate: 101, Total: 500, Samples: 3},
				Gate:  v1alpha1.GateState{Candidate: v1alpha1.Counts{Requests: 200, Errors: 1}, Stable: v1alpha1.Counts{Requests: 790}},
			}},
		},
		"unproven": {
			shift.Observation{Versions: versions, Evidence: shift.Evidence{Missing: "no evidence: Prometheus is unreachable"}},
			shift.Decision{Reason: v1alpha1.ReasonNoEvidence, Message: "no evidence; holding at 0.5%", Next: v1alpha1.State{
				Phase: v1alpha1.PhaseProgressing, Stage: v1alpha1.StageStepping, Stable: "v1", Candidate: "v2", Weight: 5, Peak: 5, StartedAt: at(0),
			}},
		},
		"baking": {
			shift.Observation{Versions: versions, Evidence: counting},
			shift.Decision{Reason: v1alpha1.ReasonBaking, Message: "v2 holds 100% for 5m0s", Next: v1alpha1.State{
				Phase: v1alpha1.PhaseProgressing, Stage: v1alpha1.StageBaking, Stable: "v1", Candidate: "v2", Weight: 1000, Peak: 1000, VerifiedSince: at(40),
			}},
		},
		"auto": {
			shift.Observation{Versions: versions, Evidence: shift.Evidence{Available: true, Sample: analysis.Sample{
				Reporter: analysis.Waypoint, SlowAbove: 500 * time.Millisecond,
			}}},
			shift.Decision{Reason: v1alpha1.ReasonHolding, Message: "v2 holds 1.6% for 30s; 0 of 31 requests failed", Next: v1alpha1.State{
				Phase: v1alpha1.PhaseProgressing, Stage: v1alpha1.StageStepping, Stable: "v1", Candidate: "v2", Weight: 16, Peak: 16, WeightedAt: at(30),
			}},
		},
		"failed": {
			shift.Observation{Versions: versions},
			shift.Decision{Reason: v1alpha1.ReasonRejected, Message: "v2 was refused: 40 of 200 requests failed; v1 has all the traffic",
				Ended: &v1alpha1.Outcome{Version: "v2", Reason: v1alpha1.ReasonErrorRate, Message: "40 of 200 requests failed", Weight: "20%", EndedAt: &ended},
				Next: v1alpha1.State{
					Phase: v1alpha1.PhaseFailed, Stable: "v1", Rejected: "v2",
					Failure: &v1alpha1.Failure{Reason: v1alpha1.ReasonErrorRate, Message: "40 of 200 requests failed", Reject: true},
				}},
		},
		"contested": {
			shift.Observation{Versions: versions[:1]},
			shift.Decision{Current: true, Reason: v1alpha1.ReasonReplicasContested, Message: "something keeps scaling the Deployment up", Next: v1alpha1.State{
				Phase: v1alpha1.PhaseStable, Stable: "v1", Contested: 4,
			}},
		},
		"released": {
			shift.Observation{},
			shift.Decision{Reason: v1alpha1.ReasonDetached, Message: "the service is the Deployment's own again", Next: v1alpha1.State{
				Phase: v1alpha1.PhaseDetaching, Stage: v1alpha1.StageReleased, LastVersion: 2,
			}},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			ts := &v1alpha1.TrafficShift{}
			ts.Name, ts.Generation = "micro-api", 7
			ts.Status.State.Phase = tc.d.Next.Phase
			ts.Status.State.Candidate = tc.d.Next.Candidate
			w := &world{shift: ts, observation: tc.obs}
			w.spec.Pacing = v1alpha1.PacingLadder
			if name == "auto" {
				w.spec.Pacing = v1alpha1.PacingAuto
				w.spec.MaxLatency = &v1alpha1.LatencyLimit{Percentile: "99", Below: metav1.Duration{Duration: 450 * time.Millisecond}}
			}
			w.spec.Default()
			status := statusOf(ts, w, tc.d)
			for i := range status.Conditions {
				status.Conditions[i].LastTransitionTime = metav1.Time{} // the present time
			}
			got, err := yaml.Marshal(status)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", "status", name+".yaml")
			if *update {
				if err := os.WriteFile(file, got, 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("the status has changed (-want +got); if that is meant, run the test with -update:\n%s", diff)
			}
		})
	}
}

// The history is bounded, and newest first.
func TestHistoryKeepsTheNewestOutcomes(t *testing.T) {
	ts := &v1alpha1.TrafficShift{}
	for i := range historyLimit + 3 {
		w := &world{shift: ts}
		w.spec.Default()
		ts.Status = statusOf(ts, w, shift.Decision{Reason: v1alpha1.ReasonStable, Message: "x", Ended: &v1alpha1.Outcome{Version: string(rune('a' + i))}})
	}
	if h := ts.Status.History; len(h) != historyLimit || h[0].Version != "m" || h[historyLimit-1].Version != "d" {
		t.Errorf("history %+v; want the last %d, newest first", h, historyLimit)
	}
}
