package plan_test

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/sluice-dev/sluice/controllers/plan"
	"github.com/sluice-dev/sluice/controllers/shift"
)

// Whatever the owner's strategy allows, a version that users are on never has fewer pods than they need.
func TestARestartNeverTakesAPodBeforeAnotherIsReady(t *testing.T) {
	update := func(surge, unavailable string) appsv1.DeploymentStrategy {
		s, u := intstr.Parse(surge), intstr.Parse(unavailable)
		return appsv1.DeploymentStrategy{RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: &s, MaxUnavailable: &u}}
	}
	for name, tc := range map[string]struct {
		strategy appsv1.DeploymentStrategy
		surge    string
	}{
		"Default":     {appsv1.DeploymentStrategy{}, "25%"},
		"Recreate":    {appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}, "25%"},
		"NoSurge":     {update("0", "1"), "25%"},
		"NoSurgeRate": {update("0%", "100%"), "25%"},
		"Surge":       {update("2", "50%"), "2"},
	} {
		t.Run(name, func(t *testing.T) {
			s := load(t, "testdata/rest.in.yaml")
			scope := s.scope(t)
			scope.Template.Spec.Strategy = tc.strategy
			p, err := plan.For(scope, shift.Desired{Scales: []shift.Scale{{Version: "v1", Replicas: 3}}, Restart: &shift.Restart{Version: "v1", At: "now"}})
			if err != nil {
				t.Fatal(err)
			}
			got := written[*appsv1.Deployment](p)[0].Spec.Strategy
			if got.Type != appsv1.RollingUpdateDeploymentStrategyType || got.RollingUpdate.MaxUnavailable.String() != "0" || got.RollingUpdate.MaxSurge.String() != tc.surge {
				t.Errorf("strategy %+v of %+v; want surge %s and none unavailable", got.Type, got.RollingUpdate, tc.surge)
			}
		})
	}
}

// A restart is no new version: what Sluice wrote for it is not part of what the user wrote.
func TestARestartLeavesNoTraceInTheTemplate(t *testing.T) {
	s := load(t, "testdata/rest.in.yaml")
	scope := s.scope(t)
	scope.Restarted = map[string]string{"v1": "then"}
	p, err := plan.For(scope, shift.Desired{Scales: []shift.Scale{{Version: "v1", Replicas: 3}}})
	if err != nil {
		t.Fatal(err)
	}
	dep := written[*appsv1.Deployment](p)[0]
	if !plan.SameTemplate(&scope.Template.Spec.Template, plan.UserTemplate(dep)) {
		t.Errorf("the template came back as %+v", plan.UserTemplate(dep).ObjectMeta)
	}
}
