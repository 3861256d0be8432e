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

// points sorts a vector by service. Values that no counter has are left out and counted.
func points(v model.Vector) (byService map[string][]point, skipped int) {
	byService = map[string][]point{}
	for _, s := range v {
		p := point{labels: s.Metric, value: float64(s.Value)}
		le, isBucket := s.Metric[model.BucketLabel]
		if isBucket {
			p.labels = s.Metric.Clone()
			delete(p.labels, model.BucketLabel)
			p.le = parseBound(string(le))
		}
		if !(p.value >= 0 && p.value <= maxCount) || isBucket && math.IsNaN(p.le) {
			skipped++
			continue
		}
		p.series = p.labels.Fingerprint()
		service := string(s.Metric[labelService])
		byService[service] = append(byService[service], p)
	}
	return byService, skipped
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
	destination
	reporters
)

// reporterNames are the values of Istio's label reporter. Its third, waypoint, belongs to ambient meshes.
var reporterNames = [reporters]analysis.Reporter{source: analysis.Source, destination: analysis.Destination}

// class is what a series says of a subject's requests.
type class struct {
	reporter, version int
	failed, noHost    bool
}

// classify reads a series' labels. It is false for series that count for nothing: another service's, another version's, and
// requests that the client gave up.
func (s Subject) classify(m model.Metric) (class, bool) {
	c := class{
		reporter: slices.Index(reporterNames[:], analysis.Reporter(m[labelReporter])),
		version:  s.version(string(m[labelWorkload])),
		failed:   failed(m),
	}
	if c.reporter < 0 || string(m[labelService]) != s.Service || abandoned(m) {
		return class{}, false
	}
	// A failure that is known to be a version's is that version's, whatever its flags.
	c.noHost = c.version == noVersion && c.reporter == source && flagged(m, "UH", "NC", "NR", "UO")
	return c, c.version != noVersion || c.noHost
}

func (s Subject) version(workload string) int {
	switch workload {
	case "":
		return noVersion
	case s.Stable:
		return stable
	case s.Candidate:
		return candidate
	}
	return noVersion
}

// abandoned is a request whose client went away before there was an answer: Envoy records code 0 with the flag DC (downstream
// connection termination) or DR (downstream remote reset). It says nothing about the version.
func abandoned(m model.Metric) bool {
	return m[labelCode] == "0" && flagged(m, "DC", "DR")
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
