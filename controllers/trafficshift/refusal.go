package trafficshift

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/shift"
)

// attempt is an error with the write that met it: the verb and the object.
type attempt struct {
	write string
	error
}

func (a attempt) Unwrap() error { return a.error }

// attempted names the write that met an error.
func attempted(write string, err error) error {
	if err == nil {
		return nil
	}
	return attempt{write, err}
}

func onShift(verb string, ts *v1alpha1.TrafficShift) string {
	return fmt.Sprintf("%s TrafficShift %s/%s", verb, ts.Namespace, ts.Name)
}

// refusalOf is what an error of a write means to a person. A conflict only says to look again, and means nothing.
func refusalOf(err error, now time.Time) *v1alpha1.RefusedWrite {
	if err == nil || apierrors.IsConflict(err) {
		return nil
	}
	refused := &v1alpha1.RefusedWrite{Write: "write what was decided", At: metav1.NewTime(now.Truncate(time.Second))}
	if a := (attempt{}); errors.As(err, &a) {
		refused.Write, err = clipTo(a.write, longestWrite), a.error
	}
	if said := (*apierrors.StatusError)(nil); errors.As(err, &said) {
		err = said
	}
	refused.Message = clipTo(err.Error(), longestRefusal)
	return refused
}

// What of a refusal is kept: enough to act on, and less than what the schema takes.
const longestWrite, longestRefusal = 1000, 2000

// noteRefusal tells people of a write that was refused, and takes that back when all writes work; the error goes on as it is. It is
// written after what was decided, and changes nothing of that.
func (r *Reconciler) noteRefusal(ctx context.Context, ts *v1alpha1.TrafficShift, w *world, d shift.Decision, failed error) error {
	was, is := ts.Status.RefusedWrite, refusalOf(failed, w.observation.Now)
	if apierrors.IsConflict(failed) || was == nil && is == nil || sameRefusal(was, is) {
		return failed
	}
	before := ts.DeepCopy()
	ts.Status.RefusedWrite = is
	sayWhy(&ts.Status, ts.Generation, w, d)
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	err := client.IgnoreNotFound(r.Client.Status().Patch(ctx, ts, patch, client.FieldOwner(v1alpha1.FieldManager)))
	switch {
	case failed != nil && err != nil:
		return failed // it is noted when it fails again
	case err != nil:
		return fmt.Errorf("TrafficShift %s/%s: writing its status: %w", ts.Namespace, ts.Name, err)
	}
	if is != nil && (was == nil || was.Write != is.Write) {
		r.Recorder.Eventf(ts, w.related(), corev1.EventTypeWarning, v1alpha1.ReasonWriteRefused, "Write", "%s", clip(toldOf(is)))
	}
	return failed
}

// sameRefusal reports whether a refusal is already told. One of the same write in other words is told again after a while: words with a
// time or a port in them would otherwise be written at each pass, and each write brings the next pass.
func sameRefusal(was, is *v1alpha1.RefusedWrite) bool {
	return was != nil && is != nil && was.Write == is.Write && (was.Message == is.Message || is.At.Sub(was.At.Time) < recheckDelay)
}

// stillRefused is the refusal that is shown until writing works: nothing is known of that before it is tried again. Who suspends a shift
// has it tried no more.
func (w *world) stillRefused(ts *v1alpha1.TrafficShift) *v1alpha1.RefusedWrite {
	if w.suspended() {
		return nil
	}
	return ts.Status.RefusedWrite
}

// toldOf is a refusal for people.
func toldOf(refused *v1alpha1.RefusedWrite) string {
	return fmt.Sprintf("cannot %s: %s", refused.Write, refused.Message)
}

// unwritten puts a refusal before what was decided, which is not all in place then.
func unwritten(refused *v1alpha1.RefusedWrite, decided string) string {
	switch {
	case refused == nil:
		return decided
	case decided == "":
		return toldOf(refused) + "; it is tried again, and nothing is decided before"
	}
	return toldOf(refused) + "; it is tried again, and until then this is decided and not all in place: " + decided
}

// undecided is the decision of a pass that could not come to one.
func undecided(ts *v1alpha1.TrafficShift) shift.Decision {
	return shift.Decision{Next: ts.Status.State, Reason: v1alpha1.ReasonWriteRefused}
}
