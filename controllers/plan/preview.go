package plan

import (
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/shift"
)

// PreviewName is the name of the VirtualService for the preview's host.
func PreviewName(shift string) string { return shift + "-preview" }

// Previewed reports whether every live version has a Service of its own.
func Previewed(spec v1alpha1.TrafficShiftSpec) bool {
	return spec.Preview != nil || spec.Strategy == v1alpha1.StrategyBlueGreen
}

// Addresses reports whether versions are to have Services of their own.
func (s Scope) Addresses() bool {
	return Previewed(s.Shift.Spec) && len(RoutedPorts(s.Service)) > 0 && len(s.Service.Spec.Selector) > 0
}

// previews are the addresses of the live versions, for whoever wants to see one of them: a Service for each version that has a subset,
// and where it is asked for a host. They go with the subset, which no route names by then. They are written last: nothing that users
// need waits for them.
func (s Scope) previews(d shift.Desired) []Step {
	if !d.Mesh && !d.Unroute {
		return nil
	}
	var wanted []string
	if d.Mesh && s.Addresses() {
		wanted = d.Subsets
	}
	var steps []Step
	for _, version := range wanted {
		steps = append(steps, Step{Apply, s.MakeVersionService(version)})
	}
	switch shown := s.Entry.Preview != "" && len(HTTPPorts(s.Service)) > 0 && slices.Contains(wanted, d.Preview); {
	case shown:
		steps = append(steps, Step{Apply, s.MakePreviewVirtualService(d.Preview)})
	case s.Entry.Preview != "" && len(wanted) > 0 && d.Preview == "": // stays as it is
	case s.Shown:
		steps = append(steps, Step{Delete, &networkingv1.VirtualService{TypeMeta: virtualServiceType, ObjectMeta: s.meta(PreviewName(s.Template.Name))}})
	}
	for _, version := range s.Previews {
		if !slices.Contains(wanted, version) && (d.Unroute || !slices.Contains(d.Subsets, version) || !Previewed(s.Shift.Spec)) {
			steps = append(steps, Step{Delete, &corev1.Service{TypeMeta: serviceType, ObjectMeta: s.meta(VersionName(s.Template.Name, version))}})
		}
	}
	return steps
}

// MakePreviewVirtualService makes the one for the preview's host, bound to the gateways of the hosts that users come to. It goes to the
// version's own Service: what comes that way is told from what users ask for.
func (s Scope) MakePreviewVirtualService(version string) *networkingv1.VirtualService {
	vs := &networkingv1.VirtualService{TypeMeta: virtualServiceType, ObjectMeta: s.meta(PreviewName(s.Template.Name))}
	vs.Spec.Hosts = []string{s.Entry.Preview}
	vs.Spec.Gateways = s.gateways()
	port := s.entryPort()
	vs.Spec.Http = []*networking.HTTPRoute{{
		Name: port.Name,
		Route: []*networking.HTTPRouteDestination{{
			Destination: &networking.Destination{Host: s.VersionHost(version), Port: &networking.PortSelector{Number: uint32(port.Port)}},
			Weight:      100,
		}},
	}}
	return vs
}

// VersionHost is the full name of a version's own Service.
func (s Scope) VersionHost(version string) string {
	_, domain, _ := strings.Cut(s.Host, ".")
	return VersionName(s.Template.Name, version) + "." + domain
}
