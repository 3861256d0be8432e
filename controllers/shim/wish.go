package shim

import (
	"encoding/json"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	sluice "github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/apply"
)

// Wish returns the number of replicas that somebody wrote on the Deployment on purpose. Three places tell, the first that
// speaks wins:
//
//   - kubectl's last-applied-configuration, where kubectl apply keeps what its user wrote;
//   - spec.replicas itself, where a manager other than Sluice owns it through server-side apply (a held template at 0 shows
//     Sluice's number, not theirs);
//   - sluice.dev/last-wish, where whoever puts a held template back to 0 leaves the number that was applied there.
//
// A default, and a number that an Update left behind, is never a wish: nobody can tell who meant it.
func Wish(d *appsv1.Deployment) (int32, bool) {
	if n, ok := lastApplied(d); ok {
		return n, true
	}
	if n := replicasOf(d); apply.AppliedByOthers(d, sluice.FieldManager, "replicas") && !(held(d) && n == 0) {
		return n, true
	}
	n, err := strconv.ParseUint(d.Annotations[sluice.AnnotationLastWish], 10, 31)
	if err != nil {
		return 0, false
	}
	return int32(n), true
}

func lastApplied(d *appsv1.Deployment) (int32, bool) {
	var applied struct {
		Spec struct {
			Replicas *int32 `json:"replicas"`
		} `json:"spec"`
	}
	raw := d.Annotations["kubectl.kubernetes.io/last-applied-configuration"]
	if json.Unmarshal([]byte(raw), &applied) != nil || applied.Spec.Replicas == nil {
		return 0, false
	}
	return *applied.Spec.Replicas, true
}

// follow sets on the TrafficShift the replicas that the Deployment calls for, and remembers the wish that it has seen.
//
// They are written as a patch of their own, once for each new wish, and never with the fields that annotations name: those are
// applied by force again and again, and would take back what an autoscaler or kubectl scale wrote a moment ago. A patch leaves
// the number to whoever writes next.
func follow(d *appsv1.Deployment, shift *sluice.TrafficShift, fields Fields) {
	wish, wished := Wish(d)
	seen, known := shift.Annotations[sluice.AnnotationLastWish]
	switch now := shift.Spec.Replicas; {
	case now == nil:
		shift.Spec.Replicas = firstReplicas(d, fields)
	case !known || !wished || seen == strconv.Itoa(int(wish)):
		// The author of the TrafficShift wrote a number before we first looked, or nobody asks for a new one.
	case wish < *now && moving(shift):
		return // asked again when the shift is over: no wish lowers capacity during one
	case !scaled(shift):
		shift.Spec.Replicas = &wish
	}
	switch {
	case wished:
		seen = strconv.Itoa(int(wish))
	case known:
		return
	}
	metav1.SetMetaDataAnnotation(&shift.ObjectMeta, sluice.AnnotationLastWish, seen)
}

// firstReplicas is what a new TrafficShift starts with. A held template at 0 says nothing: without another source the
// number stays open.
func firstReplicas(d *appsv1.Deployment, fields Fields) *int32 {
	n := replicasOf(d)
	if asked, ok := fields["replicas"].(int64); ok {
		n = int32(asked)
	} else if wish, ok := Wish(d); held(d) && n == 0 {
		if !ok {
			return nil
		}
		n = wish
	}
	return &n
}

// scaled reports whether an autoscaler or kubectl scale was the last to write the replicas.
func scaled(shift *sluice.TrafficShift) bool {
	for _, e := range shift.ManagedFields {
		if e.Subresource == "scale" && apply.SpecFields(e)["replicas"] {
			return true
		}
	}
	return false
}

func moving(shift *sluice.TrafficShift) bool {
	return shift.Status.Phase == sluice.PhaseProgressing || shift.Status.Phase == sluice.PhaseRollingBack
}

func held(d *appsv1.Deployment) bool { return d.Annotations[sluice.AnnotationHeld] == "true" }

func replicasOf(d *appsv1.Deployment) int32 {
	if d.Spec.Replicas == nil {
		return 1 // the API server's default
	}
	return *d.Spec.Replicas
}
