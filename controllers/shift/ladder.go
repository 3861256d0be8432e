package shift

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// rung is one step of a candidate's way: a weight, or a way to show it without one.
type rung struct {
	// exposure is empty where the rung is a weight.
	exposure v1alpha1.Exposure
	// weight is the share of the traffic, or of the requests that are copied.
	weight v1alpha1.Permille
	// match are the rules of those who are shown the candidate, who come to it beside a weight, or whose requests are copied.
	match []apiextensionsv1.JSON
	hold  time.Duration
	gates []string
	pause *v1alpha1.Pause
	// replicas is how many pods the owner asks for; 0 leaves it to the weight.
	replicas int32
}

// digest tells what the rung shows the candidate to from what another does.
func (r rung) digest() string {
	if r.exposure == "" || r.exposure == v1alpha1.ExposurePreview {
		return ""
	}
	return digestOf(r.match, "%s %d", r.exposure, r.weight)
}

// group is a digest of the match beside the rung's weight; empty where there is none, and at 100, where everybody is in it.
func (r rung) group() string {
	if r.exposure != "" || len(r.match) == 0 || r.weight == v1alpha1.Whole {
		return ""
	}
	return digestOf(r.match, "group")
}

func digestOf(rules []apiextensionsv1.JSON, format string, args ...any) string {
	sum := fnv.New64a()
	_, _ = fmt.Fprintf(sum, format, args...) // hashes never fail
	for _, rule := range rules {
		_, _ = fmt.Fprintf(sum, "\n%s", rule.Raw)
	}
	return strconv.FormatUint(sum.Sum64(), 16)
}

// raises reports whether the rung is a weight of at least w.
func (r rung) raises(w v1alpha1.Permille) bool { return r.exposure == "" && r.weight >= w }

// ladder is a candidate's way: what shows it without a weight first, then weights that rise to 100. It is empty where evidence sets the
// pace.
type ladder []rung

// ladderOf derives the ladder from the spec: each strategy is one, and what is skipped is a ladder of one rung.
func ladderOf(spec v1alpha1.TrafficShiftSpec) (ladder, error) {
	switch {
	case spec.SkipAnalysis:
		return ladder{{weight: v1alpha1.Whole}}, nil
	case spec.Pacing == v1alpha1.PacingAuto:
		return nil, nil
	}
	l := opening(spec)
	for i, s := range spec.Steps {
		r, err := rungOf(s, spec.Hold.Duration)
		if err != nil {
			return nil, fmt.Errorf("step %d: %w", i+1, err)
		}
		if n := len(l); r.exposure != "" && n > 0 && l[n-1].exposure == "" {
			return nil, fmt.Errorf("step %d: a %s comes after a weight", i+1, strings.ToLower(string(r.exposure)))
		}
		l = append(l, r)
	}
	if len(l) == 0 || !l[len(l)-1].raises(v1alpha1.Whole) {
		return nil, fmt.Errorf("the ladder does not end at 100%%")
	}
	return l, nil
}

// opening is what a strategy puts before the steps: the preview of blue-green, the group of a test.
func opening(spec v1alpha1.TrafficShiftSpec) ladder {
	switch {
	case spec.Strategy == v1alpha1.StrategyBlueGreen:
		r := rung{exposure: v1alpha1.ExposurePreview, hold: spec.Hold.Duration}
		if spec.Preview != nil && spec.Preview.Replicas != nil {
			r.replicas = *spec.Preview.Replicas
		}
		return ladder{r}
	case spec.Strategy == v1alpha1.StrategyABTest && spec.ABTest != nil:
		r := rung{exposure: v1alpha1.ExposureMatch, match: spec.ABTest.Match, hold: spec.Hold.Duration}
		if d := spec.ABTest.Duration; d != nil {
			r.hold = d.Duration
		}
		if decides(spec) {
			r.pause = &v1alpha1.Pause{}
		}
		return ladder{r}
	}
	return nil
}

