package shim

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	sluice "github.com/sluice-dev/sluice/api/v1alpha1"
)

const lastAppliedKey = "kubectl.kubernetes.io/last-applied-configuration"

type deploymentOf = appsv1.Deployment

func deployment(mods ...func(*deploymentOf)) *deploymentOf {
	one := int32(1)
	d := &deploymentOf{}
	d.Namespace, d.Name, d.UID = "shop", "micro-api", "d-1"
	d.Annotations = map[string]string{sluice.AnnotationStrategy: "canary"}
	d.Spec.Replicas = &one
	for _, mod := range mods {
		mod(d)
	}
	return d
}

func replicas(n int32) func(*deploymentOf) {
	return func(d *deploymentOf) { d.Spec.Replicas = &n }
}

func annotation(key, value string) func(*deploymentOf) {
	return func(d *deploymentOf) { d.Annotations[key] = value }
}

func owns(manager string, op metav1.ManagedFieldsOperationType) func(*deploymentOf) {
	return func(d *deploymentOf) { d.ManagedFields = append(d.ManagedFields, replicasEntry(manager, op, "")) }
}

func replicasEntry(manager string, op metav1.ManagedFieldsOperationType, subresource string) metav1.ManagedFieldsEntry {
	return metav1.ManagedFieldsEntry{
		Manager: manager, Operation: op, Subresource: subresource, FieldsType: "FieldsV1",
		FieldsV1: metav1.NewFieldsV1(`{"f:spec":{"f:replicas":{}}}`),
	}
}

