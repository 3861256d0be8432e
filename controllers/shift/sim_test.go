package shift_test

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/shift"
	"github.com/sluice-dev/sluice/metrics/analysis"
)

// world is a small simulated cluster: Deployments whose pods become ready after a while, routes and subsets that are what was
// written last, and traffic that follows the routes. It runs the real Decide, and dies on demand between any two writes.
type world struct {
	t     failer
	spec  v1alpha1.TrafficShiftSpec
	state v1alpha1.State
	now   time.Time

	template    int // stands for the template's content
	templateRun deployment
	uid         string // the Deployment's own
	held        bool
	stopped     bool // the Deployment's own spec.paused: its controller starts no pods of another template
	generation  int64
	records     map[string]int
	proven      map[string]bool
	versions    map[string]*deployment
	tables      map[string][]shift.Route
	bare        map[string]bool
	attached    bool                    // the tables are VirtualServices of the user's: nobody but he makes them
	taken       map[string]bool         // those of them that he has deleted
	refused     map[string]bool         // those that cannot be written
	unread      map[string]bool         // those that cannot be read, nor written
	matched     map[string]string       // by table
	mirrored    map[string]shift.Copies // by table
	sessions    *shift.Sessions         // as written last
	subsets     []string
	rule        bool
	addressed   map[string]time.Time // since when a version has had a Service of its own, which goes with its subset
	preview     string               // the version that the preview shows
	hosts       map[string]bool      // the versions that a preview's host of their own leads to
	unhosted    map[string]time.Time // since when none leads to a version any more
	former      []string             // the versions that there are to go back to, the latest first
	robbed      bool                 // somebody deletes the DestinationRule: what goes with a subset goes without its order

	evidence    bool
	errorRate   map[int]float64 // by template
	rps         int64
	broken      map[int]bool // templates whose pods never become ready
	bypass      bool
	connections bool              // users are seen by their connections alone
	group       v1alpha1.Permille // how many of all requests match
	tests       int64             // requests a second at the preview
	intents     intents
	requests    []shift.Request // beside those of the intents
	verdicts    map[string]string
	answers     []v1alpha1.ActionRecord
	restarts    map[string]string // by version: when its pods were last replaced
	problems    []shift.Problem
	checks      []shift.Check
	desk        analysis.Outcome // what the gate "desk" says whenever it is asked
	history     []analysis.Sample

	noHost       func(share v1alpha1.Permille) float64 // how many of all requests find no host, by the candidate's weight
	measured     func(share v1alpha1.Permille) v1alpha1.Permille
	historyLimit int

	after func() // looks at the world after every single write
	dieIn int    // dies once, after that many writes from here; 0 never
	wrote int    // every write so far
	turns []int  // the writes of passes that asked for another world than the pass before
	wish  shift.Desired

	room     int32     // for how many ready pods of versions in all; 0 for any
	asked    int32     // the most pods that were asked for since there is a candidate
	weighted time.Time // when a table's weights changed last

	last       shift.Decision
	ended      []v1alpha1.Outcome
	arrived    []shift.Arrival
	transcript strings.Builder
	raisedAt   time.Time
}

type deployment struct {
	replicas, ready int32
	restarts        int32
	template        int
	age             int
}

// intents are what a person asks for in fields, which stand there until a test takes them away.
type intents struct {
	Abort, Retry, Approve string
	Detach, Force         bool
}

func (i intents) requests() []shift.Request {
	var all []shift.Request
	for _, r := range []shift.Request{
		{Action: v1alpha1.ActionAbort, Value: i.Abort}, {Action: v1alpha1.ActionRetry, Value: i.Retry}, {Action: v1alpha1.ActionApprove, Value: i.Approve},
	} {
		if r.Source, r.By = v1alpha1.SourceField, "somebody"; r.Value != "" {
			all = append(all, r)
		}
	}
	return all
}

// failer is what a table test and a property test have in common.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

var timing = shift.Timing{Settle: 2 * time.Second, Drain: 5 * time.Second, Scrape: time.Second}

