package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/cmd/internal/view"
)

// kinds may stand before a name, as kubectl writes it.
var kinds = []string{"tshift/", "trafficshift/", "trafficshifts/", "trafficshift.sluice.dev/", "deployment/", "deploy/", "deployment.apps/"}

// keyOf is what a name on the command line means.
func keyOf(namespace, name string) client.ObjectKey {
	for _, kind := range kinds {
		name = strings.TrimPrefix(name, kind)
	}
	return client.ObjectKey{Namespace: namespace, Name: name}
}

// explained is an error of the API server's with what to do about it.
func explained(err error) error {
	missing := apierrors.IsNotFound(err) && !strings.Contains(err.Error(), "trafficshifts.sluice.dev \"")
	if meta.IsNoMatchError(err) || missing {
		return fmt.Errorf("this cluster knows no TrafficShifts (%s), because Sluice is not installed in it: "+
			"helm install sluice manifests/chart/sluice --namespace sluice-system --create-namespace installs it", v1alpha1.GroupVersion)
	}
	return err
}

// read gets one TrafficShift. The error of a name that is unknown says which there are.
func read(ctx context.Context, c client.Client, key client.ObjectKey) (*v1alpha1.TrafficShift, error) {
	ts := &v1alpha1.TrafficShift{}
	err := c.Get(ctx, key, ts)
	switch explains := explained(err); {
	case err == nil:
		return ts, nil
	case !apierrors.IsNotFound(explains):
		return nil, explains
	}
	return nil, unknown(ctx, c, key)
}

// unknown says which names there are.
func unknown(ctx context.Context, c client.Client, key client.ObjectKey) error {
	var list v1alpha1.TrafficShiftList
	if err := c.List(ctx, &list, client.InNamespace(key.Namespace)); err != nil {
		return explained(err)
	}
	if len(list.Items) == 0 {
		return fmt.Errorf("there is no TrafficShift %q in namespace %q, nor any other: kubectl annotate deployment/%s %s=canary makes one of a Deployment",
			key.Name, key.Namespace, key.Name, v1alpha1.AnnotationStrategy)
	}
	names := make([]string, 0, len(list.Items))
	for _, ts := range list.Items {
		names = append(names, ts.Name)
	}
	slices.Sort(names)
	const most = 20
	more := ""
	if n := len(names) - most; n > 0 {
		names, more = names[:most], fmt.Sprintf(" and %d more", n)
	}
	return fmt.Errorf("there is no TrafficShift %q in namespace %q; there are %s%s", key.Name, key.Namespace, strings.Join(names, ", "), more)
}

// around reads what belongs to a shift. What may not be read, or is not there, is not shown: the TrafficShift alone says enough.
func around(ctx context.Context, c client.Client, ts *v1alpha1.TrafficShift) view.World {
	w := view.World{Shift: *ts}
	template := &appsv1.Deployment{}
	if err := c.Get(ctx, client.ObjectKeyFromObject(ts), template); err == nil {
		w.TemplateGeneration = template.Generation
	}
	made := []client.ListOption{client.InNamespace(ts.Namespace), client.MatchingLabels{v1alpha1.LabelShift: ts.Name}}
	var deployments appsv1.DeploymentList
	if err := c.List(ctx, &deployments, made...); err == nil {
		for _, d := range deployments.Items {
			p := view.Pods{Version: strings.TrimPrefix(d.Name, ts.Name+"-"), Images: imagesOf(d.Spec.Template.Spec), Ready: d.Status.ReadyReplicas, Wanted: 1}
			if d.Spec.Replicas != nil {
				p.Wanted = *d.Spec.Replicas
			}
			w.Pods = append(w.Pods, p)
		}
	}
	var records appsv1.ControllerRevisionList
	if err := c.List(ctx, &records, made...); err == nil {
		for _, r := range records.Items {
			w.Records = append(w.Records, recordOf(ts.Name, r))
		}
	}
	return w
}

