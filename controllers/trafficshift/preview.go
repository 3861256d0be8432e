package trafficshift

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/plan"
)

// readPreviews says which versions have an address of their own, and which have yet to get one.
func (w *world) readPreviews() {
	for _, version := range slices.Sorted(maps.Keys(w.previews)) {
		if w.ours(w.previews[version]) {
			w.scope.Previews = append(w.scope.Previews, version)
		}
	}
	wanted := w.scope.Service != nil && w.scope.Addresses()
	for i := range w.observation.Versions {
		v := &w.observation.Versions[i]
		v.Unaddressed = wanted && !slices.Contains(w.scope.Previews, v.Name)
	}
	vs, ok := w.tables[plan.PreviewName(w.shift.Name)]
	w.scope.Shown = ok && w.ours(vs)
}

// readPreviewHosts reads which versions have a host of their own.
func (r *Reconciler) readPreviewHosts(ctx context.Context, w *world) error {
	var list networkingv1.VirtualServiceList
	if err := r.Client.List(ctx, &list, client.InNamespace(w.shift.Namespace)); err != nil {
		return fmt.Errorf("listing VirtualServices: %w", err)
	}
	for _, vs := range list.Items {
		if version, ok := w.hostedIn(vs.Name); ok {
			w.tables[vs.Name] = vs
			if w.ours(vs) {
				w.scope.Hosted = append(w.scope.Hosted, version)
			}
		}
	}
	slices.Sort(w.scope.Hosted)
	for i := range w.observation.Versions {
		v := &w.observation.Versions[i]
		v.Previewed = slices.Contains(w.scope.Hosted, v.Name)
	}
	return nil
}

// hostedIn is the version whose host a VirtualService of that name is for.
func (w *world) hostedIn(name string) (string, bool) {
	of, ok := strings.CutSuffix(name, plan.PreviewName(""))
	version, named := w.versionOf(of)
	return version, ok && named
}

// hostOf is the VirtualService for a version's own host, whoever's it is.
func (w *world) hostOf(version string) (*networkingv1.VirtualService, bool) {
	vs, ok := w.tables[plan.PreviewName(plan.VersionName(w.shift.Name, version))]
	return vs, ok
}

// previewTaken are somebody else's objects that have a name which one of a version's own is to have: the Service to be seen by, or to be
// routed to, and what its host is routed by.
func (w *world) previewTaken(version string) []client.Object {
	var taken []client.Object
	if s, there := w.previews[version]; there && !w.ours(s) && (plan.Previewed(w.spec) || w.gatewayAPIRoutes()) {
		taken = append(taken, s)
	}
	if vs, there := w.hostOf(version); there && !w.ours(vs) && w.hostsEach() {
		taken = append(taken, vs)
	}
	return taken
}

// previewsTaken keep the versions in use from having an address.
func (w *world) previewsTaken() []client.Object {
	state := w.shift.Status.State
	var taken []client.Object
	for _, version := range slices.Compact([]string{state.Stable, state.Candidate}) {
		taken = append(taken, w.previewTaken(version)...)
	}
	return taken
}

// previewHost is the host that is asked for the version that is being tried, or for each, with a place for the version.
func (w *world) previewHost() []string {
	if p := w.spec.Preview; p != nil && p.Host != "" {
		return []string{p.Host}
	}
	return nil
}

// servedPreview is what gateways serve for the previews: of a Gateway that is made, the wildcard that takes the hosts of all versions.
func (w *world) servedPreview() []string {
	asked := w.previewHost()
	if len(w.spec.Gateways) > 0 || len(asked) == 0 || v1alpha1.PreviewWildcard(asked[0]) == "" {
		return asked
	}
	return []string{v1alpha1.PreviewWildcard(asked[0])}
}

// hostsEach reports whether every version is to have a host of its own.
func (w *world) hostsEach() bool {
	return w.spec.Preview != nil && v1alpha1.PreviewsEach(w.spec.Preview.Host)
}

// asksFor reports whether a host is one that clients are to ask for: one of the users', or of the previews of versions that are in use, or
// may be next.
func (w *world) asksFor(host string) bool {
	if slices.ContainsFunc(slices.Concat(w.spec.Hosts, w.previewHost()), func(h string) bool { return strings.EqualFold(h, host) }) {
		return true
	}
	version := ""
	if w.hostsEach() {
		version = v1alpha1.PreviewedAt(w.spec.Preview.Host, host)
	}
	return version != "" && slices.Contains(w.previewable(), version)
}

// previewable are the versions that are to have a host of their own now, and the one that comes next.
func (w *world) previewable() []string {
	state := w.shift.Status.State
	versions := []string{state.Stable, state.Candidate, w.observation.Template.Version, w.nextVersion()}
	for _, r := range state.Retiring {
		versions = append(versions, r.Version)
	}
	return slices.DeleteFunc(versions, func(v string) bool { return v == "" })
}

// previewAddresses are where versions can be looked at, as read back.
func (w *world) previewAddresses() []v1alpha1.PreviewAddress {
	if !plan.Previewed(w.spec) {
		return nil
	}
	var addresses []v1alpha1.PreviewAddress
	for _, version := range w.scope.Previews {
		a := v1alpha1.PreviewAddress{Version: version, Service: w.scope.VersionHost(version)}
		one, each := w.tables[plan.PreviewName(w.shift.Name)], w.tables[plan.PreviewName(plan.VersionName(w.shift.Name, version))]
		for _, vs := range []*networkingv1.VirtualService{one, each} {
			if vs != nil && w.ours(vs) && leadsTo(vs, a.Service) {
				a.Host = strings.Join(vs.Spec.GetHosts(), ",")
			}
		}
		addresses = append(addresses, a)
	}
	return addresses
}

// leadsTo reports whether a VirtualService sends requests to a host.
func leadsTo(vs *networkingv1.VirtualService, host string) bool {
	return slices.ContainsFunc(destinationsIn(vs), func(to *networking.Destination) bool { return to.GetHost() == host })
}
