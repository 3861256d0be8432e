package trafficshift

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/shift"
	"github.com/sluice-dev/sluice/metrics/analysis"
	"github.com/sluice-dev/sluice/metrics/query"
	"github.com/sluice-dev/sluice/metrics/webhook"
)

func queryGate(least, most string, noData v1alpha1.NoData) v1alpha1.Gate {
	return v1alpha1.Gate{Name: "ask", Query: &v1alpha1.QueryGate{PromQL: "up", Min: least, Max: most, NoData: noData}}
}

func TestAReadingIsHeldAgainstItsBounds(t *testing.T) {
	when := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	value := func(v float64) query.Reading { return query.Reading{Name: "ask", At: when, Value: v, Data: true} }
	none, nan := query.Reading{Name: "ask", At: when}, value(math.NaN())
	down := query.Reading{Name: "ask", At: when, Err: fmt.Errorf("asking at 12:00:01: %w", query.ErrUnreachable)}
	broken := query.Reading{Name: "ask", At: when, Value: 1, Data: true, Err: errors.New("it gives 2 values; accepted is one")}
	tests := map[string]struct {
		least, most string
		noData      v1alpha1.NoData
		reading     query.Reading
		want        string // outcome, limit, message
	}{
		"AtLeast":        {"0.95", "", "", value(0.97), "Pass 0.95: 0.97, at least 0.95"},
		"OnTheLeast":     {"0.95", "", "", value(0.95), "Pass 0.95: 0.95, at least 0.95"},
		"Below":          {"0.95", "", "", value(0.93), "Fail 0.95: 0.93, below the least of 0.95"},
		"JustBelow":      {"0.95", "", "", value(0.94999999999), "Fail 0.95: 0.94999999999, below the least of 0.95"},
		"AtMost":         {"", "1e3", "", value(999.5), "Pass 1000: 999.5, at most 1e3"},
		"OnTheMost":      {"", "1e3", "", value(1000), "Pass 1000: 1000, at most 1e3"},
		"Above":          {"", "1e3", "", value(1234567.8), "Fail 1000: 1234568, above the most of 1e3"},
		"Within":         {"-5", "5", "", value(-3), "Pass -5: -3, from -5 to 5"},
		"WithinNearMost": {"-5", "5", "", value(3), "Pass 5: 3, from -5 to 5"},
		"BelowBoth":      {"-5", "5", "", value(-6), "Fail -5: -6, below the least of -5"},
		"AboveBoth":      {"-5", "5", "", value(6), "Fail 5: 6, above the most of 5"},
		"InfiniteAbove":  {"", "5", "", value(math.Inf(1)), "Fail 5: +Inf, above the most of 5"},
		"InfiniteBelow":  {"5", "", "", value(math.Inf(-1)), "Fail 5: -Inf, below the least of 5"},
		"InfiniteGood":   {"5", "", "", value(math.Inf(1)), "Inconclusive 5: +Inf is no measurement"},
		"NoData":         {"5", "", "", none, "Inconclusive NaN: no data, for which noData says hold"},
		"NoDataHold":     {"5", "", v1alpha1.NoDataHold, nan, "Inconclusive NaN: no data, for which noData says hold"},
		"NoDataPass":     {"5", "", v1alpha1.NoDataPass, none, "Pass NaN: no data, for which noData says pass"},
		"NoDataFail":     {"5", "", v1alpha1.NoDataFail, nan, "Fail NaN: no data, for which noData says fail"},
		"Unreachable":    {"5", "", v1alpha1.NoDataFail, down, "Inconclusive NaN: Prometheus does not answer: check that it runs, and its address (the chart's controller.prometheusAddress)"},
		"NotOneValue":    {"0", "", v1alpha1.NoDataPass, broken, "Inconclusive NaN: it gives 2 values; accepted is one"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			checks := queryChecks([]v1alpha1.Gate{queryGate(tc.least, tc.most, tc.noData)}, []query.Reading{{Name: "other"}, tc.reading}, time.Time{})
			if len(checks) != 1 || checks[0].Gate != "ask" || !checks[0].ReadAt.Equal(when) {
				t.Fatalf("checks %+v", checks)
			}
			if got := fmt.Sprintf("%s %v: %s", checks[0].Outcome, checks[0].Limit, checks[0].Message); got != tc.want {
				t.Errorf("%s; want %s", got, tc.want)
			}
		})
	}
}

