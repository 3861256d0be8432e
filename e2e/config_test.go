package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/e2e/scene"
)

// settings is the configuration of a service: how often it fails.
const settings = `
apiVersion: v1
kind: ConfigMap
metadata: {name: NAME, namespace: SHOP}
data: {ERROR_RATE: "0"}
`

// docs/config-tracking.md: "a change of what the pod template refers to starts a shift, as a change of the template does", "a bad ConfigMap is
// stopped at the first step by its gates, and users are back on pods that have the old contents", and "A template with the contents of an
// earlier version is that version again".
func TestABadConfigMapIsTakenBack(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const name = "tuned"
	fill := strings.NewReplacer("NAME", name, "SHOP", scene.Shop)
	if err := s.ApplyYAML(t.Context(), []byte(fill.Replace(settings))); err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(manifest, "env: [{name: VERSION, value: v1}]", "env: [{name: ERROR_RATE, valueFrom: {configMapKeyRef: {name: NAME, key: ERROR_RATE}}}]", 1)
	text = strings.ReplaceAll(text, "IMAGE", "registry.example.com/lab/app:1")
	if err := s.ApplyYAML(t.Context(), []byte(fill.Replace(text))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { leave(t, s, name) })
	wanted := annotationsOf(append(slices.Clone(quick), "hosts="+name+".example.com", "config-tracking=true")...)
	if err := s.Annotate(t.Context(), deployment(name), wanted); err != nil {
		t.Fatal(err)
	}
	await(t, s, name, "to be adopted", scene.Stable("v1"))
	const rate = 60 // a second
	users := through(t, s, name+".example.com", rate)
	set := func(errors string) {
		t.Helper()
		o := &corev1.ConfigMap{}
		o.SetNamespace(scene.Shop)
		o.SetName(name)
		patch := fmt.Sprintf(`{"data":{"ERROR_RATE":%q}}`, errors)
		if err := s.Client.Patch(t.Context(), o, client.RawPatch(types.MergePatchType, []byte(patch)), client.FieldOwner("kubectl")); err != nil {
			t.Fatal(err)
		}
	}

	set("1")
	ts := await(t, s, name, "to refuse the bad ConfigMap", scene.Rejected("v2"))
	if got := ts.Status.History[0]; got.Weight != "5%" {
		t.Errorf("the bad ConfigMap got as far as %s: %s; want the first step", got.Weight, got.Message)
	}
	before := users.Report()
	withinSeconds(t, before.Failed, rate*0.05)
	set("0")
	await(t, s, name, "to be v1 again, without a release", scene.Stable("v1"))
	set("0.0001")
	await(t, s, name, "to promote a good one", scene.Stable("v3"))
}