func TestWish(t *testing.T) {
	const apply, change = metav1.ManagedFieldsOperationApply, metav1.ManagedFieldsOperationUpdate
	isHeld := annotation(sluice.AnnotationHeld, "true")
	type want struct {
		N  int32
		OK bool
	}
	for name, tc := range map[string]struct {
		mods []func(*deploymentOf)
		want want
	}{
		"a default is never a wish":                     {nil, want{}},
		"nor is a number that an Update left":           {[]func(*deploymentOf){replicas(3), owns("kubectl", change)}, want{}},
		"nor is Sluice's own":                           {[]func(*deploymentOf){replicas(0), isHeld, owns("sluice", apply)}, want{}},
		"kubectl apply without replicas wishes nothing": {[]func(*deploymentOf){annotation(lastAppliedKey, `{"spec":{}}`)}, want{}},
		"kubectl apply wishes what its user wrote":      {[]func(*deploymentOf){annotation(lastAppliedKey, `{"spec":{"replicas":3}}`)}, want{3, true}},
		"also where the template is back at 0":          {[]func(*deploymentOf){replicas(0), isHeld, annotation(lastAppliedKey, `{"spec":{"replicas":3}}`)}, want{3, true}},
		"and 0 where they wrote 0":                      {[]func(*deploymentOf){replicas(0), isHeld, annotation(lastAppliedKey, `{"spec":{"replicas":0}}`)}, want{0, true}},
		"server-side apply wishes what it owns":         {[]func(*deploymentOf){replicas(4), owns("flux", apply)}, want{4, true}},
		"but not 0 on a held template":                  {[]func(*deploymentOf){replicas(0), isHeld, owns("flux", apply)}, want{}},
		"there, the number that was put aside":          {[]func(*deploymentOf){replicas(0), isHeld, owns("flux", apply), annotation(sluice.AnnotationLastWish, "4")}, want{4, true}},
		"also once Sluice took the field back":          {[]func(*deploymentOf){replicas(0), isHeld, owns("sluice", apply), annotation(sluice.AnnotationLastWish, "4")}, want{4, true}},
		"a fresh number before the one put aside":       {[]func(*deploymentOf){replicas(6), isHeld, owns("flux", apply), annotation(sluice.AnnotationLastWish, "4")}, want{6, true}},
		"nonsense put aside is no wish":                 {[]func(*deploymentOf){annotation(sluice.AnnotationLastWish, "-4")}, want{}},
		"an annotation that is no JSON is no wish":      {[]func(*deploymentOf){annotation(lastAppliedKey, `{`)}, want{}},
		"nor is what Sluice left behind when it let go": {[]func(*deploymentOf){replicas(2), owns("sluice-handed-over", apply)}, want{}},
	} {
		t.Run(name, func(t *testing.T) {
			n, ok := Wish(deployment(tc.mods...))
			if diff := cmp.Diff(tc.want, want{n, ok}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestFollow(t *testing.T) {
	isHeld := annotation(sluice.AnnotationHeld, "true")
	wishes := func(n string) func(*deploymentOf) { return annotation(lastAppliedKey, `{"spec":{"replicas":`+n+`}}`) }
	type state struct {
		Replicas int32 // -1: open
		Seen     string
	}
	shift := func(s state, known bool, phase sluice.Phase, entries ...metav1.ManagedFieldsEntry) *sluice.TrafficShift {
		out := &sluice.TrafficShift{}
		if s.Replicas >= 0 {
			out.Spec.Replicas = &s.Replicas
		}
		if known {
			out.Annotations = map[string]string{sluice.AnnotationLastWish: s.Seen}
		}
		out.Status.Phase, out.ManagedFields = phase, entries
		return out
	}
	fresh := func() *sluice.TrafficShift { return shift(state{Replicas: -1}, false, "") }
	at3 := func(phase sluice.Phase, entries ...metav1.ManagedFieldsEntry) *sluice.TrafficShift {
		return shift(state{3, "3"}, true, phase, entries...)
	}
	scale := replicasEntry("kube-controller-manager", metav1.ManagedFieldsOperationUpdate, "scale")
	edit := replicasEntry("kubectl-edit", metav1.ManagedFieldsOperationUpdate, "")

	for name, tc := range map[string]struct {
		d      *deploymentOf
		shift  *sluice.TrafficShift
		fields Fields
		want   state
	}{
		"at first, the template's number":                        {deployment(replicas(3)), fresh(), nil, state{3, ""}},
		"at first, a defaulted 1 too":                            {deployment(), fresh(), nil, state{1, ""}},
		"at first, sluice.dev/replicas before the template's":    {deployment(replicas(3), wishes("3")), fresh(), Fields{"replicas": int64(5)}, state{5, "3"}},
		"at first, a held template at 0 leaves it open":          {deployment(replicas(0), isHeld), fresh(), nil, state{-1, ""}},
		"at first, a held template at 0 with a wish":             {deployment(replicas(0), isHeld, wishes("4")), fresh(), nil, state{4, "4"}},
		"a template at 0 that nobody holds means 0":              {deployment(replicas(0)), fresh(), nil, state{0, ""}},
		"a number written before we first looked stays":          {deployment(wishes("3")), shift(state{Replicas: 7}, false, ""), nil, state{7, "3"}},
		"a new wish is followed":                                 {deployment(wishes("5")), at3(sluice.PhaseStable), nil, state{5, "5"}},
		"a first wish is new":                                    {deployment(wishes("5")), shift(state{3, ""}, true, ""), nil, state{5, "5"}},
		"an old wish is not followed again":                      {deployment(wishes("3")), shift(state{8, "3"}, true, "", edit), nil, state{8, "3"}},
		"a wish that is withdrawn changes nothing":               {deployment(), at3(sluice.PhaseStable), nil, state{3, "3"}},
		"sluice.dev/replicas later changes nothing":              {deployment(wishes("3")), at3(""), Fields{"replicas": int64(9)}, state{3, "3"}},
		"an autoscaler's number stays, and the wish is seen":     {deployment(wishes("5")), at3(sluice.PhaseStable, scale), nil, state{3, "5"}},
		"a lower wish waits for the end of a shift":              {deployment(wishes("2")), at3(sluice.PhaseProgressing), nil, state{3, "3"}},
		"and of a rollback":                                      {deployment(wishes("2")), at3(sluice.PhaseRollingBack), nil, state{3, "3"}},
		"a higher wish does not":                                 {deployment(wishes("4")), at3(sluice.PhaseProgressing), nil, state{4, "4"}},
		"a lower wish is followed at rest":                       {deployment(wishes("2")), at3(sluice.PhaseStable), nil, state{2, "2"}},
		"a held template at 0 does not wish for 0":               {deployment(replicas(0), isHeld, owns("flux", "Apply")), at3(sluice.PhaseStable), nil, state{3, "3"}},
		"an edit of the TrafficShift is overruled by a new wish": {deployment(wishes("5")), shift(state{8, "3"}, true, "", edit), nil, state{5, "5"}},
	} {
		t.Run(name, func(t *testing.T) {
			follow(tc.d, tc.shift, tc.fields)
			got := state{-1, tc.shift.Annotations[sluice.AnnotationLastWish]}
			if tc.shift.Spec.Replicas != nil {
				got.Replicas = *tc.shift.Spec.Replicas
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			again := tc.shift.DeepCopy()
			follow(tc.d, again, tc.fields)
			if diff := cmp.Diff(tc.shift.Spec, again.Spec); diff != "" {
				t.Errorf("a second look changes it (-first +second):\n%s", diff)
			}
		})
	}
}
