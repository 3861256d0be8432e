package trafficshift

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/plan"
)

var tracking = strings.Replace(trafficShift, "spec:", "spec:\n  configTracking: true", 1)

const contents = `
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {mode: slow}
`

// configured is a service that takes its configuration from the ConfigMap settings and the Secret token.
func configured(t *testing.T) *cluster {
	t.Helper()
	c := newCluster(t)
	c.Config.ConfigTracking = true
	c.apply(strings.Replace(service, "        env: [", "        envFrom: [{secretRef: {name: token}}]\n        env: [", 1))
	c.apply(contents)
	c.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: token}\nstringData: {TOKEN: hunter2, OTHER: x}\n")
	c.apply(tracking)
	c.kubelet()
	c.run("adoption", 60, resting)
	return c
}

func stableIs(version string) func(*v1alpha1.TrafficShift) bool {
	return func(s *v1alpha1.TrafficShift) bool { return resting(s) && s.Status.Stable == version }
}

func TestAChangedConfigMapIsARelease(t *testing.T) {
	c := configured(t)
	c.patch(&corev1.ConfigMap{}, "settings", `{"data":{"mode":"fast"}}`)
	c.pass()
	s := c.shift()
	if s.Status.Candidate != "v2" || !strings.Contains(s.Status.Message, "new contents of ConfigMap/settings: starting v2 beside v1") {
		t.Fatalf("candidate %q: %s; want v2, for the new contents", s.Status.Candidate, s.Status.Message)
	}
	c.run("v2 to be promoted", 200, stableIs("v2"))
	if diff := cmp.Diff([]string{"micro-api 0", "micro-api-v1 0", "micro-api-v2 3"}, c.deploymentSizes()); diff != "" {
		t.Errorf("sizes (-want +got):\n%s", diff)
	}
	// A kept version with that template and those contents is that version.
	c.patch(&corev1.ConfigMap{}, "settings", `{"data":{"mode":"slow"}}`)
	c.run("the way back to be v1 again", 200, stableIs("v1"))
	c.patch(&corev1.Secret{}, "token", `{"stringData":{"TOKEN":"hunter3"}}`)
	c.run("a changed Secret to be a release", 200, stableIs("v3"))
	c.checkNoSecretsCopied()
}

// checkNoSecretsCopied looks for what the Secret says in everything that Sluice writes.
func (c *cluster) checkNoSecretsCopied() {
	c.Helper()
	for _, list := range []client.ObjectList{&appsv1.ControllerRevisionList{}, &appsv1.DeploymentList{}, &v1alpha1.TrafficShiftList{}, &corev1.ConfigMapList{}} {
		if err := c.List(c.Context(), list, client.InNamespace(c.ns)); err != nil {
			c.Fatal(err)
		}
		text, err := json.Marshal(list)
		if err != nil {
			c.Fatal(err)
		}
		if bytes.Contains(text, []byte("hunter")) || bytes.Contains(text, []byte("aHVudGVy")) {
			c.Errorf("%T holds what the Secret says", list)
		}
	}
}

func TestWhatIsNoChangeOfConfigurationIsNoRelease(t *testing.T) {
	changes := map[string]func(c *cluster){
		"Metadata": func(c *cluster) {
			c.patch(&corev1.ConfigMap{}, "settings", `{"metadata":{"labels":{"team":"shop"},"annotations":{"note":"x"}}}`)
		},
		"OptedOut": func(c *cluster) {
			c.patch(&corev1.ConfigMap{}, "settings", `{"metadata":{"annotations":{"sluice.dev/config-tracking":"disabled"}},"data":{"mode":"fast"}}`)
		},
		"Deleted": func(c *cluster) { // pods that start now would not: that is no release
			o := &corev1.ConfigMap{}
			if c.get("settings", o); c.Delete(c.Context(), o) != nil {
				c.Fatal("cannot delete it")
			}
		},
		"Unused":         func(c *cluster) { c.apply(strings.Replace(contents, "settings", "others", 1)) },
		"Gone and again": func(c *cluster) { c.replace("settings", contents) },
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			c := configured(t)
			change(c)
			for range 3 {
				c.pass()
			}
			if s := c.shift().Status; s.Phase != v1alpha1.PhaseStable || s.Stable != "v1" {
				t.Errorf("%s, stable %s: %s; want v1 at rest", s.Phase, s.Stable, s.Message)
			}
		})
	}
}

func (c *cluster) replace(name, manifest string) {
	c.Helper()
	o := &corev1.ConfigMap{}
	if c.get(name, o); c.Delete(c.Context(), o) != nil {
		c.Fatal("cannot delete it")
	}
	c.apply(manifest)
}

