package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/e2e/scene"
)

// policyNamed applies a ShiftPolicy that goes with the test.
func policyNamed(t *testing.T, s *scene.Scene, name, spec string) *v1alpha1.ShiftPolicy {
	t.Helper()
	text := fmt.Sprintf("apiVersion: sluice.dev/v1alpha1\nkind: ShiftPolicy\nmetadata: {name: %s}\nspec: %s\n", name, spec)
	if err := s.ApplyYAML(t.Context(), []byte(text)); err != nil {
		t.Fatal(err)
	}
	p := &v1alpha1.ShiftPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}}
	t.Cleanup(func() { _ = client.IgnoreNotFound(s.Client.Delete(context.Background(), p)) }) // the test's own context has ended
	return p
}

// README: "Of the services under a ShiftPolicy at most `maxConcurrent` move at a time; the others wait, the one that has waited longest
// goes first, and each says for whom it waits."
func TestServicesOfAPolicyGoOneAfterTheOther(t *testing.T) {
	s := stage(t)
	t.Parallel()
	policyNamed(t, s, "one-at-a-time", `{maxConcurrent: 1, defaults: {steps: [{weight: 50}, {weight: 100}], hold: 3s, bake: 3s}}`)
	names := []string{"turn-a", "turn-b", "turn-c"}
	for _, name := range names {
		service(t, s, name, "policy=one-at-a-time", "steps=", "hold=", "bake=")
		through(t, s, name+".example.com", 40)
	}
	for _, name := range names {
		release(t, s, name, "v2")
	}
	waited := map[string]bool{}
	deadline := time.Now().Add(2 * patience)
	for done := 0; done < len(names); {
		if time.Now().After(deadline) {
			t.Fatalf("only %d of %d are released", done, len(names))
		}
		var all v1alpha1.TrafficShiftList
		if err := s.Client.List(t.Context(), &all, client.InNamespace(scene.Shop)); err != nil {
			t.Fatal(err)
		}
		var moving []string
		done = 0
		for _, ts := range all.Items {
			switch {
			case !slices.Contains(names, ts.Name):
			case ts.Status.Phase == v1alpha1.PhaseProgressing || ts.Status.Phase == v1alpha1.PhaseRollingBack:
				moving = append(moving, ts.Name)
			case ts.Status.State.WaitingSince != nil:
				waited[ts.Name] = waited[ts.Name] || strings.Contains(ts.Status.Message, "moving: "+scene.Shop+"/turn-")
			case ts.Status.Stable == "v2":
				done++
			}
		}
		if len(moving) > 1 {
			t.Fatalf("%s move at once, and one may", moving)
		}
		time.Sleep(100 * time.Millisecond) // a release takes seconds: two that move at once are seen, and the lab's API server is shared
	}
	if len(waited) != 2 {
		t.Errorf("%v waited and said for whom; want two of three", waited)
	}
}

// README: "In a freeze no candidate starts. What is under way goes on, or with `onRunning: hold` keeps its weight; a bad candidate goes
// back at any time."
func TestAFreeze(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const name = "frozen"
	began := time.Now().UTC().Add(-2 * time.Minute)
	freeze := fmt.Sprintf(`{name: inventory, schedule: "%d %d * * *", duration: 30m, onRunning: hold}`, began.Minute(), began.Hour())
	policy := policyNamed(t, s, "frozen", "{}")
	edit := func(freezes string) {
		t.Helper()
		if err := s.ApplyYAML(t.Context(), fmt.Appendf(nil, "apiVersion: sluice.dev/v1alpha1\nkind: ShiftPolicy\nmetadata: {name: frozen}\nspec: {freezes: [%s]}\n", freezes)); err != nil {
			t.Fatal(err)
		}
	}
	service(t, s, name, "policy=frozen", "bake=20s") // long enough to be met by the freeze
	users := through(t, s, name+".example.com", 40)

	edit(freeze)
	release(t, s, name, "v2")
	ts := await(t, s, name, "to say that it is frozen", func(ts *v1alpha1.TrafficShift) bool {
		return strings.Contains(ts.Status.Message, "(inventory) until")
	})
	if ts.Status.Candidate != "" {
		t.Errorf("%s started in a freeze", ts.Status.Candidate)
	}
	eventually(t, "the policy to count one shift, and to say that it is frozen", func(ctx context.Context) error {
		read := &v1alpha1.ShiftPolicy{}
		err := s.Client.Get(ctx, types.NamespacedName{Name: policy.Name}, read)
		if err == nil && (!strings.HasPrefix(read.Status.Freeze, "inventory until ") || read.Status.Shifts != 1) {
			err = fmt.Errorf("it says %+v", read.Status)
		}
		return err
	})
	edit("")
	await(t, s, name, "to start when the freeze is lifted, and to be at 50%", proven(500))
	edit(freeze)
	await(t, s, name, "to be held where it is", func(ts *v1alpha1.TrafficShift) bool { return strings.Contains(ts.Status.Message, "v2 is held at ") })
	edit("")
	await(t, s, name, "to be promoted when the freeze is lifted", scene.Stable("v2"))
	lossless(t, users)
}

// From the files of examples/policy. Its README: "a ladder, limits, two services at a time, and two freezes", "The last line shows what comes from
// the policy, and the settings that rule", and in a freeze `basket` "says so and starts when it may".
func TestAPolicySharedWithATier(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const name = "basket"
	t.Cleanup(func() {
		_ = s.Client.Delete(context.Background(), &v1alpha1.ShiftPolicy{ObjectMeta: metav1.ObjectMeta{Name: "standard"}})
	})
	example(t, s, "policy", name)
	ts := await(t, s, name, "to be under the policy", func(ts *v1alpha1.TrafficShift) bool { return ts.Status.Policy != nil && ts.Status.Effective != nil })
	if got := ts.Status.Policy.Fields; !slices.Contains(got, "steps") || !slices.Contains(got, "bake") || slices.Contains(got, "hold") {
		t.Errorf("of the policy come %q; want steps and bake, and not hold, which the service says itself", got)
	}
	for _, want := range []string{`"hold":"5m0s"`, `"bake":"15m0s"`, `"maxErrorRate":"0.5%"`} {
		if got := string(ts.Status.Effective.Raw); !strings.Contains(got, want) {
			t.Errorf("the settings that rule are %s; want %s among them", got, want)
		}
	}
	image(t, s, name, "docker.io/sluice-dev/micro-api:1.2")
	ts = await(t, s, name, "to start, or to say why not", func(ts *v1alpha1.TrafficShift) bool {
		return ts.Status.Candidate == "v2" || ts.Status.Candidate == "" && strings.Contains(ts.Status.Message, "is frozen")
	})
	t.Logf("%s: %s", ts.Status.Phase, ts.Status.Message)
}
