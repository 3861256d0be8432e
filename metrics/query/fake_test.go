package query

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/common/model"
)

// fakePrometheus keeps samples and evaluates the few forms of PromQL that Sluice writes, as a server would: 5 minutes of
// look-back, stale markers that hide a series from instant selectors only, anchored regular expressions.
type fakePrometheus struct {
	mu      sync.Mutex
	series  map[string]*fakeSeries
	queries []string
	// custom are the values of further queries.
	custom map[string]model.Value
	// answer, where set, answers instead; it returns false to let the request pass.
	answer func(w http.ResponseWriter, r *http.Request) bool
}

type fakeSeries struct {
	labels  model.Metric
	samples []fakeSample
}

type fakeSample struct {
	at    time.Time
	value float64
	stale bool
}

func newFake() *fakePrometheus { return &fakePrometheus{series: map[string]*fakeSeries{}} }

const lookback = 5 * time.Minute

// add appends a sample to a series.
func (p *fakePrometheus) add(at time.Time, value float64, stale bool, labels model.Metric) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.series[labels.String()]
	if s == nil {
		s = &fakeSeries{labels: labels}
		p.series[labels.String()] = s
	}
	s.samples = append(s.samples, fakeSample{at, value, stale})
}

// up has Prometheus scrape something at that time.
func (p *fakePrometheus) up(at time.Time) { p.add(at, 1, false, model.Metric{"__name__": "up"}) }

// clear loses all data, as a Prometheus without a disk does when it restarts.
func (p *fakePrometheus) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.series = map[string]*fakeSeries{}
}

// asked returns the queries so far, and forgets them.
func (p *fakePrometheus) asked() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.queries
	p.queries = nil
	return q
}

func (p *fakePrometheus) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	p.mu.Lock()
	p.queries = append(p.queries, r.Form.Get("query"))
	answer := p.answer
	p.mu.Unlock()
	if answer != nil && answer(w, r) {
		return
	}
	var v model.Value
	var err error
	switch r.URL.Path {
	case "/api/v1/query":
		var known bool
		if v, known = p.custom[r.Form.Get("query")]; !known {
			v, err = p.eval(r.Form.Get("query"), timeOf(r, "time"))
		}
	case "/api/v1/query_range":
		v, err = p.evalRange(r)
	default:
		err = fmt.Errorf("the fake does not know %s", r.URL.Path)
	}
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = fmt.Fprintf(w, `{"status":"error","errorType":"bad_data","error":%q}`, err)
		return
	}
	writeValue(w, v, nil)
}

func timeOf(r *http.Request, key string) time.Time {
	seconds, err := strconv.ParseFloat(r.Form.Get(key), 64)
	if err != nil {
		panic(fmt.Sprintf("%s=%q is no time", key, r.Form.Get(key)))
	}
	return time.UnixMilli(int64(seconds*1000 + 0.5)).UTC()
}

// evalRange evaluates instant queries one after the other, as a server does.
func (p *fakePrometheus) evalRange(r *http.Request) (model.Matrix, error) {
	step, err := strconv.ParseFloat(r.Form.Get("step"), 64)
	if err != nil {
		return nil, err
	}
	all := map[model.Fingerprint]*model.SampleStream{}
	for at := timeOf(r, "start"); !at.After(timeOf(r, "end")); at = at.Add(time.Duration(step * float64(time.Second))) {
		v, err := p.eval(r.Form.Get("query"), at)
		if err != nil {
			return nil, err
		}
		for _, s := range v {
			stream := all[s.Metric.Fingerprint()]
			if stream == nil {
				stream = &model.SampleStream{Metric: s.Metric}
				all[s.Metric.Fingerprint()] = stream
			}
			stream.Values = append(stream.Values, model.SamplePair{Timestamp: s.Timestamp, Value: s.Value})
		}
	}
	return slices.Collect(maps.Values(all)), nil
}

func writeValue(w http.ResponseWriter, v model.Value, warnings []string) {
	_ = json.NewEncoder(w).Encode(map[string]any{
		"status": "success", "warnings": warnings,
		"data": map[string]any{"resultType": v.Type().String(), "result": v},
	})
}

var (
	upForm     = regexp.MustCompile(`^count\(up offset (\w+)\)$`)
	freshForm  = regexp.MustCompile(`^max by \(([\w,]+)\) \((.*)\)$`)
	timesForm  = regexp.MustCompile(`^timestamp\((.*)\)$`)
	boundsForm = regexp.MustCompile(`^count by \(([\w,]+)\) \((.*)\)$`)
	lastForm   = regexp.MustCompile(`^last_over_time\((.*)\[(\w+)\]\)$`)
	selectForm = regexp.MustCompile(`^(\w+)\{(.*)\}$`)
	matchForm  = regexp.MustCompile(`^(\w+)([=!])~("(?:[^"\\]|\\.)*"),?`)
)