// decides reports whether a person ends the test, and nothing else.
func decides(spec v1alpha1.TrafficShiftSpec) bool {
	return spec.Strategy == v1alpha1.StrategyABTest && spec.ABTest != nil && spec.ABTest.Conclude == v1alpha1.ConcludeDecide
}

func rungOf(s v1alpha1.Step, hold time.Duration) (rung, error) {
	r := rung{match: s.Match, hold: hold, gates: s.Gates, pause: s.Pause}
	if s.Hold != nil {
		r.hold = s.Hold.Duration
	}
	if s.Replicas != nil {
		r.replicas = *s.Replicas
	}
	var err error
	switch {
	case s.Weight != nil:
		r.weight, err = s.Permille()
	case s.Mirror != "":
		r.exposure = v1alpha1.ExposureMirror
		r.weight, err = s.Mirror.Permille()
	default:
		r.exposure = v1alpha1.ExposureMatch
	}
	return r, err
}

// exposures is how many rungs come before the first weight.
func (l ladder) exposures() int {
	return max(0, slices.IndexFunc(l, func(r rung) bool { return r.exposure == "" }))
}

// at is the index of the rung that a state stands on; -1 where it stands on none. A weight stands on the highest rung that is not above
// it, whatever the ladder was when it was given.
func (l ladder) at(s v1alpha1.State) int {
	if s.Weight > 0 {
		for i, r := range slices.Backward(l) {
			if r.exposure == "" && r.weight <= s.Weight {
				return i
			}
		}
		return -1
	}
	same := func(r rung) bool { return s.Exposure != "" && r.exposure == s.Exposure }
	if i := int(s.Rung) - 1; i >= 0 && i < len(l) && same(l[i]) {
		return i
	}
	return slices.IndexFunc(l, same)
}

// above is the rung that comes next: the first weight above the present one, so that a ladder edited in the middle of a shift never moves
// traffic by itself; before that the present one again, where its group is still to come; and before the first weight the next in order.
func (l ladder) above(s v1alpha1.State) rung {
	if s.Weight == 0 {
		return l[l.next(s)]
	}
	if i := l.at(s); i >= 0 && l[i].weight == s.Weight && l[i].group() != "" && l[i].group() != s.Group {
		return l[i]
	}
	if i := slices.IndexFunc(l, func(r rung) bool { return r.raises(s.Weight + 1) }); i >= 0 {
		return l[i]
	}
	return rung{weight: v1alpha1.Whole}
}

// next is the index of the rung that comes after what a state without a weight stands on.
func (l ladder) next(s v1alpha1.State) int {
	if i := l.at(s); i >= 0 {
		return i + 1
	}
	return min(max(0, int(s.Rung)), l.exposures())
}

// grouped are the rules of a group, by its digest; none where no rung has them any more.
func (l ladder) grouped(digest string) []apiextensionsv1.JSON {
	if i := slices.IndexFunc(l, func(r rung) bool { return digest != "" && r.group() == digest }); i >= 0 {
		return l[i].match
	}
	return nil
}

// standing is the rung that the candidate stands on. Where the ladder has none, it is made of what the candidate has.
func (p *pass) standing() rung {
	if i := p.ladder.at(p.next); i >= 0 {
		return p.ladder[i]
	}
	r := rung{exposure: p.next.Exposure, weight: p.next.Weight, hold: p.spec.Hold.Duration}
	if p.spec.SkipAnalysis {
		r.hold = 0
	}
	return r
}

// nextRung is what comes next, as far as the gates let it: the next rung of a ladder, or what the evidence allows. It is the present
// weight, and says what is waited for, where there is none yet.
func (p *pass) nextRung() (next rung, wait string) {
	if !p.auto() {
		return p.ladder.above(p.next), ""
	}
	w, wait := p.weightAbove()
	return rung{weight: w}, wait
}

// shown reports whether anybody can see the candidate: it has a weight, or is shown without one.
func (p *pass) shown() bool { return Exposed(p.next) }

