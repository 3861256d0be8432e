package shift

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// keepStrength remembers the most pods that were asked for since the candidate started, until it has left the mesh. An autoscaler that sees a bad candidate fail fast
// wants fewer of them, at the very moment at which the stable version is about to need them all.
func (p *pass) keepStrength() {
	if !p.moving() {
		p.next.Strength = 0
		return
	}
	p.next.Strength = max(p.next.Strength, p.obs.Replicas)
}

// moving reports whether traffic may still be on its way from one version to another.
func (p *pass) moving() bool { return p.next.Candidate != "" || p.leaving() }

// strength is how many pods carry all of the traffic. No wish lowers it while traffic moves.
func (p *pass) strength() int32 {
	strength := max(p.obs.Replicas, 0)
	if p.moving() {
		strength = max(strength, p.next.Strength)
	}
	return strength
}

// capacity is how many pods a weight needs: its share of the strength, rounded up, and not fewer than the owner has every share carried by.
func (p *pass) capacity(w v1alpha1.Permille) int32 {
	whole, least := int64(v1alpha1.Whole), int32(1)
	if n := p.spec.MinReplicas; n != nil && w > 0 {
		least = min(*n, p.strength())
	}
	return max(1, least, int32((int64(p.strength())*int64(w)+whole-1)/whole))
}

// enough is how many of the pods that a weight needs must be available before it is given: the share that the owner asks for, rounded up,
// and never none. Nothing but the way up goes by it.
func (p *pass) enough(want int32) int32 {
	const fine = 100_000 // a percentage has at most three decimals
	share, err := p.spec.ReadyThreshold.Ratio()
	if err != nil {
		return want // validated with the spec
	}
	return max(1, int32((int64(want)*int64(share*fine+0.5)+fine-1)/fine))
}

// present reports whether enough of the pods that a weight needs are there, and the rest at least asked for.
func (p *pass) present(c Version, want int32) bool {
	return c.Recorded && c.Replicas >= want && c.Available >= p.enough(want)
}

// available says how many pods there are of those that are waited for: "7 of 10 available, 8 are enough".
func (p *pass) available(c Version, want int32) string {
	text := fmt.Sprintf("%d of %d available", c.Available, want)
	switch enough := p.enough(want); enough {
	case want:
	case 1:
		text += ", 1 is enough"
	default:
		text += fmt.Sprintf(", %d are enough", enough)
	}
	return text + because(c)
}

// proportional reports whether both versions have the pods that their weights need, and the stable one no more.
func (p *pass) proportional() bool { return p.spec.Capacity == v1alpha1.CapacityProportional }

// drain is how long requests in flight may take to end.
func (p *pass) drain() time.Duration {
	if d := p.spec.Drain; d != nil {
		return d.Duration
	}
	return p.obs.Timing.Drain
}

// quiet reports whether a weight that was read back has settled in the mesh, and the requests from before it have ended.
func (p *pass) quiet(since *metav1.MicroTime) bool {
	return p.passed(since, p.obs.Timing.Settle+p.drain())
}

// stableSize is how many pods the stable version should have. Nothing shrinks while a shift is under way, unless the owner asked for
// proportional capacity: then what the candidate has taken over is given up, once the mesh has followed and the requests have ended.
func (p *pass) stableSize() int32 {
	strength, have := p.strength(), p.obs.version(p.next.Stable).Replicas
	switch {
	case p.next.Phase == v1alpha1.PhaseStable || p.next.Phase == v1alpha1.PhaseFailed:
		return strength
	case !p.proportional() || p.next.Phase != v1alpha1.PhaseProgressing || p.goneBack() || strength == 0:
		return max(strength, have)
	case p.next.Stage == v1alpha1.StageBaking:
		return max(have, 1) // what its last weight needed stays warm: that much of the traffic, and half as much again, goes back in one write
	}
	need := p.capacity(v1alpha1.Whole - p.next.Weight)
	if p.relieved(need) {
		return need
	}
	return max(need, have)
}

// goneBack reports whether the candidate has lost weight that it had. Where it goes on falling, the stable version needs all its pods;
// where it rises again, they are given up when it has reached its peak.
func (p *pass) goneBack() bool { return p.next.Weight < p.next.Peak }

// relieved reports whether the stable version can do with need pods: its weight was lowered everywhere, every proxy knows, the requests
// that were on their way have ended, and of both versions enough pods are ready.
func (p *pass) relieved(need int32) bool {
	stable, candidate := p.obs.version(p.next.Stable), p.obs.version(p.next.Candidate)
	takes := p.capacity(p.next.Weight)
	if p.next.Group != "" {
		takes = p.podsFor(p.standing())
	}
	return p.quiet(p.next.RoutedSince) && stable.Ready >= need && candidate.Ready >= takes
}

// candidateSize is how many pods the candidate should have: those of the next weight, made ahead of it. With proportional capacity they
// are made when everything else speaks for that weight, so that both versions together have hardly more than the strength; and where the
// candidate goes back, it makes room for the stable version's. A preview that its owner wants few pods for keeps those until then, too.
func (p *pass) candidateSize() int32 {
	have, w := p.obs.version(p.next.Candidate).Replicas, p.next.Weight
	if p.next.Phase == v1alpha1.PhaseProgressing {
		want := p.podsFor(p.standing())
		few := Previewing(p.next) && p.standing().replicas > 0
		switch {
		case few && p.next.Pods.WaitingSince == nil:
		case !p.proportional():
			want = p.podsAhead()
		case w == 0 || p.next.Pods.WaitingSince != nil:
			want = p.podsAwaited()
		}
		return max(have, want)
	}
	if p.proportional() && w > 0 && p.next.Group == "" && p.quiet(p.next.RoutedSince) {
		return min(have, p.capacity(w))
	}
	return have
}

// Overlap is how many pods a release takes at its most beside those that carry all of the traffic, on its way up. One that goes back
// makes room for itself: the candidate gives up what the stable version is given.
func Overlap(spec v1alpha1.TrafficShiftSpec, replicas int32) int32 {
	way, err := ladderOf(spec)
	if err != nil || replicas <= 0 {
		return max(replicas, 0) // nothing starts on such a ladder
	}
	p := &pass{spec: spec, obs: Observation{Replicas: replicas}}
	if p.auto() {
		way = ladder{{weight: 1}, {weight: topLeast}, {weight: v1alpha1.Whole}} // the greatest leaps that evidence may allow
	}
	most, standing := int32(0), rung{}
	for i, next := range way {
		stable, candidate := replicas, p.podsFor(next)
		if p.proportional() && standing.exposure == "" {
			stable = p.capacity(v1alpha1.Whole - standing.weight)
		}
		if i > 0 {
			candidate = max(candidate, p.podsFor(standing))
		}
		most, standing = max(most, stable+candidate-replicas), next
	}
	return most
}
