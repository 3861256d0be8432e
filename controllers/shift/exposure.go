package shift

import (
	"slices"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// mostGiven is how many weights an epoch of cookies names: one more begins a new epoch.
const mostGiven = 64

// groupRules are the rules of the group whose requests go to the candidate: that of a match, or the one beside its weight.
func (p *pass) groupRules() []apiextensionsv1.JSON {
	if p.next.Exposure == v1alpha1.ExposureMatch {
		return p.standing().match
	}
	return p.ladder.grouped(p.next.Group)
}

// matched is the version that the requests of a group go to; nobody where there is no group, or no rules to tell it by.
func (p *pass) matched() string {
	if len(p.groupRules()) == 0 {
		return ""
	}
	return p.next.Candidate
}

// mirrored is the version that gets copies, of what share, and whether of matching requests alone.
func (p *pass) mirrored() Copies {
	if p.next.Exposure != v1alpha1.ExposureMirror {
		return Copies{}
	}
	r := p.standing()
	return Copies{Route{p.next.Candidate, r.weight}, len(r.match) > 0}
}

func (p *pass) match() *Match {
	v := p.matched()
	if v == "" {
		return nil
	}
	return &Match{Version: v, Rules: p.groupRules()}
}

func (p *pass) mirror() *Mirror {
	c := p.mirrored()
	if c == (Copies{}) {
		return nil
	}
	return &Mirror{Route: c.Route, Rules: p.standing().match}
}

// sessions are the cookies that are honoured: those of a candidate on its way up. One that is taken back keeps nobody.
func (p *pass) sessions() *Sessions {
	s := p.next.Sessions
	if len(s.Given) == 0 {
		return nil
	}
	return &Sessions{Stable: p.next.Stable, Candidate: p.next.Candidate, Epoch: s.Epoch, Given: s.Given}
}

// preview is the version that a preview shows: the candidate as soon as its address leads somewhere, or else stable; nobody, which leaves
// the preview as it is, while that one's does not.
func (p *pass) preview() string {
	c, stable := p.next.Candidate, p.next.Stable
	switch {
	case p.next.Phase == v1alpha1.PhaseProgressing && p.exposed() && p.subsetted(c) && p.settled(p.next.SubsetSince) && !p.obs.version(c).Unaddressed:
		return c
	case p.next.Phase == v1alpha1.PhaseAdopting && p.next.RoutedSince == nil && !p.settled(p.next.SubsetSince), p.obs.version(stable).Unaddressed:
		return ""
	}
	return stable
}

// previews are the versions that a host of their own leads to, where each is to have one.
func (p *pass) previews(subsets []string) []string {
	if p.next.Phase == v1alpha1.PhaseAdopting && p.next.RoutedSince == nil && !p.settled(p.next.SubsetSince) {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(subsets), func(version string) bool { return !p.previewable(version) })
}

// previewable reports whether a host of its own leads a version's testers to pods: from when the proxies know its Service, until it leaves the
// routes. Its host counts as one of those, so that the Service goes only when the proxies have forgotten the host.
func (p *pass) previewable(version string) bool {
	if p.obs.version(version).Unaddressed {
		return false
	}
	if version == p.next.Candidate {
		return p.subsetted(version) && p.settled(p.next.SubsetSince)
	}
	i := slices.IndexFunc(p.next.Retiring, func(r v1alpha1.Retiring) bool { return r.Version == version })
	return i < 0 || p.next.Retiring[i].UnroutedSince == nil && !p.drained(p.next.Retiring[i])
}

// noteSessions keeps the weights that cookies were given at. A weight that was lowered, by whomever, begins a new epoch; so does the first
// one, because cookies of an earlier release are still about.
func (p *pass) noteSessions() {
	s, w := &p.next.Sessions, p.next.Weight
	if p.spec.Session == nil || p.next.Phase != v1alpha1.PhaseProgressing || !HasUsers(p.next) {
		s.Given = nil
		return
	}
	switch n := len(s.Given); {
	case n > 0 && s.Given[n-1] == w:
	case n > 0 && s.Given[n-1] < w && n < mostGiven:
		s.Given = append(s.Given, w)
	default:
		s.Epoch++
		s.Given = []v1alpha1.Permille{w}
	}
}
