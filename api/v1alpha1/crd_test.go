package v1alpha1_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

// crds are the generated CRDs, by file.
func crds(t *testing.T) map[string]apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	paths, err := filepath.Glob("../../manifests/crd/*.yaml")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no CRDs: %v", err)
	}
	all := map[string]apiextensionsv1.CustomResourceDefinition{}
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var crd apiextensionsv1.CustomResourceDefinition
		if err := yaml.UnmarshalStrict(raw, &crd); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		all[filepath.Base(path)] = crd
	}
	return all
}

// walk visits the properties of a schema and of what is in it, by their paths.
func walk(path string, schema apiextensionsv1.JSONSchemaProps, visit func(path, name string, field apiextensionsv1.JSONSchemaProps)) {
	for name, field := range schema.Properties {
		visit(path+"."+name, name, field)
		walk(path+"."+name, field, visit)
	}
	if schema.Items != nil && schema.Items.Schema != nil {
		walk(path+"[]", *schema.Items.Schema, visit)
	}
	if schema.AdditionalProperties != nil && schema.AdditionalProperties.Schema != nil {
		walk(path+"{}", *schema.AdditionalProperties.Schema, visit)
	}
}

// kubectl explain shows one field at a time: each must say what it is by itself.
func TestEveryFieldSaysWhatItIs(t *testing.T) {
	for file, crd := range crds(t) {
		for _, version := range crd.Spec.Versions {
			seen := 0
			walk("", *version.Schema.OpenAPIV3Schema, func(path, name string, field apiextensionsv1.JSONSchemaProps) {
				seen++
				switch text := strings.TrimSpace(field.Description); {
				case path == ".metadata": // as of every object
				case text == "":
					t.Errorf("%s: %s has no description", file, path)
				case !ours(path):
				case !strings.Contains(text, name):
					t.Errorf("%s: %s: %q does not name it", file, path, text)
				case !strings.HasSuffix(text, ".") && !strings.HasSuffix(text, ")"):
					t.Errorf("%s: %s: %q is no sentence", file, path, text)
				}
			})
			if seen < 20 {
				t.Errorf("%s: only %d fields were looked at", file, seen)
			}
		}
	}
}

// ours reports whether a field is described by this package, and not by a type of Kubernetes.
func ours(path string) bool {
	theirs := []string{".apiVersion", ".kind", ".status.conditions[].", ".spec.namespaces."}
	return !slices.ContainsFunc(theirs, func(prefix string) bool { return strings.HasPrefix(path, prefix) })
}

// What a ShiftPolicy shares is what a TrafficShift has: the same field, said and checked in the same way. What it leaves out stays out.
func TestAPolicySharesTheFieldsOfATrafficShift(t *testing.T) {
	all := crds(t)
	spec := func(file string) apiextensionsv1.JSONSchemaProps {
		return all[file].Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"]
	}
	shift, shared := spec("sluice.dev_trafficshifts.yaml"), spec("sluice.dev_shiftpolicies.yaml").Properties["defaults"]
	if len(shared.Properties) < 10 {
		t.Fatalf("only %d fields are shared", len(shared.Properties))
	}
	for name, field := range shared.Properties {
		if field.Default != nil {
			t.Errorf("spec.defaults.%s has the default %s: a policy that leaves it out would set it", name, field.Default.Raw)
		}
		same := shift.Properties[name]
		same.Default = nil
		a, err := yaml.Marshal(same)
		if err != nil {
			t.Fatal(err)
		}
		b, err := yaml.Marshal(field)
		if err != nil {
			t.Fatal(err)
		}
		if string(a) != string(b) {
			t.Errorf("spec.defaults.%s is not what a TrafficShift's spec.%s is: run make generate", name, name)
		}
	}
}