func TestAGateThatWasNotAskedYetSaysSo(t *testing.T) {
	gates := []v1alpha1.Gate{queryGate("1", "", ""), {Name: "go", Manual: &v1alpha1.ManualGate{}}, {Name: "desk", Webhook: &v1alpha1.WebhookGate{}}}
	want := []shift.Check{{Gate: "ask", Outcome: analysis.Inconclusive, Value: math.NaN(), Limit: math.NaN(), Message: "not asked yet"}}
	if diff := cmp.Diff(want, queryChecks(gates, nil, time.Time{}), cmpopts.EquateNaNs()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Whatever is read, nothing passes that is not within the bounds, and only noData: pass lets silence through.
func TestNothingPassesOutOfBounds(t *testing.T) {
	floats := rapid.OneOf(rapid.Float64(), rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), math.Inf(-1), 0, 5}))
	rapid.Check(t, func(t *rapid.T) {
		g := queryGate(rapid.SampledFrom([]string{"", "-1", "0.5", "5"}).Draw(t, "least"), rapid.SampledFrom([]string{"", "5", "1e9"}).Draw(t, "most"),
			rapid.SampledFrom([]v1alpha1.NoData{"", v1alpha1.NoDataHold, v1alpha1.NoDataFail}).Draw(t, "noData"))
		r := query.Reading{Name: "ask", Value: floats.Draw(t, "value"), Data: rapid.Bool().Draw(t, "data")}
		least, most := g.Query.Bounds()
		got := queryChecks([]v1alpha1.Gate{g}, []query.Reading{r}, time.Time{})[0]
		within := r.Data && r.Value >= least && r.Value <= most && !math.IsInf(r.Value, 0)
		if (got.Outcome == analysis.Pass) != within {
			t.Fatalf("%v within %v and %v (data %t): %s", r.Value, least, most, r.Data, got.Outcome)
		}
	})
}

const gates = `
  gates:
  - {name: desk, webhook: {url: "http://desk.shop:8080/ask", onError: fail, retries: 1, interval: 20s, timeout: 3s}}
  - {name: checkout, query: {promql: up, min: "1"}}
  - {name: go, manual: {before: "50"}}
  - {name: other, webhook: {url: "https://other.example.com/"}}
`

func (c *cluster) adoptWithGates() {
	c.Helper()
	c.apply(service)
	c.apply(trafficShift[:len(trafficShift)-1] + gates)
	c.kubelet()
	c.run("adoption", 60, resting)
}

// Webhooks are asked from the moment that a candidate is about to meet users until it is gone, and each is told what it is about.
func TestWebhooksAreAskedWhileACandidateIsJudged(t *testing.T) {
	c := newCluster(t)
	c.adoptWithGates()
	if c.hooks.asked != nil || c.hooks.stopped == 0 {
		t.Fatalf("at rest they are asked: %+v", c.hooks.asked)
	}
	c.broken[2] = true
	c.setImage("micro-api:1.2")
	c.run("its pods", 60, func(s *v1alpha1.TrafficShift) bool { return s.Status.State.Stage == v1alpha1.StagePreparing })
	if c.pass(); c.hooks.asked != nil {
		t.Fatalf("before its pods are ready they are asked: %+v", c.hooks.asked)
	}
	c.broken[2] = false
	c.run("the first weight", 60, func(s *v1alpha1.TrafficShift) bool { return s.Status.State.Weight > 0 })
	c.pass()
	s := c.shift()
	event := webhook.Event{
		Gate: "desk", Namespace: c.ns, Name: "micro-api", UID: string(s.UID), Run: fmt.Sprintf("%s-v2-%d", s.UID, s.Status.State.StartedAt.UnixMicro()),
		Stable: "v1", Candidate: "v2", Weight: "5%", Phase: "Progressing", Stage: "Stepping", Step: s.Status.Step,
	}
	other := event
	other.Gate = "other"
	want := []webhook.Question{
		{URL: "http://desk.shop:8080/ask", Interval: 20 * time.Second, Timeout: 3 * time.Second, Retries: 1, OnError: analysis.Fail, Event: event},
		{URL: "https://other.example.com/", Interval: 15 * time.Second, Timeout: 5 * time.Second, Retries: 2, OnError: analysis.Inconclusive, Event: other},
	}
	if diff := cmp.Diff(want, c.hooks.asked); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
	c.patch(&v1alpha1.TrafficShift{}, "micro-api", `{"metadata":{"annotations":{"sluice.dev/abort":"v2"}}}`)
	c.run("the way back", 60, func(s *v1alpha1.TrafficShift) bool { return s.Status.Phase == v1alpha1.PhaseRollingBack })
	if c.pass(); c.hooks.asked != nil {
		t.Errorf("of a candidate that is refused they are still asked: %+v", c.hooks.asked)
	}
}