func newWorld(t failer) *world {
	w := &world{
		t: t, now: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC), template: 1, generation: 1,
		templateRun: deployment{replicas: 3, ready: 3, template: 1}, uid: "first",
		records: map[string]int{}, proven: map[string]bool{}, verdicts: map[string]string{}, restarts: map[string]string{}, versions: map[string]*deployment{}, addressed: map[string]time.Time{}, hosts: map[string]bool{}, unhosted: map[string]time.Time{},
		tables: map[string][]shift.Route{}, bare: map[string]bool{}, taken: map[string]bool{}, refused: map[string]bool{}, unread: map[string]bool{}, matched: map[string]string{}, mirrored: map[string]shift.Copies{}, group: 200,
		evidence: true, errorRate: map[int]float64{}, rps: 100, broken: map[int]bool{}, historyLimit: 10,
		noHost:   func(v1alpha1.Permille) float64 { return 0 },
		measured: func(share v1alpha1.Permille) v1alpha1.Permille { return share },
		after:    func() {},
	}
	for _, s := range []int{5, 50, 100} {
		w.spec.Steps = append(w.spec.Steps, v1alpha1.Step{Weight: new(intstr.FromInt(s))})
	}
	three := int32(3)
	w.spec.Replicas = &three
	w.spec.Hold, w.spec.Bake = &metav1.Duration{Duration: 5 * time.Second}, &metav1.Duration{Duration: 5 * time.Second}
	w.spec.Hosts = []string{"shop.example.com"}
	w.spec.Default()
	return w
}

var tableNames = []string{"mesh", "hosts"}

func (w *world) observe() shift.Observation {
	o := shift.Observation{
		Now: w.now, Timing: timing, Problems: w.problems, Replicas: *w.spec.Replicas, Connections: w.connections,
		Intents: shift.Intents{Detach: w.intents.Detach, Force: w.intents.Force}, Requests: slices.Concat(w.requests, w.intents.requests()),
		Template: shift.Template{
			Exists: true, UID: w.uid, Replicas: w.templateRun.replicas, Available: w.templateRun.ready,
			Settled: w.templateRun.ready >= w.templateRun.replicas, Held: w.held, Generation: w.generation, HistoryLimit: w.historyLimit,
			Paused: w.stopped, Name: "micro-api",
		},
		Subsets: slices.Clone(w.subsets), Rule: w.rule,
	}
	if w.stopped {
		o.Requests = append(o.Requests, shift.Request{Action: v1alpha1.ActionPause, Source: v1alpha1.SourceDeployment, Value: "true", By: "kubectl-rollout"})
	}
	o.ResumedBy = map[v1alpha1.Source]string{v1alpha1.SourceDeployment: "kubectl-rollout"}
	highest := w.state.LastVersion
	for _, name := range w.names() {
		highest = max(highest, shift.Number(name))
		v := shift.Version{Name: name, Proven: w.proven[name], Verdict: w.verdicts[name], RestartedAt: w.restarts[name]}
		if id, ok := w.records[name]; ok {
			v.Recorded = true
			if id == w.template && (o.Template.Version == "" || name == w.state.Stable || name == w.state.Candidate) {
				o.Template.Version = name
			}
		}
		if d, ok := w.versions[name]; ok {
			v.Exists, v.Replicas, v.Ready, v.Available, v.Restarts = true, d.replicas, d.ready, d.ready, d.restarts
		}
		_, addressed := w.addressed[name]
		v.Unaddressed, v.Previewed = !addressed, w.hosts[name]
		o.Versions = append(o.Versions, v)
	}
	o.NextVersion = fmt.Sprintf("v%d", highest+1)
	for _, name := range tableNames {
		routes, ok := w.tables[name]
		if w.unknown(name) {
			o.Tables = append(o.Tables, w.unreadTable(name))
			o.Problems = append(slices.Clone(o.Problems), shift.Problem{Reason: v1alpha1.ReasonVirtualServiceUnfit, Message: name + " cannot be read"})
			continue
		}
		o.Tables = append(o.Tables, shift.Table{
			Name: name, Exists: ok || w.bare[name] && !w.attached, Routes: slices.Clone(routes), Bare: w.bare[name] || w.attached && !ok,
			Matched: w.matched[name], Mirrored: w.mirrored[name],
		})
		if w.taken[name] {
			o.Problems = append(slices.Clone(o.Problems), shift.Problem{Reason: v1alpha1.ReasonVirtualServiceUnfit, Message: name + " does not exist"})
		}
	}
	o.Evidence = w.sample()
	o.Evidence.History, o.Checks = w.history, w.checks
	if slices.ContainsFunc(shift.Asked(w.spec, w.state), func(g v1alpha1.Gate) bool { return g.Name == "desk" }) {
		o.Checks = append(slices.Clone(w.checks), shift.Check{Gate: "desk", ReadAt: w.now, Outcome: w.desk, Value: math.NaN(), Limit: math.NaN(), Message: "said the desk"})
	}
	return o
}

// unreadTable is one that could not be read: it may lead to any version that has a subset.
func (w *world) unreadTable(name string) shift.Table {
	t := shift.Table{Name: name, Unread: true}
	for _, version := range w.subsets {
		t.Routes = append(t.Routes, shift.Route{Version: version, Weight: v1alpha1.Whole - 1})
	}
	return t
}

