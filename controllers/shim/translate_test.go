package shim

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	sluice "github.com/sluice-dev/sluice/api/v1alpha1"
)

var update = flag.Bool("update", false, "rewrite testdata/*.out.yaml")

// TestTranslateGolden reads each testdata/*.in.yaml, a Deployment, and compares what is applied for it, or what is wrong with
// it, with the *.out.yaml beside it.
func TestTranslateGolden(t *testing.T) {
	inputs, err := filepath.Glob("testdata/*.in.yaml")
	if err != nil || len(inputs) == 0 {
		t.Fatalf("no inputs: %v", err)
	}
	for _, in := range inputs {
		t.Run(strings.TrimSuffix(filepath.Base(in), ".in.yaml"), func(t *testing.T) {
			got := translateFile(t, in)
			out := strings.TrimSuffix(in, ".in.yaml") + ".out.yaml"
			if *update {
				if err := os.WriteFile(out, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("%s (-want +got), rewrite with -update:\n%s", out, diff)
			}
		})
	}
}

func translateFile(t *testing.T, path string) []byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	d := &appsv1.Deployment{}
	if err := yaml.UnmarshalStrict(raw, d); err != nil {
		t.Fatal(err)
	}
	fields, errs := Translate(d.Annotations)
	var out any
	switch {
	case len(errs) > 0:
		notes := make([]string, len(errs))
		for i, p := range problemsOf(d, errs) {
			notes[i] = p.reason + ": " + p.note
		}
		out = map[string]any{"errors": notes}
	case fields == nil:
		out = nil // not ours
	default:
		out = Desired(d, nil, fields).Object
	}
	got, err := yaml.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestValues holds the table to the values that the admission policy of the chart is tested with, too.
func TestValues(t *testing.T) {
	raw, err := os.ReadFile("testdata/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var values map[string]struct{ Accepted, Refused []string }
	if err := yaml.UnmarshalStrict(raw, &values); err != nil {
		t.Fatal(err)
	}
	for _, key := range accepted() {
		if v := values[strings.TrimPrefix(key, sluice.Prefix)]; v.Accepted == nil || v.Refused == nil {
			t.Errorf("%s is not in the file", key)
		}
	}
	for key, v := range values {
		for i, value := range append(v.Accepted, v.Refused...) {
			in := map[string]string{sluice.AnnotationStrategy: "canary"}
			in[sluice.Prefix+key] = value
			if _, errs := Translate(in); (len(errs) == 0) != (i < len(v.Accepted)) {
				t.Errorf("%s=%q: %v", key, value, errs)
			}
		}
	}
}

// TestTranslateNamesOnlyWhatIsWritten holds "only the fields that annotations name are applied" for every set of keys, and that
// what Translate accepts is a spec that the API's own rules accept.
func TestTranslateNamesOnlyWhatIsWritten(t *testing.T) {
	good := map[string]string{
		sluice.AnnotationSteps: "0.5,20%,100", sluice.AnnotationHold: "90s", sluice.AnnotationMaxErrorRate: "0.5%",
		sluice.AnnotationMaxLatency: "p99.9<1.5s", sluice.AnnotationMinRequests: "7", sluice.AnnotationHosts: "a.example.com",
		sluice.AnnotationGateway: "infra/public", sluice.AnnotationService: "svc", sluice.AnnotationReplicas: "0",
		sluice.AnnotationMaxIncrease: "0.25%",
		sluice.AnnotationMaxFailed:   "20", sluice.AnnotationReporter: "waypoint", sluice.AnnotationPrometheus: "team-a",
		sluice.AnnotationDeadline: "1h", sluice.AnnotationBake: "0s", sluice.AnnotationPaused: "false",
		sluice.AnnotationSkipAnalysis: "true", sluice.AnnotationSuspend: "false",
	}
	fieldOf := map[string]string{}
	for _, e := range table {
		fieldOf[e.key] = e.field
	}
	rapid.Check(t, func(t *rapid.T) {
		in := map[string]string{sluice.AnnotationStrategy: "canary", "example.com/other": "x"}
		want := map[string]bool{"strategy": true}
		for _, key := range sortedKeys(good) {
			if rapid.Bool().Draw(t, key) {
				in[key], want[fieldOf[key]] = good[key], true
			}
		}
		if rapid.Bool().Draw(t, "auto") {
			in[sluice.AnnotationSteps], want["pacing"] = "auto", true
			delete(want, "steps")
		}
		if !want["hold"] && !want["pacing"] && rapid.Bool().Draw(t, "duration") { // these exclude each other
			in[sluice.AnnotationDuration], want["duration"] = "30m", true
		}
		fields, errs := Translate(in)
		if len(errs) > 0 {
			t.Fatalf("Translate(%v): %v", in, errs)
		}
		got := map[string]bool{}
		for name := range fields {
			got[name] = true
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("fields of %v (-want +got):\n%s", in, diff)
		}
		spec, err := fields.spec()
		if err != nil {
			t.Fatal(err)
		}
		spec.Default()
		if spec.Gateways != nil && spec.Hosts == nil {
			spec.Hosts = []string{"from.its.author"} // hosts may be written on the TrafficShift itself
		}
		if errs := spec.Validate(nil); len(errs) > 0 {
			t.Fatalf("%v gives a spec that is not valid: %v", in, errs)
		}
	})
}

func TestNearest(t *testing.T) {
	for key, want := range map[string]string{
		"sluice.dev/step":           sluice.AnnotationSteps,
		"sluice.dev/max-eror-rate":  sluice.AnnotationMaxErrorRate,
		"sluice.dev/max-error-rat":  sluice.AnnotationMaxErrorRate,
		"sluice.dev/gateways":       sluice.AnnotationGateway,
		"sluice.dev/host":           sluice.AnnotationHosts,
		"sluice.dev/Strategy":       sluice.AnnotationStrategy,
		"sluice.dev/min-request":    sluice.AnnotationMinRequests,
		"sluice.dev/something-else": "",
	} {
		if got, _ := nearest(key, accepted()); got != want {
			t.Errorf("nearest(%s) = %q, want %q", key, got, want)
		}
	}
}

func TestDistanceIsAMetric(t *testing.T) {
	word := rapid.StringMatching(`[a-d]{0,6}`)
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := word.Draw(t, "a"), word.Draw(t, "b"), word.Draw(t, "c")
		if (distance(a, b) == 0) != (a == b) || distance(a, b) != distance(b, a) || distance(a, c) > distance(a, b)+distance(b, c) {
			t.Fatalf("distances of %q, %q, %q: %d %d %d", a, b, c, distance(a, b), distance(b, c), distance(a, c))
		}
	})
}