func (p *fakePrometheus) eval(promql string, at time.Time) (model.Vector, error) {
	if m := upForm.FindStringSubmatch(promql); m != nil {
		offset, err := model.ParseDuration(m[1])
		if err != nil {
			return nil, err
		}
		return grouped(p.instant("up", nil, at.Add(-time.Duration(offset)), 0), nil, func(fakeSample) float64 { return 1 }, at), nil
	}
	if m := freshForm.FindStringSubmatch(promql); m != nil {
		found, err := p.selection(m[2], at)
		return grouped(found, strings.Split(m[1], ","), func(s fakeSample) float64 { return float64(s.at.UnixMilli()) / 1000 }, at), err
	}
	if m := boundsForm.FindStringSubmatch(promql); m != nil {
		found, err := p.selection(m[2], at)
		return grouped(found, strings.Split(m[1], ","), func(fakeSample) float64 { return 1 }, at), err
	}
	found, err := p.selection(promql, at)
	var v model.Vector
	for _, f := range found {
		v = append(v, &model.Sample{Metric: f.labels, Value: model.SampleValue(f.samples[0].value), Timestamp: model.TimeFromUnixNano(at.UnixNano())})
	}
	return v, err
}

// selection evaluates selectors joined by "or", each as it is or within last_over_time or timestamp, to one sample for each series.
func (p *fakePrometheus) selection(promql string, at time.Time) ([]fakeSeries, error) {
	var all []fakeSeries
	for part := range strings.SplitSeq(promql, " or ") {
		found, err := p.selector(part, at)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

func (p *fakePrometheus) selector(promql string, at time.Time) ([]fakeSeries, error) {
	window := time.Duration(0)
	if m := timesForm.FindStringSubmatch(promql); m != nil {
		promql = m[1]
	}
	if m := lastForm.FindStringSubmatch(promql); m != nil {
		d, err := model.ParseDuration(m[2])
		if err != nil {
			return nil, err
		}
		promql, window = m[1], time.Duration(d)
	}
	m := selectForm.FindStringSubmatch(promql)
	if m == nil {
		return nil, fmt.Errorf("the fake does not know %q", promql)
	}
	matchers := map[model.LabelName]func(string) bool{}
	for rest := m[2]; rest != ""; {
		one := matchForm.FindStringSubmatch(rest)
		if one == nil {
			return nil, fmt.Errorf("the fake does not know the matcher %q", rest)
		}
		pattern, err := strconv.Unquote(one[3])
		if err != nil {
			return nil, err
		}
		re, err := regexp.Compile("^(?s:" + pattern + ")$")
		if err != nil {
			return nil, err
		}
		matchers[model.LabelName(one[1])] = func(v string) bool { return re.MatchString(v) == (one[2] == "=") }
		rest = rest[len(one[0]):]
	}
	return p.instant(m[1], matchers, at, window), nil
}

// instant returns each series with its sample at that time: the last one within the look-back, or, with a window, the last one
// within the window whatever stale markers say.
func (p *fakePrometheus) instant(name string, matchers map[model.LabelName]func(string) bool, at time.Time, window time.Duration) []fakeSeries {
	p.mu.Lock()
	defer p.mu.Unlock()
	var found []fakeSeries
	for _, s := range p.series {
		if string(s.labels["__name__"]) != name {
			continue
		}
		matches := true
		for label, match := range matchers {
			matches = matches && match(string(s.labels[label]))
		}
		if x, ok := s.last(at, window); matches && ok {
			found = append(found, fakeSeries{s.labels, []fakeSample{x}})
		}
	}
	return found
}

func (s *fakeSeries) last(at time.Time, window time.Duration) (fakeSample, bool) {
	for _, x := range slices.Backward(s.samples) {
		switch {
		case x.at.After(at), window > 0 && x.stale:
			continue
		case window > 0:
			return x, x.at.After(at.Add(-window))
		}
		return x, !x.stale && x.at.After(at.Add(-lookback))
	}
	return fakeSample{}, false
}

// grouped aggregates by labels with the largest value of each group.
func grouped(found []fakeSeries, by []string, value func(fakeSample) float64, at time.Time) model.Vector {
	groups := map[model.Fingerprint]*model.Sample{}
	for _, f := range found {
		m := model.Metric{}
		for _, l := range by {
			m[model.LabelName(l)] = f.labels[model.LabelName(l)]
		}
		v := model.SampleValue(value(f.samples[0]))
		if old := groups[m.Fingerprint()]; old == nil || v > old.Value {
			groups[m.Fingerprint()] = &model.Sample{Metric: m, Value: v, Timestamp: model.TimeFromUnixNano(at.UnixNano())}
		}
	}
	var all model.Vector
	for _, s := range groups {
		all = append(all, s)
	}
	return all
}

// RoundTrip serves a request without a socket, so that it can be used where time is not real.
func (p *fakePrometheus) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return w.Result(), nil
}

// client returns a client of the fake.
func (p *fakePrometheus) client(t testing.TB) *Client {
	t.Helper()
	c, err := NewClient("http://prometheus.test:9090", p)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
