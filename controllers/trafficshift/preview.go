package trafficshift

import (
	"maps"
	"slices"

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

// previewTaken reports whether somebody else's Service has the name that a version's own is to have: to be seen by, or to be routed to.
func (w *world) previewTaken(version string) bool {
	s, there := w.previews[version]
	return there && !w.ours(s) && (plan.Previewed(w.spec) || w.gatewayAPIRoutes())
}

// previewsTaken are the versions in use that cannot have an address because somebody else's Service has its name.
func (w *world) previewsTaken() []string {
	state := w.shift.Status.State
	var taken []string
	for _, version := range slices.Compact([]string{state.Stable, state.Candidate}) {
		if w.previewTaken(version) {
			taken = append(taken, plan.VersionName(w.shift.Name, version))
		}
	}
	return taken
}

// previewHost is the host that is asked for the version that is being tried.
func (w *world) previewHost() []string {
	if p := w.spec.Preview; p != nil && p.Host != "" {
		return []string{p.Host}
	}
	return nil
}
