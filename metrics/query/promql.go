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
	metricRequests  = "istio_requests_total"
	metricDurations = "istio_request_duration_milliseconds_bucket"

	labelReporter   = "reporter"
	labelService    = "destination_service"
	labelWorkload   = "destination_workload"
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
)

// selection is the part of the mesh that one grouped query asks for.
type selection struct {
	services, workloads []string
}

// selectionOf groups subjects into one selection, sorted, so that the same subjects always make the same query.
func selectionOf(subjects []Subject) selection {
	var s selection
	for _, x := range subjects {
		s.services = append(s.services, x.Service)
		for _, w := range []string{x.Stable, x.Candidate} {
			if w != "" {
				s.workloads = append(s.workloads, w)
			}
		}
	}
	s.workloads = append(s.workloads, unknownWorkload)
	s.services, s.workloads = distinct(s.services), distinct(s.workloads)
	return s
}

func distinct(v []string) []string {
	slices.Sort(v)
	return slices.Compact(v)
}

// matchers selects both reporters, every version of the selection, and what no version can be blamed for. It is one vector
// for all questions: PromQL aggregates nothing here, because a counter's reset is only seen series by series.
func (s selection) matchers() string {
	return fmt.Sprintf("%s=~%s,%s=~%s,%s=~%s",
		labelReporter, anyOf([]string{"destination", "source"}), labelService, anyOf(s.services), labelWorkload, anyOf(s.workloads))
}

func (s selection) requests() string { return metricRequests + "{" + s.matchers() + "}" }

// durations selects the buckets at the bounds asked for and the bucket of all requests.
func (s selection) durations(bounds []float64) string {
	return fmt.Sprintf("%s{%s,le=~%s}", metricDurations, s.matchers(), anyOf(spellings(bounds)))
}

// freshness is the time of the newest sample behind requests(), by service and reporter.
func (s selection) freshness() string {
	return fmt.Sprintf("max by (%s,%s) (timestamp(%s))", labelService, labelReporter, s.requests())
}

// bounds lists the histogram bounds that exist, by service.
func (s selection) bounds(memory time.Duration) string {
	return fmt.Sprintf("count by (%s,le) (%s)", labelService, lastOf(metricDurations+"{"+s.matchers()+"}", memory))
}

// lastOf selects the last value of every series within the window. A failed scrape marks all series of its target stale, so
// that an instant selector misses them for as long as it fails; last_over_time does not see stale markers.
func lastOf(selector string, window time.Duration) string {
	return fmt.Sprintf("last_over_time(%s[%s])", selector, model.Duration(window))
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