func TestAnAnswerBecomesACheck(t *testing.T) {
	c := newCluster(t)
	c.adoptWithGates()
	c.setImage("micro-api:1.2")
	c.run("the first weight", 60, func(s *v1alpha1.TrafficShift) bool { return s.Status.State.Weight > 0 })
	when := c.clock.Add(-time.Second)
	c.hooks.answers = map[string]webhook.Answer{
		"desk":  {At: when, Outcome: analysis.Fail, Message: "desk.shop:8080 answered 403 Forbidden (asked 2 times)"},
		"other": {Outcome: analysis.Inconclusive, Message: "no answer yet"},
	}
	w, err := c.observe(t.Context(), c.shift())
	if err != nil {
		t.Fatal(err)
	}
	want := []shift.Check{
		{Gate: "desk", ReadAt: when, Outcome: analysis.Fail, Value: math.NaN(), Limit: math.NaN(), Message: "desk.shop:8080 answered 403 Forbidden (asked 2 times)"},
		{Gate: "other", Outcome: analysis.Inconclusive, Value: math.NaN(), Limit: math.NaN(), Message: "no answer yet"},
		{Gate: "checkout", Outcome: analysis.Inconclusive, Value: math.NaN(), Limit: math.NaN(), Message: "not asked yet"},
	}
	if diff := cmp.Diff(want, w.observation.Checks, cmpopts.EquateNaNs()); diff != "" {
		t.Errorf("checks (-want +got):\n%s", diff)
	}
}

// A release that is tried again is another run, and a controller that takes over asks about the same one.
func TestARunIsNamedByWhatStatusKeeps(t *testing.T) {
	ts := &v1alpha1.TrafficShift{}
	ts.UID, ts.Status.State.Candidate = "6f1c", "v2"
	began := metav1.NewMicroTime(time.Date(2026, 11, 1, 12, 0, 0, 123456000, time.UTC))
	ts.Status.State.StartedAt = &began
	if got := runOf(ts); got != "6f1c-v2-1793534400123456" {
		t.Errorf("run %q", got)
	}
	if again := runOf(ts.DeepCopy()); again != runOf(ts) {
		t.Errorf("the same release has two names: %q and %q", again, runOf(ts))
	}
}

// An approval is for one candidate, and is taken away once it has been counted: it must not meet the next release, or the next gate.
func TestAnApprovalIsUsedOnce(t *testing.T) {
	c := newCluster(t)
	c.adoptWithGates()
	approve := func(version string) {
		c.patch(&v1alpha1.TrafficShift{}, "micro-api", `{"metadata":{"annotations":{"sluice.dev/approve":"`+version+`"}}}`)
	}
	left := func() string { return c.shift().Annotations[v1alpha1.AnnotationApprove] }
	approve("v2")
	if c.pass(); left() != "" {
		t.Error("without a candidate it stays, and would meet the next release")
	}
	c.setImage("micro-api:1.2")
	c.run("the first weight", 60, func(s *v1alpha1.TrafficShift) bool { return s.Status.State.Weight > 0 })
	approve("v1")
	if c.pass(); left() != "" {
		t.Error("that of another version stays")
	}
	approve("v2")
	w, err := c.observe(t.Context(), c.shift())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]shift.Request{{Action: v1alpha1.ActionApprove, Source: v1alpha1.SourceAnnotation, Value: "v2", By: "kubectl"}}, w.observation.Requests); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	s := c.shift()
	s.Status.State.Awaiting = []string{"go"}
	if d := decisionOf(t, c, &world{shift: s, spec: w.spec, observation: w.observation}); !slices.Contains(d.Next.Approved, "go") {
		t.Errorf("approved %v; want the gate that waits", d.Next.Approved)
	}
	if c.pass(); left() != "" {
		t.Error("it stays for a gate that may wait later")
	}
}

// channels are sources of news.
type channels struct {
	hooks
	evidence chan query.Key
	answers  chan webhook.Key
}

func (c *channels) Updates() <-chan webhook.Key { return c.answers }

type evidenceOf struct {
	counts
	updates chan query.Key
}

func (e *evidenceOf) Updates() <-chan query.Key { return e.updates }

func TestEvidenceAndAnswersWakeTheirShift(t *testing.T) {
	c := &channels{evidence: make(chan query.Key, 1), answers: make(chan webhook.Key, 1)}
	news := (&Reconciler{Evidence: &evidenceOf{updates: c.evidence}, Webhooks: c}).news()
	next := func() string {
		e, open := <-news
		if !open {
			return "closed"
		}
		return e.Object.GetNamespace() + "/" + e.Object.GetName()
	}
	c.evidence <- query.Key{Namespace: "shop", Name: "counted"}
	if got := next(); got != "shop/counted" {
		t.Error(got)
	}
	c.answers <- webhook.Key{Namespace: "shop", Name: "answered"}
	if got := next(); got != "shop/answered" {
		t.Error(got)
	}
	close(c.evidence)
	close(c.answers)
	if got := next(); got != "closed" {
		t.Error(got)
	}
}

func TestAnOldReadingSaysNothing(t *testing.T) {
	when := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	r := []query.Reading{{Name: "ask", At: when, Value: 1, Data: true}}
	gates := []v1alpha1.Gate{queryGate("0.5", "", "")}
	if c := queryChecks(gates, r, when)[0]; c.Outcome != analysis.Pass {
		t.Errorf("a reading that is just fresh: %+v", c)
	}
	if c := queryChecks(gates, r, when.Add(time.Millisecond))[0]; c.Outcome != analysis.Inconclusive || c.Message != "no fresh reading" {
		t.Errorf("a reading that is not: %+v", c)
	}
}
