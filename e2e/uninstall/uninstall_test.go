// Package uninstall proves that Sluice can be removed. It has a scene of its own, because it takes the controller away for good.
package uninstall

import (
	"testing"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/e2e/lab"
	"github.com/sluice-dev/sluice/e2e/lab/load"
	"github.com/sluice-dev/sluice/e2e/scene"
)

func TestMain(m *testing.M) {
	lab.Quiet()
	m.Run()
}

// README: "`helm uninstall sluice` hands every service back, for which it needs the time, and then removes the controller."
func TestUninstallHandsEveryServiceBack(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a lab, which -short leaves out")
	}
	ctx := t.Context()
	s, err := scene.Open(ctx, scene.Options{Progress: func(line string) { t.Log(line) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	if err := s.Install(ctx, s.Values()); err != nil {
		t.Fatal(err)
	}
	if err := s.Apply(ctx, "examples/micro-api"); err != nil {
		t.Fatal(err)
	}
	users, err := s.Within(ctx, "client", "http://micro-api.shop.svc.cluster.local:19090/", 250)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Await(ctx, 2*time.Minute, "micro-api", "to be adopted", scene.Stable("v1")); err != nil {
		t.Fatal(err)
	}
	if err := s.Uninstall(ctx); err != nil {
		t.Fatal(err)
	}
	d := &appsv1.Deployment{}
	if err := s.Client.Get(ctx, types.NamespacedName{Namespace: scene.Shop, Name: "micro-api"}, d); err != nil {
		t.Fatal(err)
	}
	if d.Status.AvailableReplicas != 3 {
		t.Errorf("the Deployment has %d of 3 pods available", d.Status.AvailableReplicas)
	}
	var rules networkingv1.DestinationRuleList
	if err := s.Client.List(ctx, &rules, client.InNamespace(scene.Shop)); err != nil || len(rules.Items) > 0 {
		t.Errorf("%d DestinationRules are left behind (%v)", len(rules.Items), err)
	}
	if err := users.WaitFor(ctx, func(r load.Report) bool { return r.Total >= 10_000 }); err != nil {
		t.Fatal(err)
	}
	if r := users.Stop(); r.Failed > 0 {
		t.Errorf("%d of %d requests failed: %+v", r.Failed, r.Total, r.Failures[:min(3, len(r.Failures))])
	}
}