// deskAtStart puts the one gate that is asked before anybody meets a candidate.
func (w *world) deskAtStart() *v1alpha1.Gate {
	w.spec.Gates = []v1alpha1.Gate{{Name: "desk", At: v1alpha1.GateAtStart, Webhook: &v1alpha1.WebhookGate{URL: "http://desk"}}}
	w.spec.Default()
	return &w.spec.Gates[0]
}

// checkLetGo refuses to show a candidate to anybody that a gate at the start has not let go.
func (w *world) checkLetGo(to string) {
	w.t.Helper()
	kept := slices.ContainsFunc(w.spec.Gates, func(g v1alpha1.Gate) bool { return g.Name == "desk" && g.At == v1alpha1.GateAtStart && !g.DryRun })
	if kept && w.desk != analysis.Pass && w.state.WeightedAt == nil && !w.spec.SkipAnalysis {
		w.t.Fatalf("%s although the gate at the start says %s\n%s", to, w.desk, w.transcript.String())
	}
}

func (w *world) names() []string {
	all := map[string]bool{}
	for name := range w.records {
		all[name] = true
	}
	for name := range w.versions {
		all[name] = true
	}
	return slices.SortedFunc(maps.Keys(all), func(a, b string) int { return int(shift.Number(a) - shift.Number(b)) })
}

// sample is what Prometheus would have counted since the state's last count, given the routes as they are.
func (w *world) sample() shift.Evidence {
	if !w.evidence {
		return shift.Evidence{Missing: "Prometheus is unreachable"}
	}
	from := w.now
	if to := w.state.Gate.CountedTo; to != nil {
		from = to.Time
	}
	seconds := int64(w.now.Sub(from) / time.Second)
	s := analysis.Sample{From: from, To: w.now, Newest: w.now, Reporter: analysis.Source}
	share := v1alpha1.Permille(0)
	for _, r := range w.tables["mesh"] {
		if r.Version == w.state.Candidate {
			share = r.Weight
		}
	}
	if w.matched["mesh"] == w.state.Candidate && w.state.Candidate != "" {
		share += (v1alpha1.Whole - share) * w.group / v1alpha1.Whole
	}
	if w.bypass {
		share = max(share, 100)
	}
	all := seconds * w.rps
	s.NoHost = int64(float64(all) * w.noHost(share))
	total := all - s.NoHost
	candidate := total * int64(w.measured(share)) / int64(v1alpha1.Whole)
	s.Candidate = analysis.Counts{Requests: candidate, Errors: int64(float64(candidate) * w.errorRate[w.records[w.state.Candidate]])}
	s.Stable = analysis.Counts{Requests: total - candidate, Errors: int64(float64(total-candidate) * w.errorRate[w.records[w.state.Stable]])}
	copies := int64(0) // their answers are dropped: stable answers all the same
	if m := w.mirrored["mesh"]; m.Version == w.state.Candidate {
		copies = total * int64(m.Weight) / int64(v1alpha1.Whole)
		if m.Matching {
			copies = copies * int64(w.group) / int64(v1alpha1.Whole)
		}
	}
	if w.state.Exposure == v1alpha1.ExposurePreview {
		copies = seconds * w.tests
	}
	s.Candidate.Requests += copies
	s.Candidate.Errors += int64(float64(copies) * w.errorRate[w.records[w.state.Candidate]])
	return shift.Evidence{Available: true, Sample: s}
}

// pass runs Decide once and writes what it asks for, in the plan's order; crash dies after that many writes, the status included.
func (w *world) pass(crash int) {
	w.t.Helper()
	obs := w.observe()
	if !shift.Suspended(w.spec, obs) { // which sees no wish
		w.asked = max(w.asked, obs.Replicas)
	}
	if w.state.Candidate == "" {
		w.asked = obs.Replicas
	}
	d, err := shift.Decide(w.spec, w.state, obs)
	if err != nil {
		w.t.Fatalf("deciding at %s: %v\nstate: %+v\n%s", w.now.Format(time.TimeOnly), err, w.state, w.transcript.String())
	}
	w.checkEarned(d)
	w.checkWindow(d)
	w.checkGivenUp(d)
	w.checkStill(d, obs)
	if !d.Until.IsZero() && !d.Until.After(w.now) {
		w.t.Fatalf("at %s: %s waits until %s, which is over\n%s", w.now.Format(time.TimeOnly), d, d.Until.Format(time.TimeOnly), w.transcript.String())
	}
	w.note(d)
	turn := !reflect.DeepEqual(d.Desired, w.wish) || d.Next.Stage != w.state.Stage || d.Next.Rung != w.state.Rung
	w.wish = d.Desired
	for _, write := range append([]func(){func() { w.persist(d) }}, w.writes(d.Desired)...) {
		if crash == 0 {
			return
		}
		crash--
		write()
		w.checkMesh()
		w.after()
		w.wrote++
		if turn {
			w.turns = append(w.turns, w.wrote)
		}
		if w.dieIn--; w.dieIn == 0 {
			return
		}
	}
	w.last = d
}

