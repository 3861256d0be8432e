package trafficshift

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/internal/testenv"
)

// Suspended, a shift has nothing written but its own status, whatever happens, and refuses what it is asked; resumed, it goes on where it
// stood.
func TestASuspendedShiftWritesNothing(t *testing.T) {
	c := newCluster(t)
	c.adopt()
	c.setImage("micro-api:1.2")
	c.run("5%", 60, atFivePercent)
	c.edit(`{"spec": {"suspend": true}}`)
	c.abort()
	c.edit(`{"metadata": {"annotations": {"sluice.dev/approve": "v2"}}}`)
	c.setImage("micro-api:1.3")
	before := c.mesh()
	c.pass() // answers
	c.pass() // forgets what does not stand there any more
	c.writes = nil
	for range 5 {
		c.clock = c.clock.Add(10 * time.Second)
		c.pass()
	}
	if len(c.writes) > 0 {
		t.Errorf("suspended, it wrote %q", c.writes)
	}
	c.unmoved(before)
	s := c.shift()
	if s.Status.Weight != "5%" || !strings.HasPrefix(s.Status.Message, "suspended by its owner") {
		t.Errorf("weight %q, message %q; want it as it was", s.Status.Weight, s.Status.Message)
	}
	if s.Annotations[v1alpha1.AnnotationAbort] != "" || s.Annotations[v1alpha1.AnnotationApprove] != "" || len(s.Status.Actions) != 2 {
		t.Errorf("annotations %v, actions %+v; want both requests answered and taken away", s.Annotations, s.Status.Actions)
	}
	for _, a := range s.Status.Actions {
		if a.Result != v1alpha1.ResultRefused || !strings.Contains(a.Message, "unset spec.suspend") {
			t.Errorf("%s=%s: %s: %s", a.Action, a.Value, a.Result, a.Message)
		}
	}
	if got := c.told.String(); strings.Count(got, "Warning "+v1alpha1.ReasonActionRefused) != 2 {
		t.Errorf("events:\n%s\nwant both refusals told", got)
	}
	if got := condition(s, v1alpha1.ConditionProgressing); got != "True Suspended" {
		t.Errorf("condition Progressing is %q", got)
	}
	c.setImage("micro-api:1.2")
	c.edit(`{"spec": {"suspend": false, "actions": {"abort": "v2"}}}`)
	c.run("the abort that is asked for again", 90, func(s *v1alpha1.TrafficShift) bool {
		return slices.ContainsFunc(s.Status.History, func(o v1alpha1.Outcome) bool { return o.Version == "v2" && o.Reason == v1alpha1.ReasonAborted })
	})
}

// Without Prometheus and with every request failing, analysis that is skipped holds nothing, and everybody is told.
func TestSkippedAnalysisIsToldLoudly(t *testing.T) {
	c := newCluster(t)
	c.adopt()
	c.told.take()
	c.edit(`{"spec": {"skipAnalysis": true}}`)
	c.counts.errors["v2"] = 1
	c.setImage("micro-api:1.2")
	c.run("promotion", 120, promoted("v2"))
	want := []string{"Normal ShiftStarted", "Normal WeightRaised", "Warning AnalysisSkipped", "Normal Promoted"}
	if diff := cmp.Diff(want, c.told.take()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestTheAPIServerRefusesADurationBesideWhatItStandsFor(t *testing.T) {
	api, ns := testenv.Namespace(t)
	for name, tc := range map[string]struct{ spec, want string }{
		"alone":      {"duration: 30m", ""},
		"steps":      {"duration: 30m\nsteps: [{weight: 50}, {weight: 100}]", ""},
		"hold":       {"duration: 30m\nhold: 1m", "duration and hold exclude each other"},
		"auto":       {"duration: 30m\npacing: auto", "leave out duration"},
		"ladder":     {"duration: 30m\npacing: ladder", ""},
		"nothing":    {"duration: 0s", "more than 0s"},
		"words":      {"duration: soon", "duration"},
		"blue-green": {"duration: 30m\nstrategy: blue-green", "duration is a canary's"},
		"skip":       {"skipAnalysis: true\nsuspend: true", ""},
		"skipped":    {"skipAnalysis: maybe", "skipAnalysis"},
	} {
		t.Run(name, func(t *testing.T) {
			err := api.Create(t.Context(), shiftOf(t, ns, name, tc.spec))
			if (tc.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v; want a refusal that says %q", err, tc.want)
			}
		})
	}
}
