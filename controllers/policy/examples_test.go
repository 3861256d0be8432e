package policy_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/policy"
)

func TestExamplesCanBeFollowed(t *testing.T) {
	files, err := filepath.Glob("../../examples/*/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for doc := range strings.SplitSeq(string(raw), "\n---\n") {
			if !strings.Contains(doc, "kind: ShiftPolicy") {
				continue
			}
			seen++
			var p v1alpha1.ShiftPolicy
			if err := yaml.UnmarshalStrict([]byte(doc), &p); err != nil {
				t.Errorf("%s: %v", file, err)
			}
			if ns := namespace(t, filepath.Dir(file)); !policy.Grants(&p.Spec, ns.Labels) {
				t.Errorf("%s: it is not for the namespace of its own folder, which has the labels %v", file, ns.Labels)
			}
			if errs := policy.Check(&p.Spec, field.NewPath("spec")); len(errs) > 0 {
				t.Errorf("%s: %v", file, errs)
			}
		}
	}
	if seen == 0 {
		t.Error("no example has a ShiftPolicy")
	}
}

// namespace is the one that a folder applies.
func namespace(t *testing.T, folder string) *metav1.PartialObjectMetadata {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(folder, "namespace.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	ns := &metav1.PartialObjectMetadata{}
	if err := yaml.UnmarshalStrict(raw, ns); err != nil {
		t.Fatal(err)
	}
	return ns
}