func (w *world) persist(d shift.Decision) {
	if d.Next.Weight > w.state.Weight || d.Next.Exposure != w.state.Exposure || d.Next.Rung != w.state.Rung || d.Next.Group != w.state.Group {
		w.raisedAt = w.now
	}
	if o := d.Ended; o != nil && o.Reason == v1alpha1.ReasonPromoted {
		if i := slices.Index(w.former, d.Next.Stable); i >= 0 {
			w.former = slices.Clone(w.former[i+1:])
		} else {
			w.former = slices.Insert(w.former, 0, w.state.Stable)
		}
	}
	w.state = d.Next
	w.answers = append(w.answers, d.Actions...)
	if d.Arrived != nil {
		w.arrived = append(w.arrived, *d.Arrived)
	}
	if d.Ended != nil {
		w.ended = append(w.ended, *d.Ended)
	}
}

// writes are the single writes of a plan, in its order. Maps stand for objects: writing the same twice changes nothing.
func (w *world) writes(d shift.Desired) []func() {
	var writes []func()
	add := func(f func()) { writes = append(writes, f) }
	failed := false
	for _, name := range tableNames {
		switch {
		case w.taken[name]:
		case (w.unknown(name) || w.refuses(name)) && (d.Unroute || d.Bare || len(d.Routes) > 0):
			failed = true
		case d.Unroute:
			add(func() { w.unroute(name); w.bare[name] = false })
		case d.Bare:
			add(func() { w.unroute(name); w.bare[name] = true })
		case len(d.Routes) > 0:
			add(func() {
				if w.weights(name) != weightsOf(d.Routes) || (w.matched[name] != "") != (d.Match != nil) {
					w.weighted = w.now
				}
				w.checkGroup(name, d)
				w.route(name, d)
			})
		}
	}
	if failed { // of what follows, pods are added and nothing else is done
		for _, s := range d.Scales {
			if v, ok := w.versions[s.Version]; !ok || s.Replicas >= v.replicas {
				add(func() { w.scale(s) })
			}
		}
		return writes
	}
	if d.Record != "" {
		add(func() {
			if _, ok := w.records[d.Record]; !ok {
				w.records[d.Record] = w.template
			}
		})
	}
	for v, verdict := range d.Verdicts {
		add(func() { w.verdicts[v], w.proven[v] = verdict, verdict == v1alpha1.ReasonPromoted })
	}
	for _, s := range d.Scales {
		add(func() { w.scale(s) })
	}
	switch {
	case d.Unroute:
		add(func() { w.subsets, w.rule, w.preview = nil, false, ""; clear(w.hosts) })
	case d.Mesh && len(d.Subsets) > 0:
		add(func() {
			for _, v := range w.subsets {
				if w.kept(v) && !slices.Contains(d.Subsets, v) {
					w.t.Fatalf("%s loses its subset, and its address, while its pods are kept\n%s", v, w.transcript.String())
				}
			}
			w.subsets, w.rule = slices.Clone(d.Subsets), true
		})
		add(func() { w.address(d.Subsets) })
		add(func() { w.show(d.Preview) })
		add(func() { w.host(d.Previews) })
	}
	if r := d.Restart; r != nil {
		add(func() { w.restarts[r.Version] = r.At })
	}
	if d.Undo != "" {
		add(func() {
			if w.template != w.records[d.Undo] {
				w.template = w.records[d.Undo]
				w.generation++
			}
		})
	}
	if d.Template != nil {
		add(func() {
			if w.templateRun.replicas != *d.Template || w.held != d.Held {
				w.generation++
			}
			w.templateRun.replicas, w.held = *d.Template, d.Held
			w.templateRun.ready = min(w.templateRun.ready, *d.Template)
		})
	}
	for _, v := range d.Prune {
		add(func() { delete(w.versions, v); delete(w.records, v); delete(w.proven, v) })
	}
	if d.Release {
		add(func() { clear(w.versions); clear(w.records); clear(w.proven); w.held = false })
	}
	return writes
}

// refuses reports whether a table cannot be written now. While the Deployment is to be scaled down it can: nothing else would do that, and
// each new template of those days would count as somebody's scaling it up.
func (w *world) refuses(table string) bool {
	return w.refused[table] && w.fails()
}

