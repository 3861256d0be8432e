package plan

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/shift"
)

var (
	deploymentType = metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"}
	revisionType   = metav1.TypeMeta{APIVersion: "apps/v1", Kind: "ControllerRevision"}
)

// deployments makes the Deployment of every version that should exist. One whose record is still to be written waits for it.
func (s Scope) deployments(d shift.Desired) ([]Step, error) {
	var steps []Step
	for _, scale := range d.Scales {
		record, ok := s.Records[scale.Version]
		if !ok {
			continue
		}
		dep, err := s.MakeDeployment(record, scale)
		if err != nil {
			return nil, err
		}
		s.restart(dep, scale.Version, d.Restart)
		steps = append(steps, Step{Apply, dep})
	}
	return steps, nil
}

// MakeDeployment makes a version's Deployment: the recorded pod template as written, with the three labels that tell versions
// apart, and the rollout settings of the annotated Deployment as they are now.
func (s Scope) MakeDeployment(record *appsv1.ControllerRevision, scale shift.Scale) (*appsv1.Deployment, error) {
	template, err := RecordedTemplate(record)
	if err != nil {
		return nil, err
	}
	name, from := VersionName(s.Template.Name, scale.Version), s.Template.Spec
	dep := &appsv1.Deployment{TypeMeta: deploymentType, ObjectMeta: s.meta(name)}
	dep.Labels = merge(s.Template.Labels, dep.Labels, map[string]string{v1alpha1.LabelVersion: name, v1alpha1.LabelIstioVersion: scale.Version})
	dep.Annotations = map[string]string{v1alpha1.AnnotationReplaced: replaced(template.Labels)}
	dep.Spec = appsv1.DeploymentSpec{
		Replicas: &scale.Replicas, Strategy: from.Strategy, MinReadySeconds: from.MinReadySeconds,
		ProgressDeadlineSeconds: from.ProgressDeadlineSeconds, RevisionHistoryLimit: from.RevisionHistoryLimit,
		Selector: from.Selector.DeepCopy(), Template: *template,
	}
	dep.Spec.Selector.MatchLabels = merge(from.Selector.MatchLabels, VersionLabels(s.Template.Name, scale.Version))
	dep.Spec.Template.Labels = merge(template.Labels, VersionLabels(s.Template.Name, scale.Version),
		map[string]string{v1alpha1.LabelCanonicalRevision: scale.Version})
	return dep, nil
}

// VersionLabels tell the pods of one version from every other pod: what its Deployment and its subset select on.
func VersionLabels(shift, version string) map[string]string {
	return map[string]string{v1alpha1.LabelIstioVersion: version, v1alpha1.LabelVersion: VersionName(shift, version)}
}

// ourLabels are the template labels that Sluice sets, and replaces where the user set them.
var ourLabels = []string{v1alpha1.LabelCanonicalRevision, v1alpha1.LabelIstioVersion, v1alpha1.LabelVersion}

// replaced remembers, as JSON, the user's own values of the labels that Sluice sets.
func replaced(labels map[string]string) string {
	was := map[string]string{}
	for _, key := range ourLabels {
		if v, ok := labels[key]; ok {
			was[key] = v
		}
	}
	text, _ := json.Marshal(was) // a map of strings always marshals, with its keys sorted
	return string(text)
}

// UserTemplate is a version's pod template without what Sluice added: what the user wrote, as this API server shows it today.
func UserTemplate(dep *appsv1.Deployment) *corev1.PodTemplateSpec {
	template := dep.Spec.Template.DeepCopy()
	for _, key := range ourLabels {
		delete(template.Labels, key)
	}
	delete(template.Annotations, v1alpha1.AnnotationRestartedAt)
	was := map[string]string{}
	if err := json.Unmarshal([]byte(dep.Annotations[v1alpha1.AnnotationReplaced]), &was); err == nil {
		maps.Copy(template.Labels, was)
	}
	return template
}

// SameTemplate compares two pod templates as the Deployment controller does: what they mean, not how they are written.
func SameTemplate(a, b *corev1.PodTemplateSpec) bool { return equality.Semantic.DeepEqual(a, b) }

