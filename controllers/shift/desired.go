package shift

import (
	"slices"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// desired is the world that the next state asks for. It is a function of the state and of what was read back, and of nothing that
// was decided in passing: the same state asks for the same world after a crash.
func (p *pass) desired() Desired {
	if p.next.Phase == v1alpha1.PhaseDetaching {
		return p.desiredDetaching()
	}
	d := Desired{Scales: p.scales(), Verdicts: p.fared(), Autoscaler: p.next.Phase != v1alpha1.PhaseAdopting}
	d.Still = d.Autoscaler || p.next.Stage == v1alpha1.StageHolding || p.obs.Template.Held
	if v := p.unrecorded(); v != "" {
		d.Record = v
	}
	d.Mesh = p.meshed()
	if d.Mesh {
		d.Subsets = p.subsets()
		d.Routes = p.routes()
		d.Preview, d.Previews = p.preview(), p.previews(d.Subsets)
		if len(d.Routes) > 0 {
			d.Match, d.Mirror, d.Sessions = p.match(), p.mirror(), p.sessions()
		}
	}
	if p.next.Phase == v1alpha1.PhaseStable || p.next.Phase == v1alpha1.PhaseFailed {
		d.Prune = p.prunable()
	}
	d.Undo, d.Restart = p.undoing(), p.restarting()
	if p.holds() {
		zero := int32(0)
		d.Template, d.Held = &zero, true
	}
	return d
}

// fared is what the records should say: it is how a place is found again where the status was lost.
func (p *pass) fared() map[string]string {
	fared := map[string]string{}
	if p.next.Phase != v1alpha1.PhaseAdopting {
		fared[p.next.Stable] = v1alpha1.ReasonPromoted
	}
	if r, f := p.next.Rejected, p.next.Failure; r != "" && f != nil {
		fared[r] = f.Reason
	}
	return fared
}

// prunable are the oldest versions beyond the history limit. What is in use is kept, and so is the version that today's template
// equals: without its record it would look new, and be released again.
func (p *pass) prunable() []string {
	var old []string
	for _, v := range p.obs.Versions {
		used := v.Name == p.next.Stable || v.Name == p.next.Candidate || v.Name == p.next.Rejected || v.Name == p.obs.Template.Version || v.Name == p.undoing() || p.isRetiring(v.Name)
		if !used && v.Replicas == 0 {
			old = append(old, v.Name)
		}
	}
	return old[:max(0, len(old)-p.obs.Template.HistoryLimit)]
}

// unrecorded is the version that was named from the live template and has no record yet. Only a version that has just been named
// is: a record that somebody deleted later is not made again, because the template may be another version's by then.
func (p *pass) unrecorded() string {
	version := ""
	switch p.next.Stage {
	case v1alpha1.StageStarting:
		version = p.next.Stable
	case v1alpha1.StagePreparing:
		version = p.next.Candidate
	}
	if p.obs.version(version).Recorded {
		return ""
	}
	return version
}

// meshed reports whether the service has objects in the mesh yet: not before the first version can answer.
func (p *pass) meshed() bool {
	return p.next.Phase != v1alpha1.PhaseAdopting || p.next.Stage == v1alpha1.StagePinning || p.next.Stage == v1alpha1.StageHolding
}

// holds reports whether the Deployment is a template now. Where something keeps scaling it up, Sluice has stopped fighting.
func (p *pass) holds() bool {
	if p.next.Phase == v1alpha1.PhaseAdopting {
		return p.next.Stage == v1alpha1.StageHolding && !Contested(p.next)
	}
	return !Contested(p.next)
}

// scales sizes every version that is alive. A version on its way out keeps what it has until it has left the mesh. How many pods the
// others have: capacity.go.
func (p *pass) scales() []Scale {
	var scales []Scale
	add := func(version string, want int32) {
		if version != "" {
			scales = append(scales, Scale{version, want})
		}
	}
	add(p.next.Stable, p.stableSize())
	if c := p.next.Candidate; c != "" {
		add(c, p.candidateSize())
	}
	for _, r := range p.next.Retiring {
		want := p.obs.version(r.Version).Replicas
		if p.settled(r.UnsubsetSince) && r.KeptSince == nil {
			want = 0
		}
		if p.obs.version(r.Version).Exists {
			add(r.Version, want)
		}
	}
	return scales
}

// subsets are the versions that the DestinationRule names: a candidate once its pods are there and before its first weight, a
// version on its way out until the routes without it have settled (rule R1), or for as long as it is kept.
func (p *pass) subsets() []string {
	subsets := []string{p.next.Stable}
	if c := p.next.Candidate; c != "" && p.exposed() {
		subsets = append(subsets, c)
	}
	for _, r := range p.next.Retiring {
		if p.subsetted(r.Version) && (r.KeptSince != nil || !p.settled(r.UnroutedSince)) {
			subsets = append(subsets, r.Version)
		}
	}
	slices.SortFunc(subsets, func(a, b string) int { return int(Number(a) - Number(b)) })
	return subsets
}

// exposed reports whether the candidate has, or may have, a subset.
func (p *pass) exposed() bool {
	switch p.next.Stage {
	case v1alpha1.StageExposing, v1alpha1.StageStepping, v1alpha1.StageBaking:
		return true
	}
	return p.next.Phase == v1alpha1.PhaseRollingBack && p.subsetted(p.next.Candidate)
}

// subsetted reports whether the DestinationRule names a version, as read back.
func (p *pass) subsetted(version string) bool { return slices.Contains(p.obs.Subsets, version) }

// routes are the destinations of every VirtualService. Stable always stands in them. A version stays listed at weight 0 until it
// has drained; at rest the one destination left carries the whole, because Istio gives it the whole whatever its weight says
// (rule W2).
func (p *pass) routes() []Route {
	if p.next.Phase == v1alpha1.PhaseAdopting && !p.settled(p.next.SubsetSince) && p.next.RoutedSince == nil {
		return nil
	}
	if (p.matched() != "" || p.mirrored() != Copies{}) && !p.subsetted(p.next.Candidate) {
		return nil // as below
	}
	routes := []Route{{p.next.Stable, v1alpha1.Whole - p.next.Weight}}
	if c := p.next.Candidate; c != "" {
		if _, _, listed, _ := p.obs.weights(c); p.next.Weight > 0 || listed && (p.exposed() || p.next.Phase == v1alpha1.PhaseProgressing) {
			routes = append(routes, Route{c, p.next.Weight})
		}
	}
	for _, r := range p.next.Retiring {
		if _, _, listed, _ := p.obs.weights(r.Version); listed && p.subsetted(r.Version) && !p.drained(r) {
			routes = append(routes, Route{r.Version, 0})
		}
	}
	slices.SortFunc(routes, func(a, b Route) int { return int(Number(a.Version) - Number(b.Version)) })
	if slices.ContainsFunc(routes, func(r Route) bool { return !p.subsetted(r.Version) }) {
		return nil // a subset is missing, whoever removed it: it is written first, and the routes follow when it was read back
	}
	return routes
}

func (p *pass) undoing() string {
	if u := p.next.Undo; u != nil {
		return u.Version
	}
	return ""
}

func (p *pass) restarting() *Restart {
	if r := p.next.Restart; r != nil {
		return &Restart{r.Version, r.At}
	}
	return nil
}

// unrouted reports whether a version is on its way out and needs its subset no more.
func (p *pass) unrouted(version string) bool {
	r := p.retiring(version)
	_, _, listed, _ := p.obs.weights(version)
	return r != nil && p.settled(r.UnroutedSince) && !listed
}

func (p *pass) desiredDetaching() Desired {
	d := Desired{Held: p.obs.Template.Held, Still: p.pinned()}
	if p.next.Stage == v1alpha1.StageReturning {
		d.Undo = p.undoing()
	}
	for _, v := range p.obs.Versions {
		want := v.Replicas
		if r := p.retiring(v.Name); r != nil && p.settled(r.UnsubsetSince) {
			want = 0 // handing back may wait for somebody, and its pods for nobody
		}
		if v.Exists {
			d.Scales = append(d.Scales, Scale{v.Name, want})
		}
	}
	returning := p.next.Stage == v1alpha1.StageReturning
	if p.pinned() && (!returning || p.returnable() && !p.obs.Template.Paused) {
		want := max(p.strength(), p.obs.Template.Replicas) // an autoscaler of the Deployment's own has woken up with it
		d.Template = &want
	}
	switch p.next.Stage {
	case v1alpha1.StageReturning:
		d.Mesh, d.Subsets = p.obs.Rule, slices.DeleteFunc(slices.Clone(p.obs.Subsets), p.unrouted)
		// Hosts of versions stay for as long as what they lead to; none is made any more, for a Service that nobody may know yet.
		d.Previews = slices.DeleteFunc(p.previews(d.Subsets), func(version string) bool { return !p.obs.version(version).Previewed })
	case v1alpha1.StageUnpinning:
		d.Mesh, d.Subsets, d.Bare = p.obs.Rule, p.obs.Subsets, true
	case v1alpha1.StageRemoving:
		d.Unroute = true
	case v1alpha1.StageReleasing:
		d = Desired{Unroute: true, Release: true}
		for _, v := range p.obs.Versions {
			d.Prune = append(d.Prune, v.Name)
		}
	case v1alpha1.StageReleased:
		d = Desired{}
	}
	return d
}
