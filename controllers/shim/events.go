package shim

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	sluice "github.com/sluice-dev/sluice/api/v1alpha1"
)

// problem is something to tell the user of a Deployment about: once.
type problem struct {
	reason string
	note   string
}

func problemsOf(d *appsv1.Deployment, errs field.ErrorList) []problem {
	var out []problem
	for _, err := range errs {
		reason := sluice.ReasonInvalidAnnotation
		if err.Type == field.ErrorTypeForbidden {
			reason = sluice.ReasonUnknownAnnotation
		}
		out = append(out, problem{reason, fmt.Sprintf("Deployment %s/%s: %v", d.Namespace, d.Name, err)})
	}
	return out
}

// refused is what the API server holds against the fields together, such as gateways without hosts.
func refused(d *appsv1.Deployment, err error) []problem {
	note := err.Error()
	if status := apierrors.APIStatus(nil); errors.As(err, &status) && status.Status().Details != nil {
		var causes []string
		for _, c := range status.Status().Details.Causes {
			causes = append(causes, fmt.Sprintf("%s: %s", c.Field, c.Message))
		}
		note = strings.Join(causes, "; ")
	}
	return []problem{{sluice.ReasonInvalidAnnotation,
		fmt.Sprintf("Deployment %s/%s: the annotations under %s do not fit together: %s", d.Namespace, d.Name, sluice.Prefix, note)}}
}

func ignored(d *appsv1.Deployment) problem {
	return problem{sluice.ReasonAnnotationsIgnored, fmt.Sprintf(
		"Deployment %s/%s: annotations under %s are ignored, because a TrafficShift of that name was written by hand; "+
			"delete it, or annotate it %s=true to have both", d.Namespace, d.Name, sluice.Prefix, sluice.AnnotationExtends)}
}

// text is all that is wrong, for the annotation that the TrafficShift's own controller turns into a condition.
func text(problems []problem) string {
	notes := make([]string, len(problems))
	for i, p := range problems {
		notes[i] = p.note
	}
	return strings.Join(notes, "; ")
}

// ledger remembers what each Deployment's user was told.
type ledger struct {
	mu   sync.Mutex
	told map[types.NamespacedName][]problem
}

// swap replaces what is known of a Deployment's problems and returns those that were not known before. Told is what an earlier
// process wrote down where it could.
func (l *ledger) swap(key types.NamespacedName, problems []problem, told string) []problem {
	l.mu.Lock()
	defer l.mu.Unlock()
	var news []problem
	for _, p := range problems {
		if !slices.Contains(l.told[key], p) && !strings.Contains(told, p.note) {
			news = append(news, p)
		}
	}
	if l.told == nil {
		l.told = map[types.NamespacedName][]problem{}
	}
	l.told[key] = problems
	if len(problems) == 0 {
		delete(l.told, key)
	}
	return news
}

// tell emits one Warning for each problem that is new.
func (r *Reconciler) tell(d *appsv1.Deployment, shift *sluice.TrafficShift, problems []problem) {
	key := types.NamespacedName{Namespace: d.Namespace, Name: d.Name}
	told := ""
	if shift != nil {
		told = shift.Annotations[sluice.AnnotationInvalid]
	}
	for _, p := range r.told.swap(key, problems, told) {
		const most = 1000 // the API server refuses notes above 1024 bytes
		note := p.note
		if len(note) > most {
			note = strings.ToValidUTF8(note[:most], "") + "..."
		}
		r.Recorder.Eventf(d, nil, corev1.EventTypeWarning, p.reason, "Translate", "%s", note)
	}
}
