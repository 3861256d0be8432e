package query

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-dev/sluice/metrics/analysis"
)

// connect has Prometheus scrape a counter of the candidate's connections, as its server reports it, with changed labels.
func (p *fakePrometheus) connect(n int, value float64, changes ...string) {
	p.count(tick(n), value, append([]string{"__name__", metricConnections, labelProtocol, "tcp", labelCode, "", labelReporter, "destination"}, changes...)...)
}

// The server's proxy tells which connections the application took; the clients' tell which never got there. None is counted twice.
func TestConnectionsAreCounted(t *testing.T) {
	p := running()
	subject := shop
	subject.Connections = true
	c := newWatching(t, p, subject, plain)
	c.look(t.Context(), tick(0))
	nobody := []string{labelReporter, "source", labelWorkload, "unknown", labelNamespace, "unknown"}
	p.count(tick(1), 1000) // requests, which are another metric
	p.connect(1, 90, labelWorkload, shop.Stable)
	p.connect(1, 90, labelWorkload, shop.Stable, labelReporter, "source")
	p.connect(1, 40)
	p.connect(1, 45, labelReporter, "source")
	p.connect(1, 5, labelFlags, "UF,URX")
	p.connect(1, 2, labelFlags, "DT") // it had its time
	p.connect(1, 70, labelName, "InboundPassthroughCluster")
	p.connect(1, 3, labelReporter, "source", labelFlags, "UF,URX")
	p.connect(1, 4, append(nobody, labelFlags, "UH")...)
	c.look(t.Context(), tick(1))
	want := analysis.Sample{
		From: tick(0), To: tick(1), Newest: tick(1), Reporter: analysis.Destination,
		Candidate: requests(40+5+2+3, 5+3), Stable: requests(90, 0), Cross: requests(45+3, 3), NoHost: 4,
	}
	if diff := cmp.Diff(want, since(t, c, tick(0))); diff != "" {
		t.Errorf("-want, +got:\n%s", diff)
	}
}

// Without a proxy at the server the clients' are all there is; and who is asked for by name is counted alone.
func TestReporterOfConnections(t *testing.T) {
	for name, tc := range map[string]struct {
		setting analysis.Reporter
		server  bool
		want    analysis.Reporter
		n       analysis.Counts
	}{
		"Auto":            {"", true, analysis.Destination, requests(11, 1)},
		"NoServer":        {"", false, analysis.Source, requests(13, 1)},
		"AskedForClients": {analysis.Source, true, analysis.Source, requests(13, 1)},
		"AskedForServers": {analysis.Destination, true, analysis.Destination, requests(10, 0)},
	} {
		t.Run(name, func(t *testing.T) {
			p := running()
			subject := shop
			subject.Connections, subject.Reporter = true, tc.setting
			c := newWatching(t, p, subject, plain)
			c.look(t.Context(), tick(0))
			if tc.server {
				p.connect(1, 10)
			}
			p.connect(1, 12, labelReporter, "source")
			p.connect(1, 1, labelReporter, "source", labelFlags, "UF")
			c.look(t.Context(), tick(1))
			if got := since(t, c, tick(0)); got.Reporter != tc.want || got.Candidate != tc.n {
				t.Errorf("%s counts %+v; want %s and %+v", got.Reporter, got.Candidate, tc.want, tc.n)
			}
		})
	}
}

// Both metrics are asked for in one look, each once, and no more than there is somebody to ask for.
func TestOneQueryForEachMetric(t *testing.T) {
	p := running()
	c := newWatching(t, p, shop, plain)
	other := shop
	other.Connections, other.Service, other.Stable, other.Candidate = true, "db.shop.svc.cluster.local", "db-v1", "db-v2"
	c.Watch(Key{"shop", "db"}, other)
	p.count(tick(0), 1)
	p.connect(0, 1, labelWorkload, "db-v2")
	c.look(t.Context(), tick(0))
	p.asked()
	c.look(t.Context(), tick(1))
	var of [2]int
	for _, q := range p.asked() {
		for i, metric := range []string{metricRequests, metricConnections} {
			if strings.Contains(q, metric) {
				of[i]++
			}
		}
		if strings.Contains(q, metricConnections) != strings.Contains(q, "db-v1") {
			t.Errorf("%s asks for the other's", q)
		}
	}
	if of != [2]int{2, 2} {
		t.Errorf("%d queries of requests and %d of connections; want the counters and their times of each", of[0], of[1])
	}
}