// unknown reports whether a table can neither be read nor written now.
func (w *world) unknown(table string) bool { return w.unread[table] && w.fails() }

func (w *world) fails() bool {
	return w.templateRun.replicas == 0 || w.state.Phase == v1alpha1.PhaseDetaching
}

func (w *world) unroute(table string) {
	delete(w.tables, table)
	delete(w.matched, table)
	delete(w.mirrored, table)
}

func (w *world) route(table string, d shift.Desired) {
	w.unroute(table)
	w.tables[table], w.bare[table], w.sessions = slices.Clone(d.Routes), false, d.Sessions
	if d.Match != nil {
		w.matched[table] = d.Match.Version
	}
	if d.Mirror != nil {
		w.mirrored[table] = shift.Copies{Route: d.Mirror.Route, Matching: len(d.Mirror.Rules) > 0}
	}
}

func (w *world) scale(s shift.Scale) {
	d, ok := w.versions[s.Version]
	if !ok {
		id, recorded := w.records[s.Version]
		if !recorded {
			return
		}
		d = &deployment{template: id}
		w.versions[s.Version] = d
	}
	if s.Replicas < d.replicas {
		if w.kept(s.Version) {
			w.t.Fatalf("%s is scaled from %d to %d while its pods are kept\n%s", s.Version, d.replicas, s.Replicas, w.transcript.String())
		}
		for name := range w.tables {
			if w.matched[name] == s.Version || w.mirrored[name].Version == s.Version {
				w.t.Fatalf("%s is scaled from %d to %d while table %s matches or mirrors to it\n%s", s.Version, d.replicas, s.Replicas, name, w.transcript.String())
			}
		}
		for name, routes := range w.tables {
			for _, r := range routes {
				wished := s.Version == w.state.Stable && s.Replicas >= *w.spec.Replicas && w.state.Candidate == ""
				if r.Version == s.Version && !wished && !w.spared(s, r.Weight) {
					w.t.Fatalf("%s is scaled from %d to %d while table %s routes it at %s\n%s", s.Version, d.replicas, s.Replicas, name, r.Weight, w.transcript.String())
				}
			}
		}
	}
	d.replicas = s.Replicas
	d.ready = min(d.ready, d.replicas)
}

// kept reports whether the pods of a version are kept for people to look at.
func (w *world) kept(version string) bool {
	return slices.ContainsFunc(w.state.Retiring, func(r v1alpha1.Retiring) bool { return r.Version == version && r.KeptSince != nil })
}

// address gives versions a Service each.
func (w *world) address(versions []string) {
	w.t.Helper()
	maps.DeleteFunc(w.addressed, func(v string, _ time.Time) bool {
		if slices.Contains(versions, v) {
			return false
		}
		if gone, was := w.unhosted[v]; !w.robbed && (w.hosts[v] || was && w.now.Before(gone.Add(timing.Settle))) {
			w.t.Fatalf("%s loses its Service at %v, while proxies may know its preview's host (until %v)\n%s", v, w.now, gone, w.transcript.String())
		}
		return true
	})
	for _, v := range versions {
		if _, ok := w.addressed[v]; !ok {
			w.addressed[v] = w.now
		}
	}
}

// show leads the preview to a version: never to an address whose pods the mesh may not have found yet.
func (w *world) show(version string) {
	w.t.Helper()
	if version == "" || version == w.preview {
		return
	}
	if since, ok := w.addressed[version]; !ok || w.now.Before(since.Add(timing.Settle)) {
		w.t.Fatalf("the preview goes to %s, whose Service is there since %v; now it is %v\n%s", version, since, w.now, w.transcript.String())
	}
	w.preview = version
}

// host gives versions a preview's host each, which never leads where the proxies may not have found a pod.
func (w *world) host(versions []string) {
	w.t.Helper()
	for v := range w.hosts {
		if !slices.Contains(versions, v) {
			delete(w.hosts, v)
			w.unhosted[v] = w.now
		}
	}
	for _, v := range versions {
		if since, ok := w.addressed[v]; !w.hosts[v] && (!ok || w.now.Before(since.Add(timing.Settle))) {
			w.t.Fatalf("the host of %s leads to a Service that is there since %v; now it is %v\n%s", v, since, w.now, w.transcript.String())
		}
		w.hosts[v] = true
		delete(w.unhosted, v)
	}
}

// tick lets a second go by: pods become ready one after the other.
func (w *world) tick() {
	w.now = w.now.Add(time.Second)
	if !w.broken[w.template] && w.templateRun.ready < w.templateRun.replicas {
		w.templateRun.ready++
	}
	for _, d := range w.versions {
		d.age++
		if !w.broken[d.template] && d.ready < d.replicas && d.age > 2 && (w.room == 0 || w.running() < w.room) {
			d.ready++
		}
	}
}

