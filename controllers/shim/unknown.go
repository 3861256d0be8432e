package shim

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	sluice "github.com/sluice-dev/sluice/api/v1alpha1"
)

// written are the keys that Sluice itself writes on Deployments.
var written = []string{
	sluice.AnnotationHeld, sluice.AnnotationLastWish, sluice.AnnotationReplaced, sluice.AnnotationVerdict, sluice.AnnotationChangedBy,
}

// elsewhere are keys that mean something, but on another object.
var elsewhere = map[string]string{
	sluice.AnnotationAllowedHosts:      "an administrator writes it on the Namespace",
	sluice.AnnotationAllowedGateways:   "an administrator writes it on the Namespace",
	sluice.AnnotationAllowedNamespaces: "its owner writes it on the VirtualService",
	sluice.AnnotationAbort:             "write it on the TrafficShift",
	sluice.AnnotationRetry:             "write it on the TrafficShift",
	sluice.AnnotationApprove:           "write it on the TrafficShift",
	sluice.AnnotationPromote:           "write it on the TrafficShift",
	sluice.AnnotationUndo:              "write it on the TrafficShift",
	sluice.AnnotationRestart:           "write it on the TrafficShift",
	sluice.AnnotationDetach:            "write it on the TrafficShift",
	sluice.AnnotationForce:             "write it on the TrafficShift",
	sluice.AnnotationExtends:           "write it on the TrafficShift",
}

// later are keys of the design that this release does not have.
var later = []string{
	sluice.Prefix + "mirror", sluice.Prefix + "on-deadline",
}

// unknownKeys reports each key under our prefix that a Deployment has no use for.
func unknownKeys(in map[string]string) field.ErrorList {
	var errs field.ErrorList
	for _, key := range sortedKeys(in) {
		if !strings.HasPrefix(key, sluice.Prefix) || slices.Contains(written, key) || slices.Contains(accepted(), key) {
			continue
		}
		errs = append(errs, field.Forbidden(annotations.Key(key), fmt.Sprintf("with value %q: %s", clip(in[key]), whyUnknown(key))))
	}
	return errs
}

func whyUnknown(key string) string {
	if where, ok := elsewhere[key]; ok {
		return "it does nothing on a Deployment: " + where
	}
	all := "accepted: " + sluice.Prefix + "{" + strings.ReplaceAll(strings.Join(accepted(), ","), sluice.Prefix, "") + "}"
	if slices.Contains(later, key) {
		return "not in this release; " + all
	}
	if near, ok := nearest(key, accepted()); ok {
		return fmt.Sprintf("no such key; did you mean %s?", near)
	}
	return "no such key; " + all
}

// accepted returns the keys of the table, in its order, and the one for everything else.
func accepted() []string {
	keys := make([]string, 0, len(table)+1)
	for _, e := range table {
		keys = append(keys, e.key)
	}
	return append(keys, sluice.AnnotationSpec)
}

// nearest returns the candidate that a slip of the fingers turns into key: at most two edits away, or a third of its length.
func nearest(key string, candidates []string) (string, bool) {
	key = strings.TrimPrefix(key, sluice.Prefix)
	best, least := "", max(2, len(key)/3)+1
	for _, c := range candidates {
		if d := distance(key, strings.TrimPrefix(c, sluice.Prefix)); d < least {
			best, least = c, d
		}
	}
	return best, best != ""
}

// distance is the least number of bytes to insert, delete or replace to turn a into b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
