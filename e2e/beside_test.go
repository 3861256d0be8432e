package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/e2e/scene"
)

// docs/routing.md: "Of the requests that match all go to the candidate, of the others the share that the weight says", "whatever cookie they have", and
// "With the first write of a way back the group is gone". Testers see the candidate at every weight, the others stay where their cookies say, and nobody sees a
// failure that the bad version did not make.
func TestTestersSeeTheCandidateBesideEveryWeight(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const name, many = "beside", 80
	checked := watchOver(t, s, name)
	service(t, s, name, "steps=", "session=1h",
		`spec=steps: [{weight: 10, hold: 6s, match: [{headers: {x-tester: {exact: "yes"}}}]}, {weight: 50, hold: 6s, match: [{headers: {x-tester: {exact: "yes"}}}]}, {weight: 80}, {weight: 100}]`)
	users := gather(t, s, name+".example.com", many)
	one := 4 // of how many tests
	test := func() {
		users.change(func(i int, u *user) {
			if i%one == 0 {
				u.header.Set("X-Tester", "yes")
			}
		})
	}
	on := func(version string, testers bool) (n int) {
		users.change(func(i int, u *user) {
			if (i%one == 0) == testers && len(u.answers) > 0 && u.answers[len(u.answers)-1] == version {
				n++
			}
		})
		return n
	}
	test()
	users.round(t)
	release(t, s, name, "v2")
	for _, weight := range []v1alpha1.Permille{100, 500} {
		ts := await(t, s, name, "to prove "+weight.String(), proven(weight))
		if !strings.HasSuffix(ts.Status.Step, "/4 match") {
			t.Errorf("at %s the step is %q; want it to name the match", weight, ts.Status.Step)
		}
		halt(t, s, name, weight)
		if weight == 500 { // users who have v1's cookie test as well
			one = 2
			test()
		}
		users.round(t)
		if got := on("v2", true); got != many/one {
			t.Errorf("at %s, %d of %d testers are on v2", weight, got, many/one)
		}
		if got := on("v2", false); got == 0 || got == many-many/one {
			t.Errorf("at %s, %d of the %d others are on v2; want some of them", weight, got, many-many/one)
		}
		require(t, s, name, v1alpha1.AnnotationPaused, "")
	}
	await(t, s, name, "to prove 80%", proven(800))
	if err := matchIn(t, s, name); err != nil {
		t.Error(err)
	}
	await(t, s, name, "to promote v2", scene.Stable("v2"))
	if err := matchIn(t, s, name); err != nil {
		t.Error(err)
	}
	users.round(t)
	if got := users.on("v2"); got != many {
		t.Errorf("v2 was promoted, and %d of %d users are on it", got, many)
	}
	lossless(t, users.Source)

	release(t, s, name, "v3", "ERROR_RATE=0.5")
	await(t, s, name, "to take v3 back", func(ts *v1alpha1.TrafficShift) bool {
		return ts.Status.State.Failure != nil && ts.Status.State.Failure.Reject
	})
	eventually(t, "the testers to be back on v2", func(context.Context) error {
		if got := on("v2", true); got != many/one {
			return fmt.Errorf("%d of %d testers are on v2", got, many/one)
		}
		return matchIn(t, s, name)
	})
	await(t, s, name, "to refuse v3", scene.Rejected("v3"))
	users.round(t)
	if got := users.on("v2"); got != many {
		t.Errorf("v3 was taken back, and only %d of %d users are on v2", got, many)
	}
	for _, f := range users.Report().Failures {
		if f.Version != "v3" {
			t.Errorf("a client saw a failure that the bad version did not produce: %+v", f)
		}
	}
	checked.await(t, "Failed")
	checked.end(t, []string{"Stable", "Progressing Stepping 10%", "Progressing Stepping 50%", "Progressing Stepping 80%", "Progressing Baking 100%", "Failed"})
}

// matchIn complains of a rule for a group in any VirtualService of a service.
func matchIn(t *testing.T, s *scene.Scene, name string) error {
	t.Helper()
	for _, table := range []string{name, name + "-hosts"} {
		vs := &networkingv1.VirtualService{}
		if err := s.Client.Get(t.Context(), inShop(table), vs); err != nil {
			return err
		}
		for _, route := range vs.Spec.GetHttp() {
			if strings.HasSuffix(route.GetName(), ".match") {
				return fmt.Errorf("VirtualService %s has the rule %s still", table, route.GetName())
			}
		}
	}
	return nil
}

// docs/routing.md: "of the requests that match, the share is copied, and of the others none". A candidate that fails its copies is taken back, and no user met it.
func TestCopiesAreMadeOfWhatMatches(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const name = "copied"
	checked := watchOver(t, s, name)
	service(t, s, name, "steps=", `spec=steps: [{mirror: 100%, hold: 4s, match: [{headers: {x-tester: {exact: "yes"}}}]}, {weight: 100}]`)
	users := gather(t, s, name+".example.com", 40)
	release(t, s, name, "v2", "ERROR_RATE=0.5")
	await(t, s, name, "to get copies", shownBy(v1alpha1.ExposureMirror))
	users.round(t)
	ts := await(t, s, name, "to wait for the first copy", func(ts *v1alpha1.TrafficShift) bool { return ts.Status.State.Share.Total > 0 })
	if got := ts.Status.State; got.Share.Candidate > 0 || got.Gate.Candidate.Requests > 0 {
		t.Errorf("nobody matches, and v2 got %d copies: %s", got.Gate.Candidate.Requests, ts.Status.Message)
	}
	users.change(func(i int, u *user) {
		if i%2 == 0 {
			u.header.Set("X-Tester", "yes")
		}
	})
	ts = await(t, s, name, "to refuse v2", scene.Rejected("v2"))
	if got := ts.Status.History[0]; got.Weight != "0%" || !strings.Contains(got.Message, "a mirror of 100% of its match") {
		t.Errorf("v2 ended as %s at %s: %s; want it convicted by its copies", got.Reason, got.Weight, got.Message)
	}
	if got := users.on("v2"); got > 0 {
		t.Errorf("%d users met v2", got)
	}
	lossless(t, users.Source)
	checked.await(t, "Failed")
	checked.end(t, []string{"Progressing Stepping", "Failed"})
}