func (w *world) running() (pods int32) {
	for _, d := range w.versions {
		pods += d.ready
	}
	return pods
}

// checkMesh holds the invariants of the design to the mesh as it stands, after every single write.
func (w *world) checkMesh() {
	w.t.Helper()
	for name, routes := range w.tables {
		sum := v1alpha1.Permille(0)
		for _, r := range routes {
			sum += r.Weight
			if r.Weight > 0 && w.kept(r.Version) {
				w.t.Fatalf("table %s gives %s to %s, whose pods are kept to be looked at\n%s", name, r.Weight, r.Version, w.transcript.String())
			}
			if !slices.Contains(w.subsets, r.Version) {
				w.t.Fatalf("R1/R2: table %s names %s, which has no subset (%v)\n%s", name, r.Version, w.subsets, w.transcript.String())
			}
		}
		if sum != v1alpha1.Whole {
			w.t.Fatalf("W1: the weights of table %s sum to %s\n%s", name, sum, w.transcript.String())
		}
		w.checkShown(name)
		if len(routes) == 1 && routes[0].Weight != v1alpha1.Whole {
			w.t.Fatalf("W2: table %s has one destination with %s\n%s", name, routes[0].Weight, w.transcript.String())
		}
	}
	if w.held && !w.last.Desired.Bare && w.state.Phase == v1alpha1.PhaseProgressing && len(w.tables) != len(tableNames) && !w.attached {
		w.t.Fatalf("R5: a candidate is progressing and only %d tables pin the traffic\n%s", len(w.tables), w.transcript.String())
	}
}

// checkShown holds a match and a mirror to what holds for a weight.
func (w *world) checkShown(table string) {
	w.t.Helper()
	for _, version := range []string{w.matched[table], w.mirrored[table].Version} {
		switch {
		case version == "":
		case w.kept(version):
			w.t.Fatalf("table %s shows %s, whose pods are kept to be looked at\n%s", table, version, w.transcript.String())
		case !slices.Contains(w.subsets, version):
			w.t.Fatalf("R1: table %s shows %s, which has no subset (%v)\n%s", table, version, w.subsets, w.transcript.String())
		case slices.ContainsFunc(w.state.Retiring, func(r v1alpha1.Retiring) bool { return r.Version == version && r.UnroutedSince != nil }):
			w.t.Fatalf("table %s shows %s, which is on its way out\n%s", table, version, w.transcript.String())
		}
	}
	if s := w.sessions; s != nil {
		rising := len(slices.Compact(slices.Sorted(slices.Values(s.Given)))) == len(s.Given) && slices.IsSorted(s.Given)
		if len(s.Given) == 0 || !rising {
			w.t.Fatalf("cookies were given at %v; want weights that rise\n%s", s.Given, w.transcript.String())
		}
	}
}

// checkGroup holds a group on its way back: it goes with the first write, before or with any weight, while stable can answer it, and none is
// left beside 100.
func (w *world) checkGroup(table string, d shift.Desired) {
	w.t.Helper()
	if d.Match == nil {
		return
	}
	stable := w.versions[w.state.Stable]
	if w.state.Phase == v1alpha1.PhaseRollingBack && (stable == nil || stable.ready > 0) {
		w.t.Fatalf("on the way back table %s still sends a group to %s\n%s", table, d.Match.Version, w.transcript.String())
	}
	if slices.ContainsFunc(d.Routes, func(r shift.Route) bool { return r.Version == d.Match.Version && r.Weight == v1alpha1.Whole }) {
		w.t.Fatalf("table %s has a match beside all of the traffic\n%s", table, w.transcript.String())
	}
	if asked := w.asksFor(d.Match.Rules); !asked && w.state.Phase == v1alpha1.PhaseProgressing {
		w.t.Fatalf("table %s has a match that no step asks for\n%s", table, w.transcript.String())
	}
}

// asksFor reports whether a test or any step has rules.
func (w *world) asksFor(rules []apiextensionsv1.JSON) bool {
	if t := w.spec.ABTest; t != nil && reflect.DeepEqual(t.Match, rules) {
		return true
	}
	return slices.ContainsFunc(w.spec.Steps, func(s v1alpha1.Step) bool { return s.Mirror == "" && reflect.DeepEqual(s.Match, rules) })
}

// exposure orders decisions by how far they show the version of a template.
func (w *world) exposure(d shift.Decision, template int) int {
	switch {
	case w.records[d.Next.Stable] == template:
		return 1 << 20
	case d.Next.Phase != v1alpha1.PhaseProgressing:
		return int(d.Next.Weight) << 8
	}
	grouped := 0
	if d.Next.Group != "" {
		grouped = 1
	}
	return int(d.Next.Weight)<<8 + int(d.Next.Rung)<<1 + grouped
}

