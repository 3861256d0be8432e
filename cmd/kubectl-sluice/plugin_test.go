package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

const name = "micro-api"

// api is an API server with these objects.
func api(objects ...client.Object) client.WithWatch {
	return fake.NewClientBuilder().WithScheme(scheme()).WithObjects(objects...).WithStatusSubresource(&v1alpha1.TrafficShift{}).
		WithIndex(&v1alpha1.TrafficShift{}, "metadata.name", func(o client.Object) []string { return []string{o.GetName()} }).Build()
}

// deployment is the annotated one, at a generation.
func deployment(generation int64) *appsv1.Deployment {
	return &appsv1.Deployment{
		TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: name, UID: "the-deployment", Generation: generation, Annotations: map[string]string{v1alpha1.AnnotationStrategy: "canary"},
		},
	}
}

// shift is one whose status speaks of generation 1 of the Deployment.
func shift(change ...func(*v1alpha1.TrafficShift)) *v1alpha1.TrafficShift {
	ts := &v1alpha1.TrafficShift{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, Generation: 1}}
	ts.Status.ObservedGeneration, ts.Status.ObservedTemplateGeneration = 1, 1
	ts.Status.State.TemplateUID = "the-deployment"
	resting("v1")(ts)
	for _, c := range change {
		c(ts)
	}
	return ts
}

func at(generation int64) func(*v1alpha1.TrafficShift) {
	return func(ts *v1alpha1.TrafficShift) { ts.Status.ObservedTemplateGeneration = generation }
}

// stands sets the conditions that say where a shift stands.
func stands(ts *v1alpha1.TrafficShift, phase v1alpha1.Phase, reason, message string) {
	ts.Status.Phase, ts.Status.State.Phase, ts.Status.Message = phase, phase, message
	set := func(kind string, on bool) {
		value := metav1.ConditionFalse
		if on {
			value = metav1.ConditionTrue
		}
		meta.SetStatusCondition(&ts.Status.Conditions, metav1.Condition{Type: kind, Status: value, Reason: reason, Message: message})
	}
	set(v1alpha1.ConditionProgressing, phase == v1alpha1.PhaseProgressing)
	set(v1alpha1.ConditionReady, phase == v1alpha1.PhaseStable)
	set(v1alpha1.ConditionStalled, phase == v1alpha1.PhaseFailed)
}

func resting(version string) func(*v1alpha1.TrafficShift) {
	return func(ts *v1alpha1.TrafficShift) {
		ts.Status.Stable, ts.Status.Candidate, ts.Status.State.Weight = version, "", 0
		stands(ts, v1alpha1.PhaseStable, v1alpha1.ReasonStable, version+" has all the traffic")
	}
}

func releasing(version string, weight v1alpha1.Permille, reason string) func(*v1alpha1.TrafficShift) {
	return func(ts *v1alpha1.TrafficShift) {
		ts.Status.Candidate, ts.Status.State.Weight, ts.Status.Weight = version, weight, weight.String()
		stands(ts, v1alpha1.PhaseProgressing, reason, version+" at "+weight.String())
	}
}

// ending puts the end of a release into the history.
func ending(version, reason string) func(*v1alpha1.TrafficShift) {
	return func(ts *v1alpha1.TrafficShift) {
		ts.Status.Candidate = ""
		ts.Status.History = append([]v1alpha1.Outcome{{Version: version, Reason: reason, Message: "the numbers"}}, ts.Status.History...)
	}
}

func refused(version string) func(*v1alpha1.TrafficShift) {
	return func(ts *v1alpha1.TrafficShift) {
		ending(version, v1alpha1.ReasonErrorRate)(ts)
		ts.Status.Rejected = version
		stands(ts, v1alpha1.PhaseFailed, v1alpha1.ReasonRejected, version+" was refused")
	}
}

func all(changes ...func(*v1alpha1.TrafficShift)) func(*v1alpha1.TrafficShift) {
	return func(ts *v1alpha1.TrafficShift) {
		for _, c := range changes {
			c(ts)
		}
	}
}

// person types a command, and reads what comes back.
type person struct {
	typed              string // on the terminal, where there is one
	terminal, asksBack bool
}

// does runs the plugin against an API server.
func (who person) does(t *testing.T, c client.WithWatch, args ...string) (code int, out, failure string) {
	t.Helper()
	return who.doesUntil(t, t.Context(), c, args...)
}

func (who person) doesUntil(t *testing.T, ctx context.Context, c client.WithWatch, args ...string) (code int, out, failure string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	p := newPlugin(genericiooptions.IOStreams{In: strings.NewReader(who.typed), Out: &stdout, ErrOut: &stderr})
	p.terminal, p.colour, p.asksBack = who.terminal, who.terminal, who.asksBack
	p.connect = func() (client.WithWatch, string, error) {
		if n := *p.flags.Namespace; n != "" {
			return c, n, nil
		}
		return c, "shop", nil
	}
	cmd := p.command()
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)
	if err != nil {
		stderr.WriteString(told(err))
	}
	return exitCode(err), stdout.String(), stderr.String()
}

