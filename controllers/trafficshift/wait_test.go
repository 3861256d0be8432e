package trafficshift

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// ofTemplate reports whether the status speaks of the Deployment as it is.
func (c *cluster) ofTemplate() bool {
	c.Helper()
	d := &appsv1.Deployment{}
	c.get("micro-api", d)
	return c.shift().Status.ObservedTemplateGeneration == d.Generation
}

// docs/ci.md: no status of the generation that a release has made is Ready before users are on it, whatever happens on the way; one that is
// refused is Stalled.
func TestReadySaysOfWhichTemplateItSpeaks(t *testing.T) {
	c := newCluster(t)
	c.adopt()
	c.pass()
	if got := condition(c.shift(), v1alpha1.ConditionReady); !c.ofTemplate() || got != "True Stable" {
		t.Fatalf("at rest Ready is %q, of generation %d", got, c.shift().Status.ObservedTemplateGeneration)
	}
	users := "v1"
	watch := func(what string, done func(*v1alpha1.TrafficShift) bool) {
		t.Helper()
		if c.ofTemplate() {
			t.Errorf("%s: the status speaks of a template that no pass has seen", what)
		}
		c.run(what, 150, func(s *v1alpha1.TrafficShift) bool {
			if ready := strings.HasPrefix(condition(s, v1alpha1.ConditionReady), "True "); ready && c.ofTemplate() && s.Status.Stable != users {
				t.Errorf("%s: Ready with users on %s; want %s", what, s.Status.Stable, users)
			}
			return done(s)
		})
		if !c.ofTemplate() {
			t.Errorf("%s: the status still speaks of generation %d", what, c.shift().Status.ObservedTemplateGeneration)
		}
	}
	is := func(kind, value string) func(*v1alpha1.TrafficShift) bool {
		return func(s *v1alpha1.TrafficShift) bool { return condition(s, kind) == value }
	}
	users = "v2"
	c.setImage("micro-api:1.2")
	watch("promotion", func(s *v1alpha1.TrafficShift) bool {
		return strings.HasPrefix(condition(s, v1alpha1.ConditionReady), "True ")
	})

	users = "nobody's"
	c.edit(`{"spec": {"paused": true}}`)
	c.setImage("micro-api:1.3")
	watch("a pause at rest", is(v1alpha1.ConditionReconciling, "True Paused"))
	c.edit(`{"spec": {"paused": false}}`)
	c.run("5%", 60, reached("5%"))
	c.broken[4] = true
	c.setImage("micro-api:1.4")
	watch("one release after another", func(s *v1alpha1.TrafficShift) bool { return s.Status.Candidate == "v4" })
	c.annotate("abort", "v4")
	c.run("a refusal", 60, ended)
	if s := c.shift(); condition(s, v1alpha1.ConditionStalled) != "True Rejected" || condition(s, v1alpha1.ConditionReconciling) != "" {
		t.Errorf("refused: conditions %+v", s.Status.Conditions)
	}
	users = "v2"
	c.setImage("micro-api:1.2")
	watch("going back", is(v1alpha1.ConditionReady, "True Stable"))
}

// docs/ci.md has the script as it runs here, with a kubectl that says what it is told to, line by line.
func TestTheScriptWaitsForEitherEnd(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "ci.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, script, found := strings.Cut(string(text), "```sh\n")
	script, _, ended := strings.Cut(script, "```")
	if !found || !ended {
		t.Fatal("docs/ci.md has no script")
	}
	tests := map[string]struct {
		says []string // what each look at the TrafficShift finds
		want int
		took int // looks
	}{
		"Promoted":        {[]string{"04 True Stalled=", "05 False Stalled=", "05 True Stalled="}, 0, 3},
		"Refused":         {[]string{"04 True Stalled=", "05 False Stalled=", "05 False Stalled=True"}, 1, 3},
		"RefusedBefore":   {[]string{"04 False Stalled=True", "05 False Stalled=", "05 True Stalled="}, 0, 3},
		"WrittenSince":    {[]string{"04 True Stalled=", "010 True Stalled="}, 0, 2},
		"NoStatusYet":     {[]string{"0  Stalled=", "fails", "05 True Stalled="}, 0, 3},
		"TimeIsUp":        {[]string{"05 False Stalled="}, 2, 0},
		"OfOldController": {[]string{"0 True Stalled="}, 2, 0},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write := func(file, text string) {
				t.Helper()
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			write("says", strings.Join(tc.says, "\n")+"\n")
			write("kubectl", fmt.Sprintf(`#!/bin/sh
case "$*" in
  *"get deployment micro-api"*) echo 5 ;;
  *.status.message*) echo why ;;
  *"-n shop get tshift micro-api"*)
    echo look >> %[1]s/looks
    line=$(sed -n "$(wc -l < %[1]s/looks)p" %[1]s/says)
    [ "$line" != fails ] || exit 1
    [ -n "$line" ] || line=$(tail -n 1 %[1]s/says)
    echo "$line" ;;
  *) exit 9 ;;
esac
`, dir))
			write("sleep", "#!/bin/sh\n")
			write("script", script)
			run := exec.CommandContext(t.Context(), "sh", filepath.Join(dir, "script"), "shop", "micro-api", "3")
			run.Env = append(os.Environ(), "PATH="+dir+string(os.PathListSeparator)+os.Getenv("PATH"))
			out, err := run.CombinedOutput()
			exit := &exec.ExitError{}
			if err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
			looks, err := os.ReadFile(filepath.Join(dir, "looks"))
			if err != nil {
				t.Fatal(err)
			}
			if got := run.ProcessState.ExitCode(); got != tc.want || tc.took > 0 && strings.Count(string(looks), "look") != tc.took {
				t.Errorf("exit %d after %d looks; want %d after %d\n%s", got, strings.Count(string(looks), "look"), tc.want, tc.took, out)
			}
			if tc.want == 1 && !strings.Contains(string(out), "why") {
				t.Errorf("it does not say why: %s", out)
			}
		})
	}
}
