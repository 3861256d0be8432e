package query

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"
)

// replayed is a Prometheus that answers each query as the fake did the first time, so that a benchmark measures the collector and
// not the fake.
type replayed struct {
	fake    *fakePrometheus
	answers map[string]string
}

func (p *replayed) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	key := string(body)
	if i := strings.LastIndex(key, "&time="); i >= 0 {
		key = key[:i]
	}
	answer, known := p.answers[key]
	if !known {
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		resp, err := p.fake.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		raw, err := io.ReadAll(resp.Body)
		if err != nil {
			return nil, err
		}
		answer = string(raw)
		p.answers[key] = answer
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(answer)), Request: r}, nil
}

// BenchmarkLook is one look at 50 or 500 shifts, each with two versions that four clients and a server report on, with two response
// codes and three latency buckets: 20 counters and 60 buckets for each shift.
func BenchmarkLook(b *testing.B) {
	for _, subjects := range []int{50, 500} {
		b.Run(fmt.Sprint(subjects), func(b *testing.B) {
			p := running()
			client, err := NewClient("http://prometheus.test:9090", &replayed{p, map[string]string{}})
			if err != nil {
				b.Fatal(err)
			}
			c := NewCollector(client, plain)
			for i := range subjects {
				name := fmt.Sprintf("s%03d", i)
				s := Subject{Service: name + ".shop.svc.cluster.local", Namespace: "shop", Stable: name + "-v1", Candidate: name + "-v2", SlowAbove: 400 * time.Millisecond}
				c.Watch(Key{"shop", name}, s)
				busy(p, s)
			}
			for i := range 2 { // the first look asks for more than the others
				c.look(b.Context(), tick(i))
			}
			at := tick(1)
			b.ReportAllocs()
			b.ResetTimer()
			for b.Loop() {
				at = at.Add(time.Millisecond)
				c.look(b.Context(), at)
				drain(c)
			}
		})
	}
}

// busy has a subject's proxies scraped.
func busy(p *fakePrometheus, s Subject) {
	for _, version := range []string{s.Stable, s.Candidate} {
		for pod := range 5 {
			for _, code := range []string{"200", "503"} {
				reporter := "source"
				if pod == 4 {
					reporter = "destination"
				}
				changes := []string{labelService, s.Service, labelWorkload, version, labelReporter, reporter, labelCode, code, "pod", fmt.Sprint("client-", pod)}
				changes = append(changes, "source_workload", "client", "source_workload_namespace", "web", "connection_security_policy", "mutual_tls",
					"destination_canonical_revision", "v1", "destination_app", "shop", "cluster", "Kubernetes", "namespace", "web", "job", "envoy-stats")
				p.count(epoch, 1000, changes...)
				p.buckets(epoch, maps.Clone(map[string]float64{"250": 900, "500": 950, "+Inf": 1000}), changes...)
			}
		}
	}
}