// checkStill holds what scales the Deployment by itself to being kept from it for as long as the Deployment is held, or the traffic may be on
// versions alone while it is handed back; and no longer.
func (w *world) checkStill(d shift.Decision, obs shift.Observation) {
	w.t.Helper()
	handed := d.Next.Stage == v1alpha1.StageReleasing || d.Next.Stage == v1alpha1.StageReleased
	own := d.Next.Phase == v1alpha1.PhaseAdopting && d.Next.Stage != v1alpha1.StageHolding && !obs.Template.Held
	routed := obs.Template.Held || d.Next.Phase == v1alpha1.PhaseDetaching && obs.Rule
	switch still := d.Desired.Still; {
	case d.Reason == v1alpha1.ReasonSuspended:
	case still && (handed || own):
		w.t.Fatalf("an autoscaler is kept from a Deployment that is its owner's, at %s\n%s", d, w.transcript.String())
	case !still && routed && !handed:
		w.t.Fatalf("an autoscaler may scale the Deployment while versions have its traffic, at %s\n%s", d, w.transcript.String())
	}
}

// checkEarned refuses a raise without pods, hold or evidence behind it.
func (w *world) checkEarned(d shift.Decision) {
	w.t.Helper()
	grouped := d.Next.Group != "" && d.Next.Group != w.state.Group
	climbed := d.Next.Weight > w.state.Weight || d.Next.Exposure != "" && d.Next.Rung > w.state.Rung || grouped
	if !climbed || d.Next.Phase != v1alpha1.PhaseProgressing {
		return
	}
	to := fmt.Sprintf("%s raised to %s %s", d.Next.Candidate, d.Next.Weight, d.Next.Exposure)
	c := w.versions[d.Next.Candidate]
	if c == nil || c.ready == 0 {
		w.t.Fatalf("R3: %s without a ready pod\n%s", to, w.transcript.String())
	}
	if !slices.Contains(w.subsets, d.Next.Candidate) {
		w.t.Fatalf("R1: %s without a subset\n%s", to, w.transcript.String())
	}
	need := w.needs(d.Next.Weight)
	if grouped {
		need = w.needsGroup(d.Next.Weight)
	}
	if c.ready < w.suffices(need) || c.replicas < need {
		w.t.Fatalf("%s with %d of %d pods ready, of which %s are enough\n%s", to, c.ready, need, w.spec.ReadyThreshold, w.transcript.String())
	}
	if w.state.Order != nil || slices.ContainsFunc(d.Actions, func(a v1alpha1.ActionRecord) bool {
		return a.Action == v1alpha1.ActionPromote && a.Result == v1alpha1.ResultDone
	}) {
		return // a person has ordered it: nothing but pods and subset need be there
	}
	for _, name := range tableNames {
		i := slices.IndexFunc(w.tables[name], func(r shift.Route) bool { return r.Version == d.Next.Candidate })
		if has := i >= 0 && w.tables[name][i].Weight == w.state.Weight; !has && (w.state.Weight > 0 || len(w.tables[name]) == 0) {
			w.t.Fatalf("%s from %s, which table %s does not say: %v\n%s", to, w.state.Weight, name, w.tables[name], w.transcript.String())
		}
	}
	w.checkLetGo(to)
	unjudged := w.spec.SkipAnalysis || shift.Previewing(w.state)
	if !w.evidence && !unjudged {
		w.t.Fatalf("%s without evidence\n%s", to, w.transcript.String())
	}
	if w.spec.Paused || w.spec.Suspend || w.stopped {
		w.t.Fatalf("%s while paused or suspended\n%s", to, w.transcript.String())
	}
	if !shift.Exposed(w.state) {
		return
	}
	if held := w.now.Sub(w.raisedAt); held < w.hold() {
		w.t.Fatalf("%s after %s of a hold of %s\n%s", to, held, w.hold(), w.transcript.String())
	}
	if n := d.Next.Gate.Candidate.Requests; n != 0 {
		w.t.Fatalf("evidence of the rung before is kept: %d requests\n%s", n, w.transcript.String())
	}
	if n := w.state.Gate.Candidate.Requests; n < int64(*w.spec.MinRequests)-w.rps*10 && !unjudged {
		w.t.Fatalf("%s on %d requests\n%s", to, n, w.transcript.String())
	}
}

