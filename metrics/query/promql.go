package query

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
)

// Istio's metrics and labels (https://istio.io/latest/docs/reference/config/metrics/).
const (
	metricRequests    = "istio_requests_total"
	metricConnections = "istio_tcp_connections_opened_total"
	metricDurations   = "istio_request_duration_milliseconds_bucket"

	labelReporter   = "reporter"
	labelService    = "destination_service"
	labelName       = "destination_service_name"
	labelHome       = "destination_service_namespace"
	labelWorkload   = "destination_workload"
	labelNamespace  = "destination_workload_namespace"
	labelProtocol   = "request_protocol"
	labelCode       = "response_code"
	labelGRPCStatus = "grpc_response_status"
	labelFlags      = "response_flags"

	// unknownWorkload is Istio's destination_workload where no host was chosen.
	unknownWorkload = "unknown"
)

// The kinds of queries, as errors and metrics name them.
const (
	kindRequests  = "requests"
	kindDurations = "durations"
	kindFreshness = "freshness"
	kindBounds    = "bounds"
	kindUp        = "up"
	kindCustom    = "custom"
	kindSilence   = "silence"
)

// selection is the part of the mesh that one grouped query asks for.
type selection struct {
	metric                                     string
	reporters, services, workloads, namespaces []string
}

// byMetric groups subjects by what is counted of them.
func byMetric(subjects []Subject) [][]Subject {
	groups := map[string][]Subject{}
	for _, x := range subjects {
		groups[x.metric()] = append(groups[x.metric()], x)
	}
	var all [][]Subject
	for _, metric := range []string{metricRequests, metricConnections} {
		if len(groups[metric]) > 0 {
			all = append(all, groups[metric])
		}
	}
	return all
}

// selectionsOf makes a selection for each metric.
func selectionsOf(subjects []Subject) []selection {
	var all []selection
	for _, group := range byMetric(subjects) {
		all = append(all, selectionOf(group))
	}
	return all
}

// selectionOf groups subjects of one metric into one selection, sorted, so that the same subjects always make the same query.
func selectionOf(subjects []Subject) selection {
	s := selection{metric: metricRequests, reporters: reporterLabels()}
	if len(subjects) > 0 {
		s.metric = subjects[0].metric()
	}
	for _, x := range subjects {
		if x.Service != "" {
			s.services = append(s.services, x.Service)
		}
		s.services = append(s.services, x.Backends...)
		for _, w := range []string{x.Stable, x.Candidate} {
			if w != "" {
				s.workloads, s.namespaces = append(s.workloads, w), append(s.namespaces, x.Namespace)
			}
		}
	}
	s.services, s.workloads, s.namespaces = distinct(s.services), distinct(s.workloads), distinct(s.namespaces)
	return s
}

func distinct(v []string) []string {
	slices.Sort(v)
	return slices.Compact(v)
}

// versions matches every version of the selection, through whatever Service it is reached: a second Service over the same pods
// names another destination_service. Which of these workloads lies in which of these namespaces is told apart afterwards.
func (s selection) versions() string {
	return fmt.Sprintf("%s=~%s,%s=~%s,%s=~%s",
		labelReporter, anyOf(s.reporters), labelWorkload, anyOf(s.workloads), labelNamespace, anyOf(s.namespaces))
}

// nobody matches what no version can be blamed for: requests to the named services for which no host was chosen.
func (s selection) nobody() string {
	return fmt.Sprintf("%s=~%s,%s=~%s,%s=~%s",
		labelReporter, anyOf(s.reporters), labelService, anyOf(s.services), labelWorkload, anyOf([]string{unknownWorkload}))
}

// read is how a selector's series are read: as they are, by their last value, or by their times.
type read func(selector string) string

func asIs(selector string) string { return selector }

func times(selector string) string { return "timestamp(" + selector + ")" }

// requests reads the counters of both kinds; no series is of both. It is one vector for all questions: PromQL aggregates nothing
// here, because a counter's reset is only seen series by series.
func (s selection) requests(read read) string {
	var parts []string
	if len(s.workloads) > 0 {
		parts = append(parts, read(s.metric+"{"+s.versions()+"}"))
	}
	if len(s.services) > 0 {
		parts = append(parts, read(s.metric+"{"+s.nobody()+"}"))
	}
	return strings.Join(parts, " or ")
}

// durations reads the versions' buckets at the bounds asked for and the bucket of all requests. Failures are not timed: most are
// told by their code, and are not asked for.
func (s selection) durations(bounds []float64, read read) string {
	return read(fmt.Sprintf("%s{%s,%s!~\"5..\",le=~%s}", metricDurations, s.versions(), labelCode, anyOf(spellings(bounds))))
}

// freshness is the time of the newest sample behind requests(), by what it is of and reporter.
func (s selection) freshness() string {
	return fmt.Sprintf("max by (%s,%s,%s,%s) (%s)", labelService, labelWorkload, labelNamespace, labelReporter, s.requests(times))
}

// bounds lists the histogram bounds that exist, by workload.
func (s selection) bounds(memory time.Duration) string {
	return fmt.Sprintf("count by (%s,%s,le) (%s)", labelWorkload, labelNamespace, lastWithin(memory)(metricDurations+"{"+s.versions()+"}"))
}

// lastWithin reads the last value of every series within the window. A failed scrape marks all series of its target stale, so
// that an instant selector misses them for as long as it fails; last_over_time does not see stale markers.
func lastWithin(window time.Duration) read {
	return func(selector string) string {
		return fmt.Sprintf("last_over_time(%s[%s])", selector, model.Duration(window))
	}
}

// upBefore asks whether Prometheus has been scraping anything for at least that long.
func upBefore(ago time.Duration) string {
	return fmt.Sprintf("count(up offset %s)", model.Duration(ago))
}

// anyOf writes values as a PromQL regular expression that matches exactly them; PromQL anchors it at both ends.
func anyOf(values []string) string {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = regexp.QuoteMeta(v)
	}
	return strconv.Quote(strings.Join(quoted, "|"))
}

// spellings writes bounds in every way that exposition formats do: Prometheus 3 writes "500.0" where the proxy wrote "500".
func spellings(bounds []float64) []string {
	all := []string{"+Inf"}
	for _, b := range bounds {
		plain := strconv.FormatFloat(b, 'f', -1, 64)
		all = append(all, plain, strconv.FormatFloat(b, 'g', -1, 64))
		if !strings.Contains(plain, ".") {
			all = append(all, plain+".0")
		}
	}
	return distinct(all)
}