// Exposed reports whether the candidate has a weight, or is shown without one: to a group, to copies, or at its preview address.
func Exposed(s v1alpha1.State) bool { return s.Weight > 0 || s.Exposure != "" || s.Group != "" }

// HasUsers reports whether the candidate answers users: by its weight, or because their requests match.
func HasUsers(s v1alpha1.State) bool {
	return s.Weight > 0 || s.Exposure == v1alpha1.ExposureMatch || s.Group != ""
}

// Mirroring reports whether the candidate gets copies of requests, whose answers nobody sees.
func Mirroring(s v1alpha1.State) bool { return s.Exposure == v1alpha1.ExposureMirror }

// Previewing reports whether the candidate is shown at its preview address alone.
func Previewing(s v1alpha1.State) bool { return s.Exposure == v1alpha1.ExposurePreview }

// place says where the candidate stands: "5%", or how it is shown.
func (p *pass) place() string {
	if p.next.Exposure == "" {
		return Share(p.next)
	}
	return p.standing().String()
}

// Share says what a candidate with a weight has: "20%", or "20% and its match".
func Share(s v1alpha1.State) string { return share(s.Weight, s.Group != "") }

func share(w v1alpha1.Permille, matched bool) string {
	if matched {
		return w.String() + " and its match"
	}
	return w.String()
}

// String says where a candidate stands on the rung.
func (r rung) String() string {
	switch r.exposure {
	case v1alpha1.ExposurePreview:
		return "its preview"
	case v1alpha1.ExposureMatch:
		return "its match"
	case v1alpha1.ExposureMirror:
		if len(r.match) > 0 {
			return fmt.Sprintf("a mirror of %s of its match", r.weight)
		}
		return fmt.Sprintf("a mirror of %s", r.weight)
	}
	return share(r.weight, r.group() != "")
}

// Step tells which rung of its ladder a candidate stands on, counted from 1, and how many there are; 0 is below the first. There are none
// where evidence sets the pace.
func Step(spec v1alpha1.TrafficShiftSpec, s v1alpha1.State) (step, steps int) {
	_, l, err := ruling(spec, s)
	if err != nil {
		return 0, len(spec.Steps)
	}
	return l.at(s) + 1, len(l)
}

// StepText writes the step for people: "2/4", "1/3 match" (also where that stands beside a weight), or "auto".
func StepText(spec v1alpha1.TrafficShiftSpec, s v1alpha1.State) string {
	step, steps := Step(spec, s)
	switch {
	case steps == 0:
		return string(v1alpha1.PacingAuto)
	case s.Exposure != "":
		return fmt.Sprintf("%d/%d %s", step, steps, strings.ToLower(string(s.Exposure)))
	case s.Group != "":
		return fmt.Sprintf("%d/%d match", step, steps)
	}
	return fmt.Sprintf("%d/%d", step, steps)
}

// refind takes back what shows the candidate where the ladder was edited and has no such rung any more, or one that shows it to others:
// the candidate goes on from the rung before, and what was proven of the one does not count for the other.
func (p *pass) refind() {
	i := p.ladder.at(p.next)
	if g := p.next.Group; g != "" && (i < 0 || p.ladder[i].group() != g) {
		p.leaveGroup()
		return
	}
	if p.next.Exposure == "" || i >= 0 && p.ladder[i].digest() == p.next.Shown {
		return
	}
	p.next.Exposure, p.next.Rung = "", max(0, p.next.Rung-1)
	p.enter(v1alpha1.PhaseProgressing, v1alpha1.StageExposing)
	p.forgetRoute()
	p.forgetAnswers()
}

// leaveGroup gives the group up and keeps the weight: what was proven of both does not count for the weight alone.
func (p *pass) leaveGroup() {
	p.next.Group = ""
	p.enter(v1alpha1.PhaseProgressing, p.next.Stage)
	p.forgetRoute()
	p.forgetAnswers()
}
