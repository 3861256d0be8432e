package trafficshift

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/shift"
	"github.com/sluice-dev/sluice/metrics/analysis"
	"github.com/sluice-dev/sluice/metrics/query"
	"github.com/sluice-dev/sluice/metrics/webhook"
)

// Webhooks asks the webhooks of gates. *webhook.Caller is one.
type Webhooks interface {
	Watch(webhook.Key, []webhook.Question)
	Unwatch(webhook.Key)
	Updates() <-chan webhook.Key
	Answers(webhook.Key) []webhook.Answer
}

// webhookChecks reads what the webhooks of gates said last. They are asked while there is a candidate that users meet, or are about to.
func (r *Reconciler) webhookChecks(w *world) []shift.Check {
	key := webhook.Key{Namespace: w.shift.Namespace, Name: w.shift.Name}
	questions := questionsOf(w)
	if len(questions) == 0 {
		r.Webhooks.Unwatch(key)
		return nil
	}
	r.Webhooks.Watch(key, questions)
	var checks []shift.Check
	for _, a := range r.Webhooks.Answers(key) {
		checks = append(checks, shift.Check{Gate: a.Gate, ReadAt: a.At, Outcome: a.Outcome, Value: math.NaN(), Limit: math.NaN(), Message: a.Message})
	}
	return checks
}

// questionsOf are the webhooks that are to be asked on the present step; none where no candidate is being judged.
func questionsOf(w *world) []webhook.Question {
	var questions []webhook.Question
	for _, g := range shift.Asked(w.spec, w.shift.Status.State) {
		if g.Webhook == nil {
			continue
		}
		q := webhook.Question{
			URL: g.Webhook.URL, Interval: g.Webhook.Interval.Duration, Timeout: g.Webhook.Timeout.Duration, Retries: int(*g.Webhook.Retries),
			OnError: analysis.Inconclusive, Event: eventOf(w.shift, g.Name),
		}
		if g.Webhook.OnError == v1alpha1.OnErrorFail {
			q.OnError = analysis.Fail
		}
		questions = append(questions, q)
	}
	return questions
}

func eventOf(ts *v1alpha1.TrafficShift, gate string) webhook.Event {
	state := ts.Status.State
	return webhook.Event{
		Gate: gate, Namespace: ts.Namespace, Name: ts.Name, UID: string(ts.UID), Run: runOf(ts),
		Stable: state.Stable, Candidate: state.Candidate, Weight: state.Weight.String(),
		Phase: string(state.Phase), Stage: string(state.Stage), Step: ts.Status.Step,
	}
}

// runOf names the release of the present candidate. It is made of what status keeps, so that a controller that takes over asks about
// the same one; the time tells a candidate that is tried again from its first try.
func runOf(ts *v1alpha1.TrafficShift) string {
	started := int64(0)
	if at := ts.Status.State.StartedAt; at != nil {
		started = at.UnixMicro()
	}
	return fmt.Sprintf("%s-%s-%d", ts.UID, ts.Status.State.Candidate, started)
}

// freshScrapes is how many scrape intervals a reading counts for.
const freshScrapes = 4

// queryChecks holds readings against the bounds of the query gates that they are of, in the order of the spec. A gate without a reading
// was not asked yet, and one from before oldest says nothing of the present.
func queryChecks(gates []v1alpha1.Gate, readings []query.Reading, oldest time.Time) []shift.Check {
	var checks []shift.Check
	for _, g := range gates {
		if g.Query == nil {
			continue
		}
		i := slices.IndexFunc(readings, func(r query.Reading) bool { return r.Name == g.Name })
		if i < 0 {
			checks = append(checks, unread(g.Name, time.Time{}, analysis.Inconclusive, "not asked yet"))
			continue
		}
		if readings[i].At.Before(oldest) {
			checks = append(checks, unread(g.Name, readings[i].At, analysis.Inconclusive, "no fresh reading"))
			continue
		}
		checks = append(checks, queryCheck(g, readings[i]))
	}
	return checks
}

func queryCheck(g v1alpha1.Gate, r query.Reading) shift.Check {
	switch {
	case r.Err != nil:
		return unread(g.Name, r.At, analysis.Inconclusive, without(r.Err).Missing)
	case !r.Data || math.IsNaN(r.Value):
		noData := cmp.Or(g.Query.NoData, v1alpha1.NoDataHold)
		outcome := map[v1alpha1.NoData]analysis.Outcome{v1alpha1.NoDataPass: analysis.Pass, v1alpha1.NoDataFail: analysis.Fail}[noData]
		return unread(g.Name, r.At, cmp.Or(outcome, analysis.Inconclusive), fmt.Sprintf("no data, for which noData says %s", noData))
	}
	least, most := g.Query.Bounds()
	c := shift.Check{Gate: g.Name, ReadAt: r.At, Outcome: analysis.Pass, Value: r.Value, Limit: most}
	if math.IsInf(most, 1) || r.Value-least < most-r.Value {
		c.Limit = least // the nearer one
	}
	value := number(r.Value, c.Limit)
	switch {
	case r.Value < least:
		c.Outcome, c.Limit, c.Message = analysis.Fail, least, fmt.Sprintf("%s, below the least of %s", value, g.Query.Min)
	case r.Value > most:
		c.Outcome, c.Limit, c.Message = analysis.Fail, most, fmt.Sprintf("%s, above the most of %s", value, g.Query.Max)
	case math.IsInf(r.Value, 0):
		// A division by nothing, on the side that has no bound: that is no measurement.
		c.Outcome, c.Message = analysis.Inconclusive, value+" is no measurement"
	case g.Query.Min == "":
		c.Message = fmt.Sprintf("%s, at most %s", value, g.Query.Max)
	case g.Query.Max == "":
		c.Message = fmt.Sprintf("%s, at least %s", value, g.Query.Min)
	default:
		c.Message = fmt.Sprintf("%s, from %s to %s", value, g.Query.Min, g.Query.Max)
	}
	return c
}

// unread is a check without numbers.
func unread(gate string, at time.Time, outcome analysis.Outcome, message string) shift.Check {
	return shift.Check{Gate: gate, ReadAt: at, Outcome: outcome, Value: math.NaN(), Limit: math.NaN(), Message: message}
}

// number writes a value in six digits, or in as many as it takes to tell it from the limit beside it.
func number(v, limit float64) string {
	text := strconv.FormatFloat(v, 'g', 6, 64)
	if a := math.Abs(v); a >= 1e6 && a < 1e15 {
		text = strconv.FormatFloat(v, 'f', 0, 64)
	}
	if short, err := strconv.ParseFloat(text, 64); err == nil && short == limit && v != limit {
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	return text
}
