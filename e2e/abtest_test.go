package e2e

import (
	"context"
	"fmt"
	"math"
	"testing"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/e2e/scene"
)

// README: "the users that `abTest.match` names, for `abTest.duration`; then 100", and "Both groups of an ab-test keep their version by a cookie,
// which is taken away afterwards." One ends with everybody on B, the next, which a person aborts, with nobody.
func TestATestKeepsBothGroups(t *testing.T) {
	t.Parallel()
	for by, match := range map[string]string{"header": "header:x-group=b", "cookie": "cookie:group=b, query:beta=1"} {
		t.Run(by, func(t *testing.T) {
			s := stage(t)
			t.Parallel()
			name := "tested-by-" + by
			checked := watchOver(t, s, name)
			service(t, s, name, "strategy=ab-test", "steps=", "match="+match, "test-duration=2s", "conclude=decide")
			users := gather(t, s, name+".example.com", 40)
			joins := func(u *user) {
				u.header.Set("X-Group", "b")
				u.cookies["group"] = "b"
			}
			leaves := func(u *user) {
				u.header.Del("X-Group")
				delete(u.cookies, "group")
			}
			inB := func(i int) bool { return i%4 == 0 }
			users.change(func(i int, u *user) {
				if inB(i) {
					joins(u)
				}
			})
			release(t, s, name, "v2")
			await(t, s, name, "to show v2 to its group", shownBy(v1alpha1.ExposureMatch))
			eventually(t, "the group to be on v2", func(context.Context) error {
				if on := users.on("v2"); on != 10 {
					return fmt.Errorf("%d users of 40 are on v2, want 10", on)
				}
				return nil
			})
			users.round(t)
			users.change(func(i int, u *user) {
				u.answers = nil
				if inB(i) {
					leaves(u)
				} else {
					joins(u)
				}
			})
			users.round(t)
			users.check(t, func(i int, u *user) string {
				if inB(i) {
					return stays("v2")(i, u)
				}
				return stays("v1")(i, u)
			})
			await(t, s, name, "to wait for a person", func(ts *v1alpha1.TrafficShift) bool { return len(ts.Status.State.Awaiting) > 0 })
			tell(t, s, name, v1alpha1.AnnotationApprove, "v2")
			await(t, s, name, "to be promoted", scene.Stable("v2"))
			users.round(t)
			users.check(t, func(i int, u *user) string {
				if inB(i) {
					return stays("v2")(i, u)
				}
				return stays("v1", "v2")(i, u)
			})
			users.check(t, noCookies)

			release(t, s, name, "v3")
			await(t, s, name, "to show v3 to its group", shownBy(v1alpha1.ExposureMatch))
			eventually(t, "the group to be on v3", func(context.Context) error {
				if on := users.on("v3"); on != 30 { // who has come to it since
					return fmt.Errorf("%d users of 40 are on v3, want 30", on)
				}
				return nil
			})
			tell(t, s, name, v1alpha1.AnnotationAbort, "v3")
			await(t, s, name, "to take v3 back", scene.Rejected("v3"))
			users.round(t)
			if on := users.on("v2"); on != 40 {
				t.Errorf("v3 was taken back, and only %d of 40 users are on v2", on)
			}
			users.check(t, noCookies)
			lossless(t, users.Source)
			checked.await(t, "Failed")
			checked.end(t, []string{"Stable", "Progressing Stepping", "Progressing Baking 100%", "Failed"})
		})
	}
}

// README: "With session each user stays on the version that answered first. When the weight rises, as many users of the stable version move as
// make the candidate's share of the users the new weight, each once, and nobody ever moves back; when it is lowered, all cookies stop counting
// with the same write."
func TestUsersStayWhereTheyAre(t *testing.T) {
	t.Parallel()
	s := stage(t)
	const name, many = "sticky", 120
	checked := watchOver(t, s, name)
	service(t, s, name, "steps=20@10s,50@10s,100", "session=1h")
	users := gather(t, s, name+".example.com", many)
	users.round(t)
	release(t, s, name, "v2")
	for _, weight := range []v1alpha1.Permille{200, 500, v1alpha1.Whole} {
		await(t, s, name, "to prove "+weight.String(), proven(weight))
		if weight < v1alpha1.Whole {
			halt(t, s, name, weight)
		}
		users.round(t)
		p := float64(weight) / float64(v1alpha1.Whole)
		if on, slack := users.on("v2"), 3.9*math.Sqrt(many*p*(1-p))+1; math.Abs(float64(on)-many*p) > slack {
			t.Errorf("at %s, %d of %d users are on v2; want %.0f±%.0f", weight, on, many, many*p, slack)
		}
		require(t, s, name, v1alpha1.AnnotationPaused, "")
	}
	await(t, s, name, "to promote v2", scene.Stable("v2"))
	users.round(t)
	users.check(t, func(i int, u *user) string {
		if len(u.answers) == 1 && u.answers[0] == "v2" {
			return ""
		}
		return stays("v1", "v2")(i, u)
	})
	users.check(t, noCookies)

	release(t, s, name, "v3", "ERROR_RATE=0.5")
	await(t, s, name, "to take v3 back", scene.Rejected("v3"))
	users.round(t)
	if on := users.on("v2"); on != many {
		t.Errorf("v3 was taken back, and only %d of %d users are on v2", on, many)
	}
	users.check(t, noCookies)
	for _, f := range users.Report().Failures {
		if f.Version != "v3" {
			t.Errorf("a client saw a failure that the bad version did not produce: %+v", f)
		}
	}
	checked.await(t, "Failed")
	checked.end(t, []string{"Stable", "Progressing Stepping 20%", "Progressing Stepping 50%", "Progressing Baking 100%", "Failed"})
}
