package plan

import (
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/shift"
)

// ServiceMade is what the annotation sluice.dev/service of our DestinationRule says where Sluice made the Service that it is for.
const ServiceMade = "made"

// subsets is the DestinationRule. It is removed in the same pass as the VirtualServices when the service is handed back: those name
// no subset by then.
func (s Scope) subsets(d shift.Desired) []Step {
	switch {
	case d.Unroute:
		return []Step{{Delete, &networkingv1.DestinationRule{TypeMeta: destinationRuleType, ObjectMeta: s.meta(s.ruleName())}}}
	case d.Mesh && len(d.Subsets) > 0:
		return []Step{{Apply, s.MakeDestinationRule(d.Subsets)}}
	}
	return nil
}

// RuleBeside is the name of our DestinationRule where the user's own has the shift's.
func RuleBeside(shift string) string { return shift + "-versions" }

func (s Scope) ruleName() string {
	if s.RuleBeside {
		return RuleBeside(s.Template.Name)
	}
	return s.Template.Name
}

// Mergeable says why Istio would not merge a DestinationRule of the user's for the same host and namespace with ours, and what to do
// about it; empty where it does: then theirs keeps its trafficPolicy and its subsets, and ours adds the versions (rule D1).
func Mergeable(theirs *networkingv1.DestinationRule, policy bool) string {
	var versions []string
	for _, subset := range theirs.Spec.GetSubsets() {
		if shift.Number(subset.GetName()) > 0 {
			versions = append(versions, subset.GetName())
		}
	}
	to := theirs.Spec.GetExportTo()
	switch {
	case len(versions) > 0:
		return "its subsets " + strings.Join(versions, ", ") + " have the names of versions, and Istio would take one of the two: rename or remove them"
	case len(to) > 0 && !slices.Equal(to, []string{"*"}):
		return "its exportTo (" + strings.Join(to, ", ") + ") is not that of the routes, which is everywhere: remove it"
	case theirs.Spec.GetWorkloadSelector() != nil:
		return "it has a workloadSelector, with which Istio merges nothing: remove it"
	case policy && theirs.Spec.GetTrafficPolicy() != nil:
		return "it has a trafficPolicy and so has the TrafficShift, and Istio would take one of the two: keep one"
	}
	return ""
}

// MakeDestinationRule makes the one rule of the host (D1), in the Service's own namespace (D2), with a subset for each version. A
// subset's labels never change (R3): subsets come and go, they are never pointed at other pods. The trafficPolicy is carried as
// written; tls stays unset unless it was given, so that automatic mutual TLS stays on (D4).
func (s Scope) MakeDestinationRule(versions []string) *networkingv1.DestinationRule {
	rule := &networkingv1.DestinationRule{TypeMeta: destinationRuleType, ObjectMeta: s.meta(s.ruleName())}
	if s.Made {
		rule.Annotations = map[string]string{v1alpha1.AnnotationService: ServiceMade}
	}
	if len(s.Attached) > 0 {
		rule.Annotations = merge(rule.Annotations, map[string]string{v1alpha1.AnnotationAttached: s.record()})
	}
	rule.Spec.Host = s.Host
	if s.Policy != nil {
		rule.Spec.TrafficPolicy = s.Policy.DeepCopy()
	}
	for _, version := range versions {
		rule.Spec.Subsets = append(rule.Spec.Subsets, &networking.Subset{Name: version, Labels: VersionLabels(s.Template.Name, version)})
	}
	return rule
}