func recordOf(shift string, r appsv1.ControllerRevision) view.Record {
	var template corev1.PodTemplateSpec
	_ = json.Unmarshal(r.Data.Raw, &template) // of one that cannot be read there are no images to show
	a := r.Annotations
	return view.Record{
		Version: strings.TrimPrefix(r.Name, shift+"-"), By: a[v1alpha1.AnnotationChangedBy], Cause: a[v1alpha1.AnnotationChangeCause],
		Verdict: a[v1alpha1.AnnotationVerdict], Images: imagesOf(template.Spec), At: r.CreationTimestamp.Time,
	}
}

func imagesOf(pod corev1.PodSpec) []string {
	images := make([]string, 0, len(pod.Containers))
	for _, c := range pod.Containers {
		images = append(images, c.Image)
	}
	return images
}

// again is how soon the API server is asked again after it has dropped a watch, or has not answered.
const again = time.Second

// watchLimit is how long a watch lasts, in seconds, before all is read anew: a connection that died unnoticed costs no more than that.
const watchLimit = 60

// following is a look at some TrafficShifts: as they are, and whenever they change.
type following struct {
	client  client.WithWatch
	options []client.ListOption
	// see is told all of them, by name; it says when it is enough.
	see func([]v1alpha1.TrafficShift) (done bool, err error)
	// every, where it is set, has them seen again without a change.
	every time.Duration

	answered bool
}

// one follows a single TrafficShift. see gets nil while it is not there.
func one(c client.WithWatch, key client.ObjectKey, see func(*v1alpha1.TrafficShift) (bool, error)) *following {
	return &following{
		client: c, options: []client.ListOption{client.InNamespace(key.Namespace), client.MatchingFields{"metadata.name": key.Name}},
		see: func(all []v1alpha1.TrafficShift) (bool, error) {
			for i := range all {
				if all[i].Name == key.Name {
					return see(&all[i])
				}
			}
			return see(nil)
		},
	}
}

// run looks until it is enough. An API server that has answered once and then drops the watch, or does not answer for a while, is asked
// again until the context ends.
func (f *following) run(ctx context.Context) error {
	for {
		if done, err := f.look(ctx); done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(again):
		}
	}
}

// look reads all, and follows their changes for as long as the watch lasts.
func (f *following) look(ctx context.Context) (done bool, err error) {
	var list v1alpha1.TrafficShiftList
	if err := f.client.List(ctx, &list, f.options...); err != nil {
		switch {
		case ctx.Err() != nil:
			return false, ctx.Err()
		case f.answered:
			return false, nil
		}
		return false, explained(err)
	}
	f.answered = true
	if done, err := f.see(list.Items); done || err != nil {
		return done, err
	}
	limit := int64(watchLimit)
	options := append(slices.Clone(f.options), &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: list.ResourceVersion, TimeoutSeconds: &limit}})
	w, err := f.client.Watch(ctx, &v1alpha1.TrafficShiftList{}, options...)
	if err != nil {
		return false, nil // read again: who may not watch still sees
	}
	defer w.Stop()
	return f.follow(ctx, w, list.Items)
}

func (f *following) follow(ctx context.Context, w watch.Interface, all []v1alpha1.TrafficShift) (done bool, err error) {
	var ticks <-chan time.Time
	if f.every > 0 {
		ticker := time.NewTicker(f.every)
		defer ticker.Stop()
		ticks = ticker.C
	}
	for {
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-ticks:
		case event, open := <-w.ResultChan():
			if !open || event.Type == watch.Error {
				return false, nil
			}
			ts, ok := event.Object.(*v1alpha1.TrafficShift)
			if !ok {
				continue
			}
			all = changed(all, event.Type, ts)
		}
		if done, err := f.see(all); done || err != nil {
			return done, err
		}
	}
}

// changed is what there is after an event.
func changed(all []v1alpha1.TrafficShift, event watch.EventType, ts *v1alpha1.TrafficShift) []v1alpha1.TrafficShift {
	i := slices.IndexFunc(all, func(o v1alpha1.TrafficShift) bool { return o.Name == ts.Name && o.Namespace == ts.Namespace })
	switch {
	case event == watch.Deleted && i >= 0:
		return slices.Delete(all, i, i+1)
	case event == watch.Added || event == watch.Modified:
		if i < 0 {
			return append(all, *ts)
		}
		all[i] = *ts
	}
	return all
}