// Tracking that is switched on, or comes with a newer controller, takes things as they are.
func TestTrackingBeginsWithWhatIsThere(t *testing.T) {
	c := newCluster(t)
	c.Config.ConfigTracking = true
	c.apply(service)
	c.apply(contents)
	c.apply(trafficShift)
	c.kubelet()
	c.run("adoption", 60, resting)
	c.patch(&v1alpha1.TrafficShift{}, "micro-api", `{"spec":{"configTracking":true}}`)
	c.run("to take note", 5, func(s *v1alpha1.TrafficShift) bool { return c.recordedConfig("v1") != nil })
	if s := c.shift().Status; s.Phase != v1alpha1.PhaseStable {
		t.Fatalf("%s: %s; want no release", s.Phase, s.Message)
	}
	c.patch(&corev1.ConfigMap{}, "settings", `{"data":{"mode":"fast"}}`)
	c.run("v2 to be promoted", 200, stableIs("v2"))
	c.patch(&v1alpha1.TrafficShift{}, "micro-api", `{"spec":{"configTracking":false}}`)
	c.patch(&corev1.ConfigMap{}, "settings", `{"data":{"mode":"slow"}}`)
	for range 3 {
		c.pass()
	}
	if s := c.shift().Status; s.Phase != v1alpha1.PhaseStable || s.Stable != "v2" {
		t.Errorf("%s, stable %s: %s; want no release without tracking", s.Phase, s.Stable, s.Message)
	}
}

func (c *cluster) recordedConfig(version string) plan.Config {
	c.Helper()
	record := &appsv1.ControllerRevision{}
	if !c.get("micro-api-"+version, record) {
		c.Fatalf("%s has no record", version)
	}
	if config := plan.RecordedConfig(record); len(config) > 0 {
		return config
	}
	return nil
}

func TestTrackingIsRefusedWhereContentsMayNotBeRead(t *testing.T) {
	c := newCluster(t)
	c.Live = interceptor.NewClient(c.Client.(client.WithWatch), interceptor.Funcs{Get: func(ctx context.Context, api client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
		switch o.(type) {
		case *corev1.Secret, *corev1.ConfigMap:
			t.Errorf("%T %s is read", o, key)
		}
		return api.Get(ctx, key, o, opts...)
	}})
	c.apply(service)
	c.apply(contents)
	c.apply(tracking)
	c.kubelet()
	c.pass()
	s := c.shift()
	if s == nil || condition(s, v1alpha1.ConditionAccepted) == "" {
		c.pass()
		s = c.shift()
	}
	if got := condition(s, v1alpha1.ConditionAccepted); got != "False "+v1alpha1.ReasonConfigTrackingOff {
		t.Errorf("Accepted is %q; want False %s", got, v1alpha1.ReasonConfigTrackingOff)
	}
	for _, text := range []string{"spec.configTracking: true", "configTracking.enabled: true", "sluice.dev/config-tracking"} {
		if !strings.Contains(s.Status.Message, text) {
			t.Errorf("the message does not say %q: %s", text, s.Status.Message)
		}
	}
}

// Contents are asked for when they have changed, and not at every pass.
func TestContentsAreReadOnce(t *testing.T) {
	c := configured(t)
	reads := 0
	c.Live = interceptor.NewClient(c.Client.(client.WithWatch), interceptor.Funcs{Get: func(ctx context.Context, api client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
		switch o.(type) {
		case *corev1.Secret, *corev1.ConfigMap:
			reads++
		}
		return api.Get(ctx, key, o, opts...)
	}})
	c.pass()
	c.pass()
	if reads != 0 {
		t.Errorf("unchanged contents are read %d times more", reads)
	}
	c.patch(&corev1.ConfigMap{}, "settings", `{"data":{"mode":"fast"}}`)
	c.pass()
	c.pass()
	if reads != 1 {
		t.Errorf("changed contents are read %d times in two passes; want once", reads)
	}
}

// byConfig wakes the shifts that track a ConfigMap, and no others.
func TestAConfigMapWakesWhoTracksIt(t *testing.T) {
	c := configured(t)
	for name, want := range map[string]int{"settings": 1, "token": 0, "others": 0} {
		if got := c.byConfig(t.Context(), plan.ConfigRef{Kind: plan.ConfigMap, Name: name}, c.ns); len(got) != want {
			t.Errorf("ConfigMap %s wakes %v; want %d", name, got, want)
		}
	}
}

// A name that changes with its contents, as kustomize's and many charts' do, leaves one more behind at every release.
func TestDigestsDoNotGrowForEver(t *testing.T) {
	var d digests
	key := func(i int) digestKey {
		return digestKey{types.NamespacedName{Namespace: "shop", Name: fmt.Sprintf("settings-%d", i)}, plan.ConfigMap, "[]"}
	}
	for i := range digestLimit + 1 {
		d.put(key(i), "1", fmt.Sprint(i))
		if sum, ok := d.get(key(i), "1"); !ok || sum != fmt.Sprint(i) {
			t.Fatalf("the digest that was put last is %q, %t", sum, ok)
		}
		if len(d.of) > digestLimit {
			t.Fatalf("%d are remembered; want at most %d", len(d.of), digestLimit)
		}
	}
}
