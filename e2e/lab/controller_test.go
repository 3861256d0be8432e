package lab_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/sluice-dev/sluice/e2e/lab"
)

// The controller's image is a real process: its flags and environment are the container's, its rights its ServiceAccount's.
func TestControllerIsAProcess(t *testing.T) {
	l := start(t)
	ns := namespace(t, l, nil)
	grant(t, l, ns)
	create(t, l, deployment(ns, "sluice", "registry.example.com/sluice-dev/sluice:dev", 1, func(s *corev1.PodSpec) {
		s.ServiceAccountName = "sluice"
		c := &s.Containers[0]
		c.Args = []string{"--metrics-bind-address=:8080", "--greeting=$(GREETING) from $(NOBODY)"}
		c.Env = []corev1.EnvVar{
			{Name: role, Value: "controller"},
			{Name: "POD_NAMESPACE", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.namespace"}}},
			{Name: "GREETING", Value: "hello $(POD_NAMESPACE)"},
		}
		c.Ports = []corev1.ContainerPort{{Name: "metrics", ContainerPort: 8080}, {Name: "health", ContainerPort: 8081}}
		c.ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{
			HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromString("health")},
		}, PeriodSeconds: 1}
	}))
	pod := pods(t, l, ns, "sluice", 1, isReady)[0]
	name := types.NamespacedName{Namespace: ns, Name: pod.Name}
	base := "http://" + net.JoinHostPort(pod.Status.PodIP, "8080")
	for path, want := range map[string]string{
		"/may": "configmaps=true secrets-forbidden=true", "/greeting": "hello " + ns + " from $(NOBODY)",
	} {
		if _, _, got, err := get(t.Context(), l, base+path); err != nil || got != want {
			t.Errorf("GET %s: %q, %v, want %q", path, got, err, want)
		}
	}
	up := fmt.Sprintf("test_controller_up{job=%q,namespace=%q,pod=%q}", "sluice", ns, pod.Name)
	eventually(t, up, func(ctx context.Context) error { return has(ctx, l, up, "1") })

	before, err := l.Agent.Process(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Agent.Kill(name); err != nil {
		t.Fatal(err)
	}
	pods(t, l, ns, "sluice", 1, func(p *corev1.Pod) error {
		if after, err := l.Agent.Process(name); err != nil || after == before {
			return fmt.Errorf("process %d, %w", after, errors.Join(err))
		}
		if p.Status.ContainerStatuses[0].RestartCount != 1 {
			return errors.New("no restart counted")
		}
		return isReady(p)
	})
	eventually(t, up+" after the restart", func(ctx context.Context) error { return has(ctx, l, up, "1") })
}

// grant lets the ServiceAccount sluice read ConfigMaps and nothing else.
func grant(t *testing.T, l *lab.Lab, ns string) {
	t.Helper()
	meta := metav1.ObjectMeta{Namespace: ns, Name: "sluice"}
	create(t, l, &corev1.ServiceAccount{ObjectMeta: meta})
	create(t, l, &rbacv1.Role{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{{
		APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"list"},
	}}})
	create(t, l, &rbacv1.RoleBinding{
		ObjectMeta: meta, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "sluice"},
		Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: ns, Name: "sluice"}},
	})
}

// has asks Prometheus for one series of one value.
func has(ctx context.Context, l *lab.Lab, query, want string) error {
	got, err := ask(ctx, l, query)
	if err == nil {
		if diff := cmp.Diff([]string{want}, got); diff != "" {
			err = fmt.Errorf("%s: -want +got:\n%s", query, diff)
		}
	}
	return err
}

// ask returns the values of an instant query.
func ask(ctx context.Context, l *lab.Lab, query string) ([]string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.PrometheusURL+"/api/v1/query?query="+url.QueryEscape(query), nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var answer struct {
		Data struct {
			Result []struct{ Value [2]any }
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return nil, err
	}
	var values []string
	for _, r := range answer.Data.Result {
		values = append(values, fmt.Sprint(r.Value[1]))
	}
	return values, nil
}

// Prometheus loses nothing but time when it is killed, the data plane's series keep their own labels, and targets go as
// they came.
func TestPrometheusStopsAndStarts(t *testing.T) {
	l := start(t)
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, `test_requests_total{pod="p1",job="mine"} 7`)
	}))
	defer page.Close()
	address := strings.TrimPrefix(page.URL, "http://")
	if err := l.AddScrapeTarget("data-plane", address, "/metrics", nil); err != nil {
		t.Fatal(err)
	}
	const query = `test_requests_total{pod="p1",job="mine"}`
	eventually(t, query, func(ctx context.Context) error { return has(ctx, l, query, "7") })

	was := l.PrometheusURL
	l.StopPrometheus()
	if _, err := ask(t.Context(), l, query); err == nil {
		t.Error("a stopped Prometheus answers")
	}
	if err := l.StartPrometheus(t.Context()); err != nil {
		t.Fatal(err)
	}
	if l.PrometheusURL != was {
		t.Errorf("moved from %s to %s", was, l.PrometheusURL)
	}
	const old = `count_over_time(test_requests_total{pod="p1"}[1h]) > 1`
	eventually(t, "samples from before", func(ctx context.Context) error {
		got, err := ask(ctx, l, old)
		if err == nil && len(got) != 1 {
			err = fmt.Errorf("%d series", len(got))
		}
		return err
	})
	if err := l.RemoveScrapeTarget("data-plane", address); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the series to go stale", func(ctx context.Context) error {
		got, err := ask(ctx, l, query)
		if err == nil && len(got) != 0 {
			err = fmt.Errorf("still %v", got)
		}
		return err
	})
}

func TestIstiodStopsAndStarts(t *testing.T) {
	l := start(t)
	ready := func() error {
		resp, err := http.Get(l.IstiodHTTP + "/ready")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		conn, err := net.Dial("tcp", l.XDSAddress)
		if err != nil {
			return err
		}
		return conn.Close()
	}
	if err := ready(); err != nil {
		t.Fatal(err)
	}
	l.StopIstiod()
	if ready() == nil {
		t.Error("a stopped istiod is ready")
	}
	if err := l.StartIstiod(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := ready(); err != nil {
		t.Error(err)
	}
}
