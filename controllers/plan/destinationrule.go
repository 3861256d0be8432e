package plan

import (
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
		return []Step{{Delete, &networkingv1.DestinationRule{TypeMeta: destinationRuleType, ObjectMeta: s.meta(s.Template.Name)}}}
	case d.Mesh && len(d.Subsets) > 0:
		return []Step{{Apply, s.MakeDestinationRule(d.Subsets)}}
	}
	return nil
}

// MakeDestinationRule makes the one rule of the host (D1), in the Service's own namespace (D2), with a subset for each version. A
// subset's labels never change (R3): subsets come and go, they are never pointed at other pods. The trafficPolicy is carried as
// written; tls stays unset unless it was given, so that automatic mutual TLS stays on (D4).
func (s Scope) MakeDestinationRule(versions []string) *networkingv1.DestinationRule {
	rule := &networkingv1.DestinationRule{TypeMeta: destinationRuleType, ObjectMeta: s.meta(s.Template.Name)}
	if s.Made {
		rule.Annotations = map[string]string{v1alpha1.AnnotationService: ServiceMade}
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
