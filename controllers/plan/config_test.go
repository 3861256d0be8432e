package plan_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/plan"
)

func TestConfigRefsAreWhatReachesContainers(t *testing.T) {
	template := &corev1.PodTemplateSpec{}
	err := yaml.UnmarshalStrict([]byte(`
spec:
  imagePullSecrets: [{name: registry}]
  serviceAccountName: robot
  initContainers:
  - name: migrate
    env: [{name: URL, valueFrom: {secretKeyRef: {name: database, key: url}}}]
  containers:
  - name: app
    env:
    - {name: PLAIN, value: x}
    - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: USER, valueFrom: {secretKeyRef: {name: database, key: user}}}
    - {name: MODE, valueFrom: {configMapKeyRef: {name: modes, key: mode, optional: true}}}
    envFrom:
    - configMapRef: {name: settings}
    - secretRef: {name: tokens, optional: true}
  - name: beside
    env: [{name: MODE, valueFrom: {configMapKeyRef: {name: settings, key: mode}}}]
  volumes:
  - {name: a, configMap: {name: files}}
  - {name: b, secret: {secretName: keys, items: [{key: tls.key, path: k}, {key: tls.crt, path: c}]}}
  - name: c
    projected:
      sources:
      - serviceAccountToken: {path: token}
      - configMap: {name: bundle, items: [{key: ca.crt, path: ca.crt}]}
      - secret: {name: tokens}
  - {name: d, emptyDir: {}}
`), template)
	if err != nil {
		t.Fatal(err)
	}
	want := []plan.ConfigRef{
		{Kind: "ConfigMap", Name: "bundle", Keys: []string{"ca.crt"}},
		{Kind: "ConfigMap", Name: "files", Keys: []string{}},
		{Kind: "ConfigMap", Name: "modes", Keys: []string{"mode"}, Optional: true},
		{Kind: "ConfigMap", Name: "settings"},
		{Kind: "Secret", Name: "database", Keys: []string{"url", "user"}},
		{Kind: "Secret", Name: "keys", Keys: []string{"tls.crt", "tls.key"}},
		{Kind: "Secret", Name: "tokens"},
	}
	if diff := cmp.Diff(want, plan.ConfigRefs(template)); diff != "" {
		t.Errorf("references (-want +got):\n%s", diff)
	}
}

// The digests are written down here because a change of them would release every service that tracks its configuration.
func TestDigestsStayWhatTheyAre(t *testing.T) {
	all, one := plan.ConfigRef{Kind: "ConfigMap", Name: "settings"}, plan.ConfigRef{Kind: "ConfigMap", Name: "settings", Keys: []string{"mode"}}
	tests := map[string]struct {
		ref  plan.ConfigRef
		data map[string][]byte
		want string
	}{
		"Nothing":       {all, nil, "44136fa355b3678a1146ad16f7e8649e"},
		"All":           {all, map[string][]byte{"mode": []byte("fast"), "raw": {0, 255}, "empty": nil}, "33c08a48e18bbb21ca310860abf0340d"},
		"OneKey":        {one, map[string][]byte{"mode": []byte("fast")}, "97a7b06195565071eda5482ba767b1f8"},
		"OneKeyOfTwo":   {one, map[string][]byte{"mode": []byte("fast"), "raw": {1}}, ""},
		"KeyIsNotThere": {one, map[string][]byte{"raw": {1}}, ""},
	}
	got := map[string]string{}
	for name, tc := range tests {
		got[name] = tc.ref.Digest(tc.data)
		if tc.want != "" && got[name] != tc.want {
			t.Errorf("%s: digest %s; want %s", name, got[name], tc.want)
		}
	}
	if got["OneKey"] != got["OneKeyOfTwo"] || got["OneKey"] == got["KeyIsNotThere"] || got["All"] == got["OneKeyOfTwo"] {
		t.Errorf("digests %v; want those of what is taken, and no more", got)
	}
}

func TestOnlyWhatWasRecordedCanHaveChanged(t *testing.T) {
	now := plan.Config{"ConfigMap/a": "2", "ConfigMap/b": "1", "Secret/new": "1"}
	recorded := func(text string) plan.Config {
		return plan.RecordedConfig(&appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{v1alpha1.AnnotationConfig: text}}})
	}
	tests := map[string]struct {
		recorded string
		want     []string
	}{
		"Changed":       {`{"ConfigMap/a":"1","ConfigMap/b":"1"}`, []string{"ConfigMap/a"}},
		"Same":          {`{"ConfigMap/a":"2","ConfigMap/gone":"1"}`, nil},
		"NotTracked":    {``, nil},
		"EditedByHand":  {`{"ConfigMap/a"`, nil},
		"OptionalComes": {`{"ConfigMap/b":"absent"}`, []string{"ConfigMap/b"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, now.Changed(recorded(tc.recorded))); diff != "" {
				t.Errorf("changed (-want +got):\n%s", diff)
			}
		})
	}
}