// checkWindow refuses to spare a candidate its steps that users were not on a short while ago.
func (w *world) checkWindow(d shift.Decision) {
	w.t.Helper()
	if !d.Next.WithinRollbackWindow || w.state.WithinRollbackWindow {
		return
	}
	i, window := slices.Index(w.former, d.Next.Candidate), w.spec.RollbackWindow
	if window == nil || i < 0 || i >= int(window.Revisions) || !w.proven[d.Next.Candidate] || w.spec.Paused || w.stopped {
		w.t.Fatalf("%s takes no steps (window %v, proven %t); users were on %v before\n%s", d.Next.Candidate, window, w.proven[d.Next.Candidate], w.former, w.transcript.String())
	}
}

// checkGivenUp refuses to give the stable version up for a candidate that lacks pods, where fewer were enough for its weights.
func (w *world) checkGivenUp(d shift.Decision) {
	w.t.Helper()
	ordered := w.state.Order != nil || slices.ContainsFunc(d.Actions, func(a v1alpha1.ActionRecord) bool { return a.Action == v1alpha1.ActionPromote })
	if d.Ended == nil || d.Ended.Reason != v1alpha1.ReasonPromoted || ordered {
		return
	}
	need, has := w.needs(v1alpha1.Whole), w.versions[d.Next.Stable].ready
	if w.suffices(need) < need && has < need {
		w.t.Fatalf("%s is promoted with %d of %d pods ready\n%s", d.Next.Stable, has, need, w.transcript.String())
	}
}

// hold is how long the candidate must stay where it stands.
func (w *world) hold() time.Duration {
	step, steps := shift.Step(w.spec, w.state)
	i := step - 1 - (steps - len(w.spec.Steps)) // a strategy may open with a rung of its own
	switch {
	case w.spec.SkipAnalysis:
		return 0
	case i == -1 && w.spec.ABTest != nil && w.spec.ABTest.Duration != nil:
		return w.spec.ABTest.Duration.Duration
	case steps > 0 && i >= 0 && w.spec.Steps[i].Hold != nil:
		return w.spec.Steps[i].Hold.Duration
	}
	return w.spec.Hold.Duration
}

func (w *world) note(d shift.Decision) {
	if w.last.Next.Phase == d.Next.Phase && w.last.Next.Stage == d.Next.Stage && w.last.Next.Weight == d.Next.Weight && w.last.Next.Rung == d.Next.Rung && w.last.Reason == d.Reason {
		return
	}
	fmt.Fprintf(&w.transcript, "%s %s\n", w.now.Format("04:05"), d)
	w.last = d
}

// run lets passes and seconds alternate until done says so, or for at most limit seconds.
func (w *world) run(limit int, done func() bool) {
	w.t.Helper()
	for range limit {
		w.pass(-1)
		w.pass(-1)
		if done() {
			return
		}
		w.tick()
	}
	w.t.Fatalf("not done after %d seconds: %s\n%s", limit, w.last, w.transcript.String())
}

func (w *world) at(phase v1alpha1.Phase) func() bool {
	return func() bool { return w.state.Phase == phase && len(w.state.Retiring) == 0 }
}

func (w *world) atWeight(p v1alpha1.Permille) func() bool {
	return func() bool { return w.state.Weight == p && w.state.RoutedSince != nil }
}

// idle asserts that the same input twice asks for the same world.
func (w *world) idle() {
	w.t.Helper()
	before := w.observe()
	first, err := shift.Decide(w.spec, w.state, before)
	if err != nil {
		w.t.Fatalf("deciding: %v", err)
	}
	second, err := shift.Decide(w.spec, first.Next, before)
	if err != nil {
		w.t.Fatalf("deciding again: %v", err)
	}
	noticed := first.Next.SubsetSince == nil && second.Next.SubsetSince != nil // a place that was found again sees what stands a pass later
	if diff := cmp.Diff(first.Desired, second.Desired); diff != "" && !noticed && first.Next.Phase == second.Next.Phase && first.Next.Weight == second.Next.Weight && first.Next.Stage == second.Next.Stage && first.Next.Rung == second.Next.Rung {
		w.t.Fatalf("the same input twice asks for two worlds (-first +second):\n%s\n%s", diff, w.transcript.String())
	}
}

func adopted(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.run(60, w.at(v1alpha1.PhaseStable))
	return w
}

// decide asks what would come next, and does not let it come.
func (w *world) decide(obs shift.Observation) shift.Decision {
	w.t.Helper()
	d, err := shift.Decide(w.spec, w.state, obs)
	if err != nil {
		w.t.Fatalf("deciding: %v\n%s", err, w.transcript.String())
	}
	return d
}

// wait lets seconds go by.
func (w *world) wait(seconds int) {
	w.t.Helper()
	for range seconds {
		w.pass(-1)
		w.tick()
	}
}
