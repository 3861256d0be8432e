package chart

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"
)

var environment = &envtest.Environment{}

var apiServer = sync.OnceValues(environment.Start)

func TestMain(m *testing.M) {
	code := m.Run()
	if environment.Config != nil {
		_ = environment.Stop()
	}
	os.Exit(code)
}

// sluice is the user that the policies exempt.
const sluice = "system:serviceaccount:sluice-system:sluice"

// policies starts an API server with the chart's admission policies and returns a client of an administrator, and one of Sluice.
func policies(t *testing.T) (admin, controller client.Client) {
	t.Helper()
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		t.Skip("KUBEBUILDER_ASSETS is not set: it names the folder with etcd and kube-apiserver (make test sets it)")
	}
	config, err := apiServer()
	if err != nil {
		t.Fatalf("cannot start the API server: %v", err)
	}
	admin = connect(t, config)
	as := rest.CopyConfig(config)
	as.Impersonate.UserName = sluice
	controller = connect(t, as)
	for key, u := range objects(t, nil, cluster(mutating)) {
		if strings.Contains(key, "AdmissionPolicy") {
			apply(t, admin, u)
		}
	}
	grant := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "test"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: sluice}},
	}
	if err := admin.Create(t.Context(), grant); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	return admin, controller
}

func connect(t *testing.T, config *rest.Config) client.Client {
	t.Helper()
	c, err := client.New(config, client.Options{Scheme: scheme.Scheme})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func apply(t *testing.T, c client.Client, u *unstructured.Unstructured) {
	t.Helper()
	if err := c.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(u.DeepCopy()), client.FieldOwner("helm"), client.ForceOwnership); err != nil {
		t.Fatalf("%s %s: %v", u.GetKind(), u.GetName(), err)
	}
}

func namespace(t *testing.T, c client.Client) string {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "shop-"}}
	if err := c.Create(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	return ns.Name
}

func deployment(t *testing.T, ns string, annotations map[string]string) *appsv1.Deployment {
	t.Helper()
	d := &appsv1.Deployment{}
	const text = `
metadata: {name: micro-api}
spec:
  replicas: 3
  selector: {matchLabels: {app: micro-api}}
  template:
    metadata: {labels: {app: micro-api}}
    spec: {containers: [{name: app, image: "micro-api:1.1"}]}
`
	if err := yaml.Unmarshal([]byte(text), d); err != nil {
		t.Fatal(err)
	}
	d.Namespace, d.Annotations = ns, annotations
	return d
}

// eventually waits for the API server to notice new policies.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("20s, and not yet: %s", what)
}

