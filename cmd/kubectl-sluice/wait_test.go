package main

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// life is what a controller writes, a change a second.
type life = []func(*v1alpha1.TrafficShift)

// What wait exits with, after kubectl set image has just made generation 2 of the Deployment.
func TestWait(t *testing.T) {
	blocked := func(ts *v1alpha1.TrafficShift) {
		stands(ts, v1alpha1.PhaseAdopting, v1alpha1.ReasonHostClaimed, "VirtualService shop/other claims the host: remove it")
		stalled(ts)
	}
	asked := releasing("v2", 50, v1alpha1.ReasonWaitingForApproval)
	for name, tc := range map[string]struct {
		life life
		want string // what is waited for
		code int
		says string
	}{
		"Promoted":                  {life{all(at(2), releasing("v2", 50, v1alpha1.ReasonHolding)), all(ending("v2", v1alpha1.ReasonPromoted), resting("v2"))}, "promoted", 0, "v2 was promoted: the numbers"},
		"PromotedUnseen":            {life{all(at(2), resting("v2"))}, "promoted", 0, "users are on v2"},
		"Refused":                   {life{all(at(2), releasing("v2", 50, v1alpha1.ReasonHolding)), refused("v2")}, "promoted", exitEnded, "v2 was not promoted (ErrorRateExceeded): the numbers"},
		"RefusedUnseen":             {life{all(at(2), refused("v2"))}, "promoted", exitEnded, "v2 was refused"},
		"Cancelled":                 {life{all(at(2), releasing("v2", 50, v1alpha1.ReasonHolding)), all(at(3), ending("v2", v1alpha1.ReasonCancelled), resting("v1"))}, "promoted", exitEnded, "Cancelled"},
		"CancelledIsStable":         {life{all(at(2), releasing("v2", 50, v1alpha1.ReasonHolding)), all(at(3), ending("v2", v1alpha1.ReasonCancelled), resting("v1"))}, "stable", 0, "users are on v1"},
		"Superseded":                {life{all(at(2), releasing("v2", 50, v1alpha1.ReasonHolding)), all(at(3), ending("v2", v1alpha1.ReasonSuperseded), releasing("v3", 0, v1alpha1.ReasonWaitingForPods))}, "promoted", exitEnded, "Superseded"},
		"SupersededIsStableInTime":  {life{all(at(2), releasing("v2", 50, v1alpha1.ReasonHolding)), all(at(3), ending("v2", v1alpha1.ReasonSuperseded), releasing("v3", 0, v1alpha1.ReasonWaitingForPods)), resting("v3")}, "stable", 0, "users are on v3"},
		"Blocked":                   {life{all(at(2), blocked)}, "promoted", exitBlocked, "HostClaimed: VirtualService shop/other claims the host: remove it"},
		"BlockedUnderWayGoesOn":     {life{all(at(2), releasing("v2", 50, v1alpha1.ReasonHolding), stalled), all(ending("v2", v1alpha1.ReasonPromoted), resting("v2"))}, "promoted", 0, "promoted"},
		"TimeIsUp":                  {life{all(at(2), releasing("v2", 50, v1alpha1.ReasonHolding))}, "promoted", exitTimeout, "micro-api is not promoted after 1m0s: v2 at 5%"},
		"TimeIsUpForAPerson":        {life{all(at(2), asked)}, "promoted", exitPaused, "waits for a person"},
		"Suspended":                 {life{all(at(2), releasing("v2", 50, v1alpha1.ReasonSuspended))}, "promoted", exitPaused, "waits for a person"},
		"NeverLookedAt":             {nil, "promoted", exitTimeout, "is it running?"},
		"AtAGate":                   {life{all(at(2), releasing("v2", 50, v1alpha1.ReasonHolding)), asked}, "paused", 0, "v2 at 5%"},
		"Paused":                    {life{all(at(2), releasing("v2", 50, v1alpha1.ReasonPaused))}, "paused", 0, "v2 at 5%"},
		"PromotedWithoutAPause":     {life{all(at(2), releasing("v2", 50, v1alpha1.ReasonHolding)), all(ending("v2", v1alpha1.ReasonPromoted), resting("v2"))}, "paused", exitEnded, "v2 was promoted"},
		"NothingToPause":            {life{all(at(2), resting("v2"))}, "paused", exitEnded, "nothing is being released"},
		"Rejected":                  {life{all(at(2), releasing("v2", 50, v1alpha1.ReasonHolding)), refused("v2")}, "rejected", 0, "v2 was not promoted"},
		"NotRejectedButPromoted":    {life{all(at(2), resting("v2"))}, "rejected", exitEnded, "users are on v2"},
		"AnUndoIsOnItsWay":          {life{all(at(2), refused("v2"), undoing("v1")), all(at(3), undoing(""), resting("v1"))}, "stable", 0, "users are on v1"},
		"AnUndoIsNotWrittenYet":     {life{all(at(2), undoing("v0")), all(at(3), undoing(""), releasing("v0", 50, v1alpha1.ReasonHolding)), all(ending("v0", v1alpha1.ReasonPromoted), resting("v0"))}, "promoted", 0, "v0 was promoted"},
		"PausedAfterAnUndo":         {life{all(at(2), undoing("v0")), all(at(3), undoing(""), releasing("v0", 50, v1alpha1.ReasonPaused))}, "paused", 0, "v0 at 5%"},
		"RejectedAfterAnUndo":       {life{all(at(2), undoing("v0")), all(at(3), undoing(""), releasing("v0", 50, v1alpha1.ReasonHolding)), refused("v0")}, "rejected", 0, "v0 was not promoted"},
		"SuspendedBeforeAnUndo":     {life{all(at(2), undoing("v0"), suspended)}, "paused", 0, "suspended"},
		"HandedBack":                {life{all(at(2), releasing("v2", 50, v1alpha1.ReasonHolding)), detaching}, "promoted", exitEnded, "handed back"},
		"ASpecThatIsNotLookedAtYet": {life{all(at(2), refused("v2"), unread), all(resting("v2"), looked)}, "promoted", 0, "users are on v2"},
	} {
		bubble(t, name, func(t *testing.T) {
			c := api(deployment(2), shift())
			lives(t, c, tc.life...)
			began := time.Now()
			code, out, failure := person{}.does(t, c, "wait", "micro-api", "--for", tc.want, "--timeout=1m")
			if code != tc.code || !strings.Contains(out+failure, tc.says) {
				t.Errorf("exit %d after %s, want %d and %q\n%s%s", code, time.Since(began), tc.code, tc.says, out, failure)
			}
			if last := time.Duration(len(tc.life)) * time.Second; (code == exitTimeout || code == exitPaused) != (time.Since(began) == time.Minute) || code == 0 && time.Since(began) < last {
				t.Errorf("exit %d after %s", code, time.Since(began))
			}
			time.Sleep(time.Minute) // the controller ends before the test does
		})
	}
}

