package plan

import (
	"encoding/json"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/shift"
)

// undo writes a recorded template into the annotated Deployment again, as kubectl rollout undo does.
func (s Scope) undo(d shift.Desired) ([]Step, error) {
	record, ok := s.Records[d.Undo]
	if !ok {
		return nil, nil
	}
	template := map[string]any{}
	if err := json.Unmarshal(record.Data.Raw, &template); err != nil {
		return nil, fmt.Errorf("ControllerRevision %s/%s: reading the recorded pod template: %w", record.Namespace, record.Name, err)
	}
	u := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"template": template}}}
	u.SetAPIVersion(deploymentType.APIVersion)
	u.SetKind(deploymentType.Kind)
	u.SetNamespace(s.Template.Namespace)
	u.SetName(s.Template.Name)
	return []Step{{PutBack, u}}, nil
}

// restart has a version's pods replaced, and keeps the mark of the last time: without it they would be replaced again. However the owner
// lets pods be rolled, no pod goes here before another is ready: a version that users are on never has fewer than they need.
func (s Scope) restart(dep *appsv1.Deployment, version string, r *shift.Restart) {
	at := s.Restarted[version]
	if r != nil && r.Version == version {
		at = r.At
	}
	if at == "" {
		return
	}
	dep.Spec.Template.Annotations = merge(dep.Spec.Template.Annotations, map[string]string{v1alpha1.AnnotationRestartedAt: at})
	none, surge := intstr.FromInt32(0), intstr.FromString("25%")
	if u := dep.Spec.Strategy.RollingUpdate; u != nil && u.MaxSurge != nil && u.MaxSurge.String() != "0" && u.MaxSurge.String() != "0%" {
		surge = *u.MaxSurge
	}
	dep.Spec.Strategy = appsv1.DeploymentStrategy{
		Type:          appsv1.RollingUpdateDeploymentStrategyType,
		RollingUpdate: &appsv1.RollingUpdateDeployment{MaxUnavailable: &none, MaxSurge: &surge},
	}
}
