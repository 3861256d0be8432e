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
// and where it is asked for a host. They go with the subset, which no route names by then. A candidate is shown, and a version
// leaves, when they were read back; nothing else waits for them.
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
	steps = append(steps, s.previewHosts(d, wanted)...)
	for _, version := range s.Previews {
		leads := d.Mesh && slices.Contains(s.Hosted, version) // a host, as read back: it goes first
		if !slices.Contains(wanted, version) && (d.Unroute || !slices.Contains(d.Subsets, version) || !Previewed(s.Shift.Spec)) && !leads {
			steps = append(steps, Step{Delete, &corev1.Service{TypeMeta: serviceType, ObjectMeta: s.meta(VersionName(s.Template.Name, version))}})
		}
	}
	return steps
}

// previewHosts are the VirtualServices for the hosts of previews: one that follows the candidate, or one for each version.
func (s Scope) previewHosts(d shift.Desired, addressed []string) []Step {
	asked := s.Entry.Preview != "" && slices.Contains([]Told{ByHost, BySNI}, s.Told())
	each, one := asked && s.hostsEach(), s.Entry.Preview != "" && !s.hostsEach()
	var steps []Step
	switch {
	case asked && one && slices.Contains(addressed, d.Preview):
		steps = append(steps, Step{Apply, s.MakePreviewVirtualService(d.Preview)})
	case one && len(addressed) > 0 && d.Preview == "": // stays as it is
	case s.Shown:
		steps = append(steps, s.deletePreview(s.Template.Name))
	}
	var hosted []string
	for _, version := range d.Previews {
		if each && slices.Contains(addressed, version) {
			hosted = append(hosted, version)
			steps = append(steps, Step{Apply, s.MakePreviewVirtualService(version)})
		}
	}
	for _, version := range s.Hosted {
		if !slices.Contains(hosted, version) {
			steps = append(steps, s.deletePreview(VersionName(s.Template.Name, version)))
		}
	}
	return steps
}

// hostsEach reports whether every version has a host of its own.
func (s Scope) hostsEach() bool { return v1alpha1.PreviewsEach(s.Entry.Preview) }

func (s Scope) deletePreview(of string) Step {
	return Step{Delete, &networkingv1.VirtualService{TypeMeta: virtualServiceType, ObjectMeta: s.meta(PreviewName(of))}}
}

// MakePreviewVirtualService makes the one for the preview's host, bound to the gateways of the hosts that users come to. It goes to the
// version's own Service: what comes that way is told from what users ask for. Where every version has a host, each is an object of its
// own, so that one comes and goes without another, and says what it was made from.
func (s Scope) MakePreviewVirtualService(version string) *networkingv1.VirtualService {
	vs := &networkingv1.VirtualService{TypeMeta: virtualServiceType, ObjectMeta: s.meta(PreviewName(s.Template.Name))}
	if s.hostsEach() {
		vs.Name = PreviewName(VersionName(s.Template.Name, version))
		vs.Annotations = map[string]string{v1alpha1.AnnotationPreview: s.Entry.Preview}
	}
	vs.Spec.Hosts = []string{v1alpha1.PreviewHost(s.Entry.Preview, version)}
	vs.Spec.Gateways = s.gateways()
	port := s.entryPort()
	to := &networking.Destination{Host: s.VersionHost(version), Port: &networking.PortSelector{Number: uint32(port.Port)}}
	if s.Told() == BySNI {
		vs.Spec.Tls = bySNI(vs.Spec.Hosts, []*networking.RouteDestination{{Destination: to, Weight: 100}})
		return vs
	}
	vs.Spec.Http = []*networking.HTTPRoute{{Name: port.Name, Route: []*networking.HTTPRouteDestination{{Destination: to, Weight: 100}}}}
	return vs
}

// GatewayPreviews are the hosts that a Gateway of ours takes for versions: a wildcard where the version is a whole label, because then
// nothing changes with a release, or else the hosts that there are and those that are about to be.
func (s Scope) GatewayPreviews(d shift.Desired) []string {
	if !s.hostsEach() {
		return nil
	}
	if wildcard := v1alpha1.PreviewWildcard(s.Entry.Preview); wildcard != "" {
		return slices.DeleteFunc([]string{wildcard}, func(h string) bool { return slices.Contains(s.Entry.Hosts, h) })
	}
	var hosts []string
	for _, version := range slices.Concat(s.Hosted, d.Previews) {
		hosts = append(hosts, v1alpha1.PreviewHost(s.Entry.Preview, version))
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}

// VersionHost is the full name of a version's own Service.
func (s Scope) VersionHost(version string) string {
	_, domain, _ := strings.Cut(s.Host, ".")
	return VersionName(s.Template.Name, version) + "." + domain
}