// records makes the record of a version that has none, from the live template, and keeps what records say of how versions fared, and of
// what they run with.
func (s Scope) records(d shift.Desired) []Step {
	var steps []Step
	if d.Record != "" {
		steps = append(steps, Step{Apply, s.MakeRecord(d.Record, s.Template.Spec.Template, recorder(s.Template))})
	}
	for version, record := range s.Records {
		notes := map[string]string{}
		if verdict, ok := d.Verdicts[version]; ok {
			notes[v1alpha1.AnnotationVerdict] = verdict
		}
		if version == s.Configured {
			notes[v1alpha1.AnnotationConfig] = s.Config.recording(RecordedConfig(record))
		}
		if noted(record.Annotations, notes) {
			continue
		}
		next := record.DeepCopy()
		next.TypeMeta, next.ManagedFields = revisionType, nil
		next.Annotations = merge(record.Annotations, notes)
		steps = append(steps, Step{Apply, next})
	}
	sortSteps(steps)
	return steps
}

// noted reports whether annotations say all of the notes already.
func noted(annotations, notes map[string]string) bool {
	for key, value := range notes {
		if annotations[key] != value {
			return false
		}
	}
	return true
}

// MakeRecord keeps a template as version, with who wrote it and why.
func (s Scope) MakeRecord(version string, template corev1.PodTemplateSpec, by string) *appsv1.ControllerRevision {
	raw, _ := json.Marshal(template) // a pod template read from an API server always marshals
	record := &appsv1.ControllerRevision{TypeMeta: revisionType, ObjectMeta: s.meta(VersionName(s.Template.Name, version))}
	record.Data = runtime.RawExtension{Raw: raw}
	record.Revision = int64(shift.Number(version))
	record.Annotations = map[string]string{v1alpha1.AnnotationChangedBy: by}
	if cause := s.Template.Annotations[v1alpha1.AnnotationChangeCause]; cause != "" {
		record.Annotations[v1alpha1.AnnotationChangeCause] = cause
	}
	if s.Config != nil {
		record.Annotations[v1alpha1.AnnotationConfig] = s.Config.recording(nil)
	}
	return record
}

// RecordedTemplate reads the template back.
func RecordedTemplate(record *appsv1.ControllerRevision) (*corev1.PodTemplateSpec, error) {
	template := &corev1.PodTemplateSpec{}
	if err := json.Unmarshal(record.Data.Raw, template); err != nil {
		return nil, fmt.Errorf("ControllerRevision %s/%s: reading the recorded pod template: %w", record.Namespace, record.Name, err)
	}
	return template, nil
}

// recorder is the field manager that wrote the template last.
func recorder(dep *appsv1.Deployment) string {
	by, at := "unknown", metav1.Time{}
	for _, f := range dep.ManagedFields {
		ours := f.Manager == v1alpha1.FieldManager || strings.HasPrefix(f.Manager, v1alpha1.FieldManager+"-")
		if f.Subresource == "" && !ours && f.Time != nil && !f.Time.Before(&at) {
			by, at = f.Manager, *f.Time
		}
	}
	return by
}

// template scales the annotated Deployment and marks it.
func (s Scope) template(d shift.Desired) []Step {
	if d.Template == nil {
		return nil
	}
	return []Step{{Hold, s.hold(d.Template, d.Held)}}
}

// hold is the little of the annotated Deployment that Sluice has an opinion on; everything else stays its owner's.
func (s Scope) hold(replicas *int32, held bool) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"replicas": int64(*replicas)}}}
	u.SetAPIVersion(deploymentType.APIVersion)
	u.SetKind(deploymentType.Kind)
	u.SetNamespace(s.Template.Namespace)
	u.SetName(s.Template.Name)
	u.SetResourceVersion(s.Template.ResourceVersion)
	if held {
		u.SetAnnotations(s.marks())
	}
	return u
}

// marks are the annotations of a held template: the mark itself, and the last wish that went with its replicas. By force, Sluice takes
// spec.replicas from whoever applied it, and with it the only trace of what they had asked for.
func (s Scope) marks() map[string]string {
	marks := map[string]string{v1alpha1.AnnotationHeld: "true"}
	if wish := s.Template.Annotations[v1alpha1.AnnotationLastWish]; wish != "" {
		marks[v1alpha1.AnnotationLastWish] = wish
	}
	if s.Wish != nil {
		marks[v1alpha1.AnnotationLastWish] = strconv.Itoa(int(*s.Wish))
	}
	return marks
}

// merge returns the union; later maps win.
func merge(all ...map[string]string) map[string]string {
	sum := map[string]string{}
	for _, m := range all {
		maps.Copy(sum, m)
	}
	return sum
}

func sortSteps(steps []Step) {
	slices.SortFunc(steps, func(a, b Step) int { return cmp.Compare(a.String(), b.String()) })
}
