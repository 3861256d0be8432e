// Package chart tests the Helm chart without a cluster: what it renders, what it refuses, and what rights it asks for. The
// admission policies in it are tried against a real API server.
package chart

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	chartv2 "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

const (
	manifests = "../../manifests"
	path      = manifests + "/chart/sluice"
)

var update = flag.Bool("update", false, "rewrite testdata/*.golden.yaml")

func load(t *testing.T) *chartv2.Chart {
	t.Helper()
	c, err := loader.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func values(t *testing.T, text string) map[string]any {
	t.Helper()
	v := map[string]any{}
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func allOn(t *testing.T) map[string]any {
	t.Helper()
	raw, err := os.ReadFile("testdata/all-on.values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return values(t, string(raw))
}

// cluster is a cluster of this version that serves these kinds besides Helm's usual ones.
func cluster(kinds ...string) *common.Capabilities {
	caps := common.DefaultCapabilities.Copy()
	caps.KubeVersion = common.KubeVersion{Version: "v1.36.3", Major: "1", Minor: "36"}
	caps.APIVersions = append(slices.Clone(caps.APIVersions), kinds...)
	return caps
}

const mutating = "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy"

// render returns what each template renders to.
func render(t *testing.T, vals map[string]any, caps *common.Capabilities) (map[string]string, error) {
	t.Helper()
	c := load(t)
	top, err := util.ToRenderValues(c, vals, common.ReleaseOptions{Name: "sluice", Namespace: "sluice-system", IsInstall: true, Revision: 1}, caps)
	if err != nil {
		return nil, err
	}
	return engine.Render(c, top)
}

// objects renders and decodes every object, by "Kind name".
func objects(t *testing.T, vals map[string]any, caps *common.Capabilities) map[string]*unstructured.Unstructured {
	t.Helper()
	files, err := render(t, vals, caps)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]*unstructured.Unstructured{}
	for name, text := range files {
		if !strings.HasSuffix(name, ".yaml") {
			continue
		}
		for _, doc := range strings.Split("\n"+text, "\n---") {
			u := &unstructured.Unstructured{}
			if err := yaml.UnmarshalStrict([]byte(doc), &u.Object); err != nil {
				t.Fatalf("%s: %v\n%s", name, err, doc)
			}
			if u.Object == nil {
				continue
			}
			key := u.GetKind() + " " + u.GetName()
			if all[key] != nil {
				t.Fatalf("%s: %s is rendered twice", name, key)
			}
			all[key] = u
		}
	}
	return all
}

func TestLint(t *testing.T) {
	for name, vals := range map[string]map[string]any{"default": {}, "all on": allOn(t)} {
		lint := action.NewLint()
		lint.Strict = true
		lint.KubeVersion = &common.KubeVersion{Version: "v1.36.3", Major: "1", Minor: "36"}
		result := lint.Run([]string{path}, vals)
		for _, err := range result.Errors {
			t.Errorf("%s: %v", name, err)
		}
		if result.TotalChartsLinted != 1 {
			t.Errorf("%s: linted %d charts", name, result.TotalChartsLinted)
		}
	}
}

// TestGolden shows what the chart renders. The CustomResourceDefinition and the dashboards are copies, and are left out.
func TestGolden(t *testing.T) {
	for name, tc := range map[string]struct {
		values map[string]any
		caps   *common.Capabilities
	}{
		"default": {nil, cluster()},
		"all-on":  {allOn(t), cluster(mutating)},
	} {
		t.Run(name, func(t *testing.T) {
			files, err := render(t, tc.values, tc.caps)
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			for _, file := range slices.Sorted(mapKeys(files)) {
				text := strings.TrimSpace(files[file])
				if text == "" || strings.HasSuffix(file, "_helpers.tpl") || strings.HasSuffix(file, "/crds.yaml") {
					continue
				}
				if strings.HasSuffix(file, "/dashboards.yaml") {
					text, _, _ = strings.Cut(text, "\ndata:")
				}
				fmt.Fprintf(&got, "# Source: %s\n%s\n", file, text)
			}
			golden := filepath.Join("testdata", name+".golden.yaml")
			if *update {
				if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Errorf("%s (-want +got), rewrite with -update:\n%s", golden, diff)
			}
		})
	}
}

func mapKeys[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func TestSchemaRefusesNonsense(t *testing.T) {
	for name, text := range map[string]string{
		"an unknown key":                `controler: {settle: 5s}`,
		"an unknown key further down":   `controller: {setle: 5s}`,
		"a number for a duration":       `controller: {settle: 5}`,
		"words for a duration":          `controller: {drain: half a minute}`,
		"an address without a scheme":   `controller: {prometheusAddress: "prometheus:9090"}`,
		"a selector without a value":    `controller: {gatewaySelector: ingressgateway}`,
		"a gateway without a namespace": `controller: {allowedGateways: [public]}`,
		"a string for hosts":            `controller: {allowedHosts: shop.example.com}`,
		"a URL for a webhook's host":    `webhooks: {allowedHosts: ["https://desk.shop.svc"]}`,
		"a path for a secret's key":     `webhooks: {signingKey: {secretName: sluice, key: a/b}}`,
		"an unknown log level":          `controller: {logLevel: loud}`,
		"text for a number":             `replicas: two`,
		"a connection to nowhere":       `prometheus: {connections: {default: {namespaces: ["*"]}}}`,
		"a password in a url":           `prometheus: {connections: {default: {url: "http://me:secret@prometheus:9090"}}}`,
		"a password in the values":      `prometheus: {connections: {default: {url: "http://p", basicAuth: {username: me, password: secret}}}}`,
		"two kinds of credentials":      `prometheus: {connections: {default: {url: "http://p", basicAuth: {secretName: a}, bearerToken: {secretName: a}}}}`,
		"two authorities":               `prometheus: {connections: {default: {url: "http://p", ca: {secretName: a, configMapName: b}}}}`,
		"a name that no shift can give": `prometheus: {connections: {Tenant_A: {url: "http://p"}}}`,
		"fewer than no replicas":        `replicas: -1`,
		"text for a switch":             `crds: {enabled: "yes"}`,
		"an unknown action":             `admission: {validate: {actions: [Refuse]}}`,
		"deny and warn at once":         `admission: {validate: {actions: [Deny, Warn]}}`,
		"no action at all":              `admission: {validate: {actions: []}}`,
		"an unknown pull policy":        `image: {pullPolicy: Sometimes}`,
	} {
		if _, err := render(t, values(t, text), cluster()); err == nil {
			t.Errorf("%s is accepted: %s", name, text)
		}
	}
}

// TestOneDefaultConnection holds that the controller is never given two, which it refuses.
func TestOneDefaultConnection(t *testing.T) {
	args := func(text string) string {
		t.Helper()
		containers, _, _ := unstructured.NestedSlice(objects(t, values(t, text), cluster())["Deployment sluice"].Object, "spec", "template", "spec", "containers")
		list, _, _ := unstructured.NestedStringSlice(containers[0].(map[string]any), "args")
		return strings.Join(list, " ")
	}
	const address, config = "--prometheus-address=", "--prometheus-config="
	for text, want := range map[string][2]bool{
		`{}`: {true, false},
		`prometheus: {connections: {tenant-a: {url: "http://a"}}}`:                      {true, true},
		`prometheus: {connections: {default: {url: "http://a"}}}`:                       {false, true},
		`prometheus: {connections: {default: {url: "http://a"}, b: {url: "http://b"}}}`: {false, true},
	} {
		if got := args(text); strings.Contains(got, address) != want[0] || strings.Contains(got, config) != want[1] {
			t.Errorf("%s: %s", text, got)
		}
	}
}

func TestAServiceAccountOfOnesOwnNeedsAName(t *testing.T) {
	if _, err := render(t, values(t, `serviceAccount: {create: false}`), cluster()); err == nil {
		t.Error("the rights go to nobody in particular")
	}
	if _, err := render(t, values(t, `serviceAccount: {create: false, name: mine}`), cluster()); err != nil {
		t.Error(err)
	}
}

func TestRightsAreTheLeast(t *testing.T) {
	on := allOn(t)
	delete(on, "configTracking") // the one value that grants more, see below
	for key, u := range objects(t, on, cluster(mutating)) {
		if u.GetKind() != "Role" && u.GetKind() != "ClusterRole" {
			continue
		}
		rules, _, _ := unstructured.NestedSlice(u.Object, "rules")
		if len(rules) == 0 {
			t.Errorf("%s has no rules", key)
		}
		for _, rule := range rules {
			for part, list := range rule.(map[string]any) {
				for _, item := range list.([]any) {
					if s := item.(string); strings.Contains(s, "*") || s == "secrets" || s == "configmaps" || slices.Contains([]string{"escalate", "bind", "impersonate"}, s) {
						t.Errorf("%s asks for %s %s", key, part, s)
					}
				}
			}
		}
	}
}

// TestTrackingMayOnlyRead holds what configTracking grants to reading, and to being asked for.
func TestTrackingMayOnlyRead(t *testing.T) {
	granted := func(enabled string) (verbs []string) {
		u := objects(t, values(t, "configTracking: {enabled: "+enabled+"}"), cluster())["ClusterRole sluice"]
		rules, _, _ := unstructured.NestedSlice(u.Object, "rules")
		for _, rule := range rules {
			resources, _, _ := unstructured.NestedStringSlice(rule.(map[string]any), "resources")
			if slices.Contains(resources, "secrets") || slices.Contains(resources, "configmaps") {
				more, _, _ := unstructured.NestedStringSlice(rule.(map[string]any), "verbs")
				verbs = append(verbs, more...)
			}
		}
		return verbs
	}
	if diff := cmp.Diff([]string{"get", "list", "watch"}, granted("true")); diff != "" {
		t.Errorf("verbs on ConfigMaps and Secrets (-want +got):\n%s", diff)
	}
	if got := granted("false"); got != nil {
		t.Errorf("verbs on ConfigMaps and Secrets %v; want none", got)
	}
}

// TestPodsAreRestricted holds the pods to the Pod Security Standard of that name.
func TestPodsAreRestricted(t *testing.T) {
	pods := 0
	for key, u := range objects(t, nil, cluster()) {
		spec, ok, _ := unstructured.NestedMap(u.Object, "spec", "template", "spec")
		if !ok {
			continue
		}
		pods++
		if got, _, _ := unstructured.NestedBool(spec, "securityContext", "runAsNonRoot"); !got {
			t.Errorf("%s may run as root", key)
		}
		if got, _, _ := unstructured.NestedString(spec, "securityContext", "seccompProfile", "type"); got != "RuntimeDefault" {
			t.Errorf("%s has the seccomp profile %q", key, got)
		}
		for _, c := range spec["containers"].([]any) {
			want := map[string]any{"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": map[string]any{"drop": []any{"ALL"}}}
			if diff := cmp.Diff(want, c.(map[string]any)["securityContext"]); diff != "" {
				t.Errorf("%s (-want +got):\n%s", key, diff)
			}
		}
	}
	if pods != 2 {
		t.Errorf("%d pod templates, want the controller and the detach hook", pods)
	}
}

func TestSelectorsMeetTheirPods(t *testing.T) {
	all := objects(t, allOn(t), cluster(mutating))
	labels, _, _ := unstructured.NestedStringMap(all["Deployment sluice"].Object, "spec", "template", "metadata", "labels")
	hook, _, _ := unstructured.NestedStringMap(all["Job sluice-detach"].Object, "spec", "template", "metadata", "labels")
	for key, fields := range map[string][]string{
		"Deployment sluice":          {"spec", "selector", "matchLabels"},
		"PodDisruptionBudget sluice": {"spec", "selector", "matchLabels"},
		"PodMonitor sluice":          {"spec", "selector", "matchLabels"},
		"Service sluice-metrics":     {"spec", "selector"},
	} {
		selector, ok, err := unstructured.NestedStringMap(all[key].Object, fields...)
		if err != nil || !ok {
			t.Errorf("%s has no selector: %v", key, err)
		}
		if !covers(selector, labels) || covers(selector, hook) {
			t.Errorf("%s selects %v: not the controller's pods, or the hook's too", key, selector)
		}
	}
	monitor, _, _ := unstructured.NestedStringMap(all["ServiceMonitor sluice"].Object, "spec", "selector", "matchLabels")
	if !covers(monitor, all["Service sluice-metrics"].GetLabels()) {
		t.Errorf("the ServiceMonitor selects %v, not the Service", monitor)
	}
}

func covers(selector, labels map[string]string) bool {
	for k, v := range selector {
		if labels[k] != v {
			return false
		}
	}
	return true
}

func TestCRDs(t *testing.T) {
	const key = "CustomResourceDefinition trafficshifts.sluice.dev"
	if u := objects(t, nil, cluster())[key]; u == nil || u.GetAnnotations()["helm.sh/resource-policy"] != "keep" || u.GetAnnotations()["controller-gen.kubebuilder.io/version"] == "" {
		t.Errorf("by default it is not installed and kept as it was generated: %v", u)
	}
	if u := objects(t, values(t, `crds: {keep: false}`), cluster())[key]; u == nil || u.GetAnnotations()["helm.sh/resource-policy"] != "" {
		t.Error("crds.keep=false does not let it go")
	}
	if u := objects(t, values(t, `crds: {enabled: false}`), cluster())[key]; u != nil {
		t.Error("crds.enabled=false installs it")
	}
}

func TestWithoutMutatingPoliciesNoneIsMade(t *testing.T) {
	for key := range objects(t, nil, cluster()) {
		if strings.HasPrefix(key, "Mutating") {
			t.Errorf("%s on a cluster that does not serve it", key)
		}
	}
}

// TestCopies holds that the chart's copies are those that `make generate` makes.
func TestCopies(t *testing.T) {
	for from, to := range map[string]string{"crd": "files/crd", "dashboards": "files/dashboards"} {
		want, got := read(t, filepath.Join(manifests, from)), read(t, filepath.Join(path, to))
		if len(want) == 0 {
			t.Errorf("nothing in %s", from)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s differs from %s, run `make generate`:\n%s", to, from, diff)
		}
	}
}

func read(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, pattern := range []string{"*.yaml", "*.json"} {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			raw, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			all[filepath.Base(name)] = string(raw)
		}
	}
	return all
}

// TestTheImageIsWhatTheChartRuns holds the Dockerfile to the user that the chart runs it as, and to a file of authorities' certificates where
// Go looks for one: without it no webhook and no Prometheus is trusted.
func TestTheImageIsWhatTheChartRuns(t *testing.T) {
	text, err := os.ReadFile("../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	user, ok := load(t).Values["podSecurityContext"].(map[string]any)
	if !ok {
		t.Fatal("the chart says nothing of who runs the image")
	}
	for _, want := range []string{fmt.Sprintf("USER %v:%v", user["runAsUser"], user["runAsGroup"]), "COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt", `ENTRYPOINT ["/sluice"]`} {
		if !strings.Contains(string(text), "\n"+want+"\n") {
			t.Errorf("the Dockerfile does not say %s", want)
		}
	}
}

// TestReadmeKnowsEveryValue holds the table of the README to values.yaml.
func TestReadmeKnowsEveryValue(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(path, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile(filepath.Join(path, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	var below [3]string
	documented := false
	for line := range strings.Lines(string(raw)) {
		trimmed := strings.TrimLeft(line, " ")
		if strings.HasPrefix(trimmed, "#") {
			documented = documented || strings.HasPrefix(trimmed, "# -- ")
			continue
		}
		key, _, ok := strings.Cut(trimmed, ":")
		if depth := (len(line) - len(trimmed)) / 2; ok && depth < len(below) {
			below[depth] = key
			if documented {
				keys = append(keys, strings.Join(below[:depth+1], "."))
			}
		}
		documented = false
	}
	if len(keys) < 50 {
		t.Fatalf("found only %d values: %v", len(keys), keys)
	}
	for _, key := range keys {
		if !strings.Contains(string(readme), "| `"+key+"` |") {
			t.Errorf("the README does not know %s", key)
		}
	}
}