func stalled(ts *v1alpha1.TrafficShift) {
	for i := range ts.Status.Conditions {
		if ts.Status.Conditions[i].Type == v1alpha1.ConditionStalled {
			ts.Status.Conditions[i].Status = metav1.ConditionTrue
		}
	}
}

func detaching(ts *v1alpha1.TrafficShift) {
	stands(ts, v1alpha1.PhaseDetaching, v1alpha1.ReasonDetaching, "the routes let go")
}

func undoing(version string) func(*v1alpha1.TrafficShift) {
	return func(ts *v1alpha1.TrafficShift) {
		ts.Status.State.Undo = nil
		if version != "" {
			ts.Status.State.Undo = &v1alpha1.UndoState{Version: version}
		}
	}
}

// suspended is a shift at rest for which nothing is written.
func suspended(ts *v1alpha1.TrafficShift) {
	stands(ts, v1alpha1.PhaseStable, v1alpha1.ReasonSuspended, "suspended by its owner")
}

// unread is a spec that was changed after the status was written; looked is a status that knows it.
func unread(ts *v1alpha1.TrafficShift) { ts.Status.ObservedGeneration = ts.Generation - 1 }
func looked(ts *v1alpha1.TrafficShift) { ts.Status.ObservedGeneration = ts.Generation }

// Right after kubectl set image the status is still that of the release before, Ready or refused: neither is the answer.
func TestWaitDoesNotTakeTheReleaseBeforeForThis(t *testing.T) {
	for name, before := range map[string]func(*v1alpha1.TrafficShift){"Ready": resting("v1"), "Refused": refused("v7")} {
		bubble(t, name, func(t *testing.T) {
			c := api(deployment(2), shift(before))
			lives(t, c, func(ts *v1alpha1.TrafficShift) { ts.Status.Message = "still of generation 1" },
				all(at(2), releasing("v8", 0, v1alpha1.ReasonWaitingForPods)), all(ending("v8", v1alpha1.ReasonPromoted), resting("v8")))
			began := time.Now()
			code, out, failure := person{}.does(t, c, "wait", qualified)
			if code != 0 || time.Since(began) != 3*time.Second || !strings.Contains(out, "v8 was promoted") {
				t.Errorf("exit %d after %s; want 0 when v8 is promoted\n%s%s", code, time.Since(began), out, failure)
			}
		})
	}
	bubble(t, "OfADeploymentBefore", func(t *testing.T) {
		c := api(deployment(1), shift(at(9), func(ts *v1alpha1.TrafficShift) { ts.Status.State.TemplateUID = "the-one-before" }))
		if code, out, failure := (person{}).does(t, c, "wait", qualified, "--timeout=10s"); code != exitTimeout {
			t.Errorf("exit %d; the status is of a Deployment that is gone\n%s%s", code, out, failure)
		}
	})
}

