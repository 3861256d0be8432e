package query

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/common/model"
)

// countedFor is how long it is remembered that Prometheus has the metric: asking touches all of its series.
const countedFor = time.Hour

// silence says why there is no series, for each target of a batch that has none. It asks nothing where all have some, and says nothing
// where it is not answered: that there is no series is known all the same.
func (c *Collector) silence(ctx context.Context, b batch, s sight, newest sampled, at time.Time) []error {
	why := make([]error, len(b.targets))
	var silent []Subject
	for i, t := range b.targets {
		if s.silent(t.subject, newest) && !c.heard(b.watches[i]) {
			silent = append(silent, t.subject)
		}
	}
	if len(silent) == 0 {
		return why
	}
	labelled := map[string]model.Vector{}
	for _, group := range byMetric(silent) {
		v, err := c.labelled(ctx, group, at)
		if err != nil {
			return why
		}
		labelled[group[0].metric()] = v
	}
	for i, t := range b.targets {
		if s.silent(t.subject, newest) {
			why[i] = c.silenceOf(ctx, t.subject, labelled[t.subject.metric()], at)
		}
	}
	return why
}

// silent reports whether a look showed nothing of a subject.
func (s sight) silent(subject Subject, newest sampled) bool {
	return len(s.of(subject, true).requests) == 0 && newest.of(subject) == [reporters]time.Time{}
}

// heard reports whether there was a series of a watch before: then what it lacks is a fresh one.
func (c *Collector) heard(w *watch) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(w.ledger.requests) > 0
}

// labelled asks for the labels under which services of one metric are counted, their versions aside.
func (c *Collector) labelled(ctx context.Context, subjects []Subject, at time.Time) (model.Vector, error) {
	var hosts, names, homes []string
	metric := subjects[0].metric()
	for _, s := range subjects {
		name, _, _ := strings.Cut(s.Service, ".")
		hosts, names, homes = append(hosts, s.Service), append(names, name), append(homes, s.Namespace)
	}
	byHost := fmt.Sprintf("%s{%s=~%s}", metric, labelService, anyOf(distinct(hosts)))
	byName := fmt.Sprintf("%s{%s=~%s,%s=~%s}", metric, labelName, anyOf(distinct(names)), labelHome, anyOf(distinct(homes)))
	return c.query(ctx, kindSilence, fmt.Sprintf("count by (%s,%s,%s,%s,%s,%s) (%s or %s)",
		labelReporter, labelService, labelName, labelHome, labelWorkload, labelNamespace, lastWithin(c.options.Memory)(byHost), lastWithin(c.options.Memory)(byName)), at)
}

// silenceOf tells a service that is counted under too few labels from one that is not counted, and from a mesh that counts nothing.
func (c *Collector) silenceOf(ctx context.Context, s Subject, labelled model.Vector, at time.Time) error {
	name, _, _ := strings.Cut(s.Service, ".")
	for _, x := range labelled {
		m := x.Metric
		same := string(m[labelService]) == s.Service || string(m[labelName]) == name && string(m[labelHome]) == s.Namespace
		if same && (m[labelReporter] == "" || m[labelWorkload] == "" || m[labelNamespace] == "") {
			return ErrNoLabels
		}
		if same {
			return ErrNoTraffic // to other pods of the same Service, or before these versions were
		}
	}
	has, err := c.countedAtAll(ctx, s.metric(), at)
	switch {
	case err != nil:
		return nil
	case has:
		return ErrNoTraffic
	}
	return ErrNoMetric
}

// counted is whether Prometheus had a metric at some time.
type counted struct {
	is bool
	at time.Time
}

// countedAtAll asks whether Prometheus has the metric. What it found is remembered; that there is none only for MaxAge.
func (c *Collector) countedAtAll(ctx context.Context, metric string, at time.Time) (bool, error) {
	c.mu.Lock()
	last, asked := c.counted[metric]
	c.mu.Unlock()
	if age := at.Sub(last.at); asked && age >= 0 && (last.is && age < countedFor || age < c.options.MaxAge) {
		return last.is, nil
	}
	v, err := c.query(ctx, kindSilence, fmt.Sprintf("count by (%s) (%s{})", labelReporter, metric), at)
	if err != nil {
		return false, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counted[metric] = counted{len(v) > 0, at}
	return len(v) > 0, nil
}
