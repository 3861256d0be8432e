package query

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/common/model"

	"github.com/sluice-dev/sluice/metrics/analysis"
)

// point is the value of one counter at one look.
type point struct {
	// series identifies the counter; for a histogram's buckets it identifies the histogram.
	series model.Fingerprint
	labels model.Metric
	// le is the bucket's bound; 0 for a plain counter.
	le    float64
	value float64
}

// maxCount is the largest number up to which a float64 counts without gaps.
const maxCount = 1 << 53

// owner is whose requests a series counts: those of a workload or, where no host was chosen, those to a service.
type owner struct{ namespace, workload, service string }

func ownerOf(m model.Metric) owner {
	if m[labelWorkload] == unknownWorkload {
		return owner{service: string(m[labelService])}
	}
	return owner{namespace: string(m[labelNamespace]), workload: string(m[labelWorkload])}
}

// owners are those whose series count for the subject.
func (s Subject) owners() []owner {
	all := []owner{{namespace: s.Namespace, workload: s.Stable}, {namespace: s.Namespace, workload: s.Candidate}, {service: s.Service}}
	for _, host := range s.Backends {
		all = append(all, owner{service: host})
	}
	return all
}

// points sorts a vector by owner. Values that no counter has become NaN, and are counted as skipped: the series is there, and what
// it counts is not known. A bucket without a bound is left out.
func points(v model.Vector) (byOwner map[owner][]point, skipped int) {
	byOwner = map[owner][]point{}
	for _, s := range v {
		p, ok := pointOf(s.Metric)
		p.value = countOf(s.Value)
		if !ok || math.IsNaN(p.value) {
			skipped++
		}
		if !ok {
			continue
		}
		o := ownerOf(p.labels)
		byOwner[o] = append(byOwner[o], p)
	}
	return byOwner, skipped
}

// pointOf is the point of a series, without its value. It takes the labels over, and a bucket's bound out of them. It is false for
// a bucket whose bound is no number.
func pointOf(m model.Metric) (point, bool) {
	p := point{labels: m}
	if le, isBucket := m[model.BucketLabel]; isBucket {
		p.le = parseBound(string(le))
		delete(m, model.BucketLabel)
	}
	p.series = p.labels.Fingerprint()
	return p, !math.IsNaN(p.le)
}

// countOf is the value, where a counter can have it, and NaN.
func countOf(v model.SampleValue) float64 {
	if v >= 0 && v <= maxCount {
		return float64(v)
	}
	return math.NaN()
}

// parseBound reads a bucket's bound as a number, so that "500", "500.0" and "5e+02" are one; NaN where it is none.
func parseBound(le string) float64 {
	b, err := strconv.ParseFloat(le, 64)
	if err != nil {
		return math.NaN()
	}
	return b
}

// The versions and reporters, as indexes.
const (
	stable = iota
	candidate
	versions
	noVersion = -1
)

const (
	source = iota
	waypoint
	destination
	reporters
)

// reporterNames are the values of Istio's label reporter.
var reporterNames = [reporters]analysis.Reporter{source: analysis.Source, waypoint: analysis.Waypoint, destination: analysis.Destination}

func reporterLabels() []string {
	labels := make([]string, 0, reporters)
	for _, name := range reporterNames {
		labels = append(labels, string(name))
	}
	return distinct(labels)
}

// class is what a series says of a subject's requests.
type class struct {
	reporter, version int
	failed, noHost    bool
}

// classify reads a series' labels. It is false for series that count for nothing: another version's, another service's failures
// without a host, and requests that the client gave up.
func (s Subject) classify(m model.Metric) (class, bool) {
	c := class{
		reporter: slices.Index(reporterNames[:], analysis.Reporter(m[labelReporter])),
		version:  s.version(m),
		failed:   s.failed(m),
	}
	if c.reporter < 0 || abandoned(m) || s.Connections && besideTheService(m) {
		return class{}, false
	}
	// A failure that is known to be a version's is that version's, whatever its flags. A server always has a host.
	c.noHost = c.version == noVersion && c.reporter != destination && s.toNobody(m)
	return c, c.version != noVersion || c.noHost
}

// version tells versions by workload and namespace, whatever Service the request was for, but for the version's own: who asks for that
// wants to see this version, and is no user of the service's, unless the routes themselves send users there.
func (s Subject) version(m model.Metric) int {
	if string(m[labelNamespace]) != s.Namespace || ownAddress(m) && !s.Previewing && !slices.Contains(s.Backends, string(m[labelService])) {
		return noVersion
	}
	switch string(m[labelWorkload]) {
	case "":
		return noVersion
	case s.Stable:
		return stable
	case s.Candidate:
		return candidate
	}
	return noVersion
}

// ownAddress is a request to the Service of one version alone, which is named as its Deployment. Only the caller's proxy knows which
// Service was asked for: the server's names the oldest one of its port.
func ownAddress(m model.Metric) bool {
	name, _, _ := strings.Cut(string(m[labelService]), ".")
	return name == string(m[labelWorkload]) && analysis.Reporter(m[labelReporter]) != analysis.Destination
}

// toNobody is a request to the service for which no host was chosen.
func (s Subject) toNobody(m model.Metric) bool {
	asked := string(m[labelService])
	return m[labelWorkload] == unknownWorkload && (asked == s.Service || slices.Contains(s.Backends, asked)) && flagged(m, "UH", "NC", "NR", "UO")
}

// abandoned is a request whose client went away before there was an answer: Envoy records code 0 with the flag DC (downstream
// connection termination) or DR (downstream remote reset). It says nothing about the version.
func abandoned(m model.Metric) bool {
	return m[labelCode] == "0" && flagged(m, "DC", "DR")
}

// unmade are Envoy's flags of a connection that could not be made: no host to connect to, none of them took it, a circuit breaker is open,
// no route or no cluster. Other flags tell of requests (UC, UR), or that a connection had its time (DT). The flags of a series are those
// of the moment when the connection was counted, a few seconds after it began, or when it ended before.
var unmade = []string{"UF", "URX", "UH", "UO", "NR", "NC"}

// besideTheService is a connection to a port of the pods that no Service has: whoever looks after them makes such, and no user.
func besideTheService(m model.Metric) bool {
	return strings.HasPrefix(string(m[labelName]), "InboundPassthroughCluster")
}

// metric is what is counted for the subject.
func (s Subject) metric() string {
	if s.Connections {
		return metricConnections
	}
	return metricRequests
}

// failed says whether what a series counts has failed.
func (s Subject) failed(m model.Metric) bool {
	if s.Connections {
		return flagged(m, unmade...)
	}
	return failed(m)
}

// failed says whether the version failed the request: 5xx, and for gRPC, whose HTTP status is 200 for nearly every error, the
// statuses that mean a fault of the server (see analysis.Counts).
func failed(m model.Metric) bool {
	if code := string(m[labelCode]); len(code) == 3 && code[0] == '5' {
		return true
	}
	if m[labelProtocol] != "grpc" {
		return false
	}
	switch m[labelGRPCStatus] {
	case "2", "4", "12", "13", "14", "15":
		return true
	}
	return false
}

// flagged says whether Envoy set one of the flags; a request may carry several ("UH,URX").
func flagged(m model.Metric, flags ...string) bool {
	for f := range strings.SplitSeq(string(m[labelFlags]), ",") {
		if slices.Contains(flags, f) {
			return true
		}
	}
	return false
}