// A status that knows the new generation still shows the version before, on its way back: that is another's end, whatever it is.
func TestWaitDoesNotTakeTheVersionThatGoesBackForItsOwn(t *testing.T) {
	second := all(at(3), ending("v2", v1alpha1.ReasonSuperseded), releasing("v3", 0, v1alpha1.ReasonWaitingForPods))
	promoted, held := all(ending("v3", v1alpha1.ReasonPromoted), resting("v3")), releasing("v2", 500, v1alpha1.ReasonSuspended)
	for name, tc := range map[string]struct {
		life life
		want string
		code int
		says string
	}{
		"Superseded":            {life{all(at(3), goingBack("v2", v1alpha1.ReasonSuperseded)), second, promoted}, "promoted", 0, "v3 was promoted"},
		"SupersededAndRefused":  {life{all(at(3), goingBack("v2", v1alpha1.ReasonSuperseded)), second, refused("v3")}, "rejected", 0, "v3 was not promoted"},
		"AFixOfABadOne":         {life{all(at(3), goingBack("v2", v1alpha1.ReasonErrorRate)), second, promoted}, "promoted", 0, "v3 was promoted"},
		"ItsOwnIsRefused":       {life{all(at(3), goingBack("v2", v1alpha1.ReasonErrorRate)), refused("v2")}, "promoted", exitEnded, "v2 was refused"},
		"ItsOwnIsRefusedAsSaid": {life{all(at(3), goingBack("v2", v1alpha1.ReasonErrorRate)), refused("v2")}, "rejected", 0, "v2 was refused"},
		"Suspended":             {life{all(at(3), held), goingBack("v2", v1alpha1.ReasonSuperseded), second, promoted}, "promoted", 0, "v3 was promoted"},
		"SuspendedItself":       {life{all(at(3), held), all(ending("v2", v1alpha1.ReasonPromoted), resting("v2"))}, "promoted", 0, "users are on v2"},
	} {
		bubble(t, name, func(t *testing.T) {
			c := api(deployment(3), shift(at(2), releasing("v2", 500, v1alpha1.ReasonHolding)))
			lives(t, c, tc.life...)
			began := time.Now()
			code, out, failure := person{}.does(t, c, "wait", "micro-api", "--for", tc.want, "--timeout=1m")
			if code != tc.code || !strings.Contains(out+failure, tc.says) || time.Since(began) != time.Duration(len(tc.life))*time.Second {
				t.Errorf("exit %d after %s, want %d and %q at the end\n%s%s", code, time.Since(began), tc.code, tc.says, out, failure)
			}
			time.Sleep(time.Minute)
		})
	}
}

// goingBack is a version that is taken back, for a reason.
func goingBack(version, reason string) func(*v1alpha1.TrafficShift) {
	return func(ts *v1alpha1.TrafficShift) {
		releasing(version, 500, reason)(ts)
		stands(ts, v1alpha1.PhaseRollingBack, reason, version+" goes back")
	}
}

const qualified = "deployment/micro-api" // as kubectl writes it

// A watch that is dropped, and an API server that is away for a while, are outlived.
func TestWaitOutlivesADroppedWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := api(deployment(2), shift())
		lives(t, base, all(at(2), releasing("v2", 50, v1alpha1.ReasonHolding)), nothing, nothing, nothing, nothing, all(ending("v2", v1alpha1.ReasonPromoted), resting("v2")))
		code, out, failure := person{}.does(t, shaky(base, 3), "wait", "micro-api", "--timeout=1m")
		if code != 0 || !strings.Contains(out, "v2 was promoted") {
			t.Errorf("exit %d\n%s%s", code, out, failure)
		}
	})
}

func nothing(*v1alpha1.TrafficShift) {}