// TestAdmissionMeansWhatTheControllerMeans holds the policy to the values that the controller's own table is tested with. A refusal
// names the key, the value and the accepted form.
func TestAdmissionMeansWhatTheControllerMeans(t *testing.T) {
	raw, err := os.ReadFile("../../controllers/shim/testdata/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var values map[string]struct{ Accepted, Refused []string }
	if err := yaml.UnmarshalStrict(raw, &values); err != nil {
		t.Fatal(err)
	}
	admin, _ := policies(t)
	ns := namespace(t, admin)
	try := func(a map[string]string) error {
		return admin.Create(t.Context(), deployment(t, ns, a), client.DryRunAll)
	}
	eventually(t, "the policy is in force", func() bool { return try(map[string]string{"sluice.dev/strategy": "no"}) != nil })

	for key, v := range values {
		for i, value := range append(v.Accepted, v.Refused...) {
			a := map[string]string{"sluice.dev/strategy": "canary", "example.com/steps": "unrelated"}
			a["sluice.dev/"+key] = value
			err := try(a)
			if (err == nil) != (i < len(v.Accepted)) {
				t.Errorf("%s=%q: %v", key, value, err)
			}
			if err != nil && !(strings.Contains(err.Error(), fmt.Sprintf("sluice.dev/%s=%q: ", key, value)) && strings.Contains(err.Error(), "accepted: ")) {
				t.Errorf("%s=%q: the message does not name key, value and accepted form: %v", key, value, err)
			}
		}
	}
	if err := try(map[string]string{"sluice.dev/hold": "1m"}); err == nil {
		t.Error("keys without a strategy are let in")
	}
	if err := try(nil); err != nil {
		t.Errorf("a Deployment that has nothing to do with Sluice: %v", err)
	}
}

// TestAnOldMistakeStopsNobody holds that a bad value that stands there already does not stop other writes, and that Sluice itself
// is never stopped.
func TestAnOldMistakeStopsNobody(t *testing.T) {
	admin, controller := policies(t)
	ns := namespace(t, admin)
	bad := map[string]string{"sluice.dev/strategy": "canary", "sluice.dev/hold": "one minute"}
	eventually(t, "the policy is in force", func() bool { return admin.Create(t.Context(), deployment(t, ns, bad), client.DryRunAll) != nil })
	d := deployment(t, ns, bad)
	if err := controller.Create(t.Context(), d); err != nil {
		t.Fatalf("Sluice is stopped: %v", err)
	}
	d.Annotations["deployment.kubernetes.io/revision"] = "2"
	if err := admin.Update(t.Context(), d); err != nil {
		t.Errorf("a write that has nothing to do with it is stopped: %v", err)
	}
	d.Annotations["sluice.dev/hold"] = "two minutes"
	if err := admin.Update(t.Context(), d); err == nil {
		t.Error("a new mistake is let in")
	}
}

// held makes a Deployment as it stands while Sluice holds it.
func held(t *testing.T, controller client.Client, ns string) *appsv1.Deployment {
	t.Helper()
	d := deployment(t, ns, map[string]string{"sluice.dev/strategy": "canary", "sluice.dev/held": "true"})
	zero := int32(0)
	d.Spec.Replicas = &zero
	if err := controller.Create(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	return d
}

func ungated(t *testing.T, c client.Client, ns string) func() bool {
	return func() bool {
		three := int32(3)
		d := deployment(t, ns, nil)
		err := c.Get(t.Context(), client.ObjectKeyFromObject(d), d)
		if err != nil {
			t.Fatal(err)
		}
		d.Spec.Replicas = &three
		if err := c.Update(t.Context(), d, client.DryRunAll); err != nil {
			t.Fatal(err)
		}
		return *d.Spec.Replicas == 0
	}
}

// TestAHeldDeploymentNeverStartsAPod holds that nobody but Sluice scales a held template up, and that what they declared is
// kept where the controller reads it.
func TestAHeldDeploymentNeverStartsAPod(t *testing.T) {
	admin, controller := policies(t)
	type state struct {
		Replicas  int32
		PutAside  string // sluice.dev/last-wish
		Remembers bool   // kubectl's last-applied-configuration
	}
	for name, tc := range map[string]struct {
		write func(ctx context.Context, c client.Client, ns string) error
		want  state
	}{
		"kubectl apply": {func(ctx context.Context, c client.Client, ns string) error {
			return c.Patch(ctx, deployment(t, ns, nil), client.RawPatch("application/merge-patch+json", []byte(
				`{"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"spec\":{\"replicas\":3}}"}},"spec":{"replicas":3}}`)))
		}, state{0, "", true}},
		"server-side apply": {func(ctx context.Context, c client.Client, ns string) error {
			return serverSideApply(ctx, c, ns, 5)
		}, state{0, "5", false}},
		"and again, as a GitOps tool does": {func(ctx context.Context, c client.Client, ns string) error {
			for _, n := range []int64{5, 5, 6, 6} {
				if err := serverSideApply(ctx, c, ns, n); err != nil {
					return err
				}
			}
			return nil
		}, state{0, "6", false}},
		"kubectl patch, which is no declaration": {func(ctx context.Context, c client.Client, ns string) error {
			return c.Patch(ctx, deployment(t, ns, nil), client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"replicas":7}}`)))
		}, state{0, "", false}},
		"kubectl replace without replicas, which defaults to 1": {func(ctx context.Context, c client.Client, ns string) error {
			d := deployment(t, ns, map[string]string{"sluice.dev/strategy": "canary"})
			d.Spec.Replicas = nil
			return c.Update(ctx, d)
		}, state{0, "", false}},
		"Sluice itself": {func(ctx context.Context, _ client.Client, ns string) error {
			return controller.Patch(ctx, deployment(t, ns, nil), client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"replicas":3}}`)))
		}, state{3, "", false}},
	} {
		t.Run(name, func(t *testing.T) {
			ns := namespace(t, admin)
			d := held(t, controller, ns)
			eventually(t, "the policy is in force", ungated(t, admin, ns))
			if err := tc.write(t.Context(), admin, ns); err != nil {
				t.Fatal(err)
			}
			if err := admin.Get(t.Context(), client.ObjectKeyFromObject(d), d); err != nil {
				t.Fatal(err)
			}
			got := state{*d.Spec.Replicas, d.Annotations["sluice.dev/last-wish"], strings.Contains(d.Annotations["kubectl.kubernetes.io/last-applied-configuration"], `"replicas":3`)}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func serverSideApply(ctx context.Context, c client.Client, ns string, n int64) error {
	u := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"replicas": n}}}
	u.SetGroupVersionKind(appsv1.SchemeGroupVersion.WithKind("Deployment"))
	u.SetNamespace(ns)
	u.SetName("micro-api")
	return c.Apply(ctx, client.ApplyConfigurationFromUnstructured(u), client.FieldOwner("flux"), client.ForceOwnership)
}

// TestADeploymentThatNobodyHoldsIsLeftAlone holds that the policy changes nothing else.
func TestADeploymentThatNobodyHoldsIsLeftAlone(t *testing.T) {
	admin, controller := policies(t)
	ns := namespace(t, admin)
	held(t, controller, ns)
	eventually(t, "the policy is in force", ungated(t, admin, ns))
	d := deployment(t, namespace(t, admin), map[string]string{"sluice.dev/strategy": "canary"})
	if err := admin.Create(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	four := int32(4)
	d.Spec.Replicas = &four
	if err := admin.Update(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if *d.Spec.Replicas != 4 {
		t.Errorf("it has %d replicas, want 4", *d.Spec.Replicas)
	}
}