// lives changes the shift as the controller would, one change a second.
func lives(t *testing.T, c client.WithWatch, changes ...func(*v1alpha1.TrafficShift)) {
	t.Helper()
	go func() {
		for _, change := range changes {
			time.Sleep(time.Second)
			update(t, c, change)
		}
	}()
}

func update(t *testing.T, c client.WithWatch, change func(*v1alpha1.TrafficShift)) {
	ts := &v1alpha1.TrafficShift{}
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: "shop", Name: name}, ts); err != nil {
		t.Errorf("the controller reads: %v", err)
		return
	}
	change(ts)
	if err := c.Status().Update(t.Context(), ts); err != nil {
		t.Errorf("the controller writes: %v", err)
	}
}

// answers is a controller that answers whatever stands on the shift, and takes it away but for a pause.
func answers(t *testing.T, c client.WithWatch, result v1alpha1.Result) {
	t.Helper()
	go func() {
		for range 20 {
			time.Sleep(time.Second)
			ts := &v1alpha1.TrafficShift{}
			if err := c.Get(t.Context(), client.ObjectKey{Namespace: "shop", Name: name}, ts); err != nil {
				return // the test is over
			}
			for _, v := range verbs {
				value, ok := ts.Annotations[v.key]
				pauses := v.key == v1alpha1.AnnotationPaused
				if !ok || pauses && (value == "true") != (v.action == v1alpha1.ActionPause) || !pauses && v.action == v1alpha1.ActionPause {
					continue
				}
				update(t, c, func(ts *v1alpha1.TrafficShift) {
					ts.Status.Actions = append([]v1alpha1.ActionRecord{
						{Action: v.action, Value: value, By: fieldManager, Result: result, At: metav1.NewTime(time.Now().Truncate(time.Second)), Message: "as the controller says"},
					}, ts.Status.Actions...)
				})
				return
			}
		}
	}()
}

// written is one write of the plugin's.
type written struct {
	Annotations map[string]*string
	Manager     string
	DryRun      bool
}

// recording keeps what is patched, and fails the test where that is more than annotations.
func recording(t *testing.T, c client.WithWatch, writes *[]written) client.WithWatch {
	t.Helper()
	return interceptor.NewClient(c, interceptor.Funcs{
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, patch client.Patch, options ...client.PatchOption) error {
			raw, err := patch.Data(o)
			if err != nil {
				return err
			}
			var body struct {
				Metadata struct{ Annotations map[string]*string }
			}
			decoder := json.NewDecoder(bytes.NewReader(raw))
			decoder.DisallowUnknownFields()
			if err := decoder.Decode(&body); err != nil || patch.Type() != types.MergePatchType {
				t.Errorf("it writes %s as %s; want annotations alone (%v)", raw, patch.Type(), err)
			}
			po := (&client.PatchOptions{}).ApplyOptions(options)
			*writes = append(*writes, written{body.Metadata.Annotations, po.FieldManager, len(po.DryRun) > 0})
			return c.Patch(ctx, o, patch, options...)
		},
	})
}

// shaky is an API server that drops every watch, and for some readings after the first is not there.
func shaky(c client.WithWatch, away int) client.WithWatch {
	lists := 0
	return interceptor.NewClient(c, interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, options ...client.ListOption) error {
			if lists++; lists > 1 && lists <= 1+away {
				return errors.New("connection refused")
			}
			return c.List(ctx, list, options...)
		},
		Watch: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) (watch.Interface, error) {
			w := watch.NewFake()
			w.Stop()
			return w, nil
		},
	})
}

// without is an API server that was never told of TrafficShifts.
func without() client.WithWatch {
	missing := &meta.NoKindMatchError{GroupKind: v1alpha1.GroupVersion.WithKind("TrafficShift").GroupKind(), SearchedVersions: []string{"v1alpha1"}}
	return interceptor.NewClient(api(deployment(1)), interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
			if _, ok := o.(*v1alpha1.TrafficShift); ok {
				return missing
			}
			return c.Get(ctx, key, o, options...)
		},
		List: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error { return missing },
	})
}

// versionOf is what there is of a version: its Deployment and its record.
func versionOf(version, image, by, verdict string, pods int32) []client.Object {
	m := metav1.ObjectMeta{Namespace: "shop", Name: name + "-" + version, Labels: map[string]string{v1alpha1.LabelShift: name}}
	template := corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: image}}}}
	raw, _ := json.Marshal(template)
	recorded := m
	recorded.Annotations = map[string]string{v1alpha1.AnnotationChangedBy: by, v1alpha1.AnnotationVerdict: verdict}
	return []client.Object{
		&appsv1.Deployment{ObjectMeta: m, Spec: appsv1.DeploymentSpec{Replicas: &pods, Template: template}, Status: appsv1.DeploymentStatus{ReadyReplicas: pods}},
		&appsv1.ControllerRevision{ObjectMeta: recorded, Data: runtime.RawExtension{Raw: raw}},
	}
}

// bubble runs a test in a time of its own.
func bubble(t *testing.T, name string, test func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
}