func TestWaitForAShiftThatIsNotThereYet(t *testing.T) {
	bubble(t, "OnItsWay", func(t *testing.T) {
		c := api(deployment(1))
		go func() {
			time.Sleep(2 * time.Second)
			if err := c.Create(t.Context(), shift()); err != nil {
				t.Error(err)
			}
		}()
		if code, out, failure := (person{}).does(t, c, "wait", "micro-api", "--timeout=1m"); code != 0 {
			t.Errorf("exit %d\n%s%s", code, out, failure)
		}
	})
	bubble(t, "NeverComes", func(t *testing.T) {
		if code, _, failure := (person{}).does(t, api(deployment(1)), "wait", "micro-api", "--timeout=1m"); code != exitTimeout || !strings.Contains(failure, "is the controller running?") {
			t.Errorf("exit %d: %s", code, failure)
		}
	})
	bubble(t, "NobodyAsksForIt", func(t *testing.T) {
		d := deployment(1)
		d.Annotations = nil
		began := time.Now()
		code, _, failure := person{}.does(t, api(d, shift(func(ts *v1alpha1.TrafficShift) { ts.Name = "other" })), "wait", "micro-api")
		if code != exitError || !strings.Contains(failure, "there are other") || time.Since(began) != 0 {
			t.Errorf("exit %d after %s: %s", code, time.Since(began), failure)
		}
	})
	bubble(t, "Goes", func(t *testing.T) {
		c := api(deployment(2), shift())
		go func() {
			time.Sleep(2 * time.Second)
			if err := c.Delete(t.Context(), shift()); err != nil {
				t.Error(err)
			}
		}()
		if code, _, failure := (person{}).does(t, c, "wait", "micro-api"); code != exitEnded || !strings.Contains(failure, "is gone") {
			t.Errorf("exit %d: %s", code, failure)
		}
	})
}

// It tells where the release stands, once for each step, and with --quiet the end alone.
func TestWaitTells(t *testing.T) {
	for name, want := range map[string][]string{
		"": {
			"micro-api: the controller has not looked at the Deployment as it is now yet", "micro-api: Progressing, v2 at 5%: v2 at 5%", "micro-api: Progressing, v2 at 50%: v2 at 50%",
			"micro-api: Stable: v2 has all the traffic", "micro-api: v2 was promoted: the numbers", "",
		},
		"--quiet": {"micro-api: v2 was promoted: the numbers", ""},
	} {
		bubble(t, "wait"+name, func(t *testing.T) {
			c := api(deployment(2), shift())
			lives(t, c, all(at(2), releasing("v2", 50, v1alpha1.ReasonHolding)), func(ts *v1alpha1.TrafficShift) { ts.Status.Message = "more requests" },
				releasing("v2", 500, v1alpha1.ReasonHolding), all(ending("v2", v1alpha1.ReasonPromoted), resting("v2")))
			args := []string{"status", "micro-api"}
			if name != "" {
				args = append(args, name)
			}
			_, out, _ := person{}.does(t, c, args...)
			if got := strings.Join(want, "\n"); out != got {
				t.Errorf("it tells\n%s\nwant\n%s", out, got)
			}
		})
	}
}

// A message quotes pods and webhooks, which are not to steer anybody's terminal.
func TestWaitQuotesWithoutControlCharacters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := api(deployment(2), shift(at(2), releasing("v2", 50, v1alpha1.ReasonHolding), func(ts *v1alpha1.TrafficShift) { ts.Status.Message = "gate tests: \x1b[2Jgone\n\a" }))
		_, out, failure := person{}.does(t, c, "wait", "micro-api", "--timeout=1s")
		if strings.ContainsAny(out+failure, "\x1b\a") || !strings.Contains(out, "gone") || !strings.Contains(failure, "gone") {
			t.Errorf("it tells %q, and fails with %q", out, failure)
		}
	})
}

// Which template is meant is read from the Deployment. Where that is forbidden nothing is guessed: any status would count.
func TestWaitSaysWhatItMayNotRead(t *testing.T) {
	c := interceptor.NewClient(api(deployment(2), shift(at(2))), interceptor.Funcs{
		Get: func(_ context.Context, _ client.WithWatch, key client.ObjectKey, _ client.Object, _ ...client.GetOption) error {
			return apierrors.NewForbidden(schema.GroupResource{Group: "apps", Resource: "deployments"}, key.Name, nil)
		},
	})
	code, out, failure := person{}.does(t, c, "wait", "micro-api")
	if code != exitError || !strings.Contains(failure, `needs "get" of deployments.apps in namespace shop`) || !strings.Contains(failure, "forbidden") {
		t.Errorf("exit %d\n%s%s", code, out, failure)
	}
	if text := page(t, "cli.md"); !strings.Contains(text, "`get` of `deployments.apps`") {
		t.Error("docs/cli.md does not say what wait needs")
	}
}

func TestWaitRefusesWhatItDoesNotKnow(t *testing.T) {
	code, _, failure := person{}.does(t, api(), "wait", "micro-api", "--for=finished")
	if code != exitError || !strings.Contains(failure, "promoted, stable, paused or rejected") {
		t.Errorf("exit %d: %s", code, failure)
	}
	if code, _, failure = (person{}).does(t, without(), "wait", "micro-api"); code != exitError || !strings.Contains(failure, "helm install") {
		t.Errorf("without the CRD: exit %d: %s", code, failure)
	}
}
