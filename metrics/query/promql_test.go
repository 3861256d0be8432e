package query

import (
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var shop = Subject{Service: "micro-api.shop.svc.cluster.local", Namespace: "shop", Stable: "micro-api-v1", Candidate: "micro-api-v2"}

func TestPromQL(t *testing.T) {
	other := Subject{Service: "cart.till.svc.cluster.local", Namespace: "till", Stable: "cart-v3"}
	both := selectionOf([]Subject{shop, other, shop})
	const (
		versions = `reporter=~"destination|source|waypoint",destination_workload=~"cart-v3|micro-api-v1|micro-api-v2",` +
			`destination_workload_namespace=~"shop|till"`
		nobody = `reporter=~"destination|source|waypoint",` +
			`destination_service=~"cart\\.till\\.svc\\.cluster\\.local|micro-api\\.shop\\.svc\\.cluster\\.local",destination_workload=~"unknown"`
	)
	cases := map[string]struct{ got, want string }{
		"Requests": {both.requests(asIs), `istio_requests_total{` + versions + `} or istio_requests_total{` + nobody + `}`},
		"Memory": {both.requests(lastWithin(15 * time.Minute)),
			`last_over_time(istio_requests_total{` + versions + `}[15m]) or last_over_time(istio_requests_total{` + nobody + `}[15m])`},
		"Freshness": {both.freshness(), `max by (destination_service,destination_workload,destination_workload_namespace,reporter) (` +
			`timestamp(istio_requests_total{` + versions + `}) or timestamp(istio_requests_total{` + nobody + `}))`},
		"Durations": {
			both.durations([]float64{500, 0.5}, asIs),
			`istio_request_duration_milliseconds_bucket{` + versions + `,response_code!~"5..",le=~"\\+Inf|0\\.5|500|500\\.0"}`,
		},
		"Bounds": {
			both.bounds(90 * time.Second),
			`count by (destination_workload,destination_workload_namespace,le) (last_over_time(istio_request_duration_milliseconds_bucket{` + versions + `}[1m30s]))`,
		},
		"NoVersions": {selectionOf([]Subject{{Service: "cart"}}).requests(asIs),
			`istio_requests_total{reporter=~"destination|source|waypoint",destination_service=~"cart",destination_workload=~"unknown"}`},
		"NoService": {selectionOf([]Subject{{Namespace: "till", Stable: "cart-v3"}}).requests(asIs),
			`istio_requests_total{reporter=~"destination|source|waypoint",destination_workload=~"cart-v3",destination_workload_namespace=~"till"}`},
		"Up": {upBefore(time.Minute), `count(up offset 1m)`},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, tc.got); diff != "" {
				t.Errorf("-want, +got:\n%s", diff)
			}
			if _, err := promql().ParseExpr(tc.got); err != nil {
				t.Errorf("Prometheus would refuse it: %v", err)
			}
		})
	}
}

func FuzzAnyOfMatchesExactlyItsValues(f *testing.F) {
	f.Add("micro-api.shop", "micro-apiXshop")
	f.Add(`a"b\c|d`, "a")
	f.Add("new\nline{}", ".*")
	f.Fuzz(func(t *testing.T, a, other string) {
		pattern, err := strconv.Unquote(anyOf([]string{a, "second"}))
		if err != nil {
			t.Fatal(err)
		}
		re, err := regexp.Compile("^(?s:" + pattern + ")$") // as Prometheus anchors it
		if err != nil {
			t.Skip("no valid UTF-8: no label value")
		}
		if !re.MatchString(a) || !re.MatchString("second") || re.MatchString(other) != (other == a || other == "second") {
			t.Errorf("%q matches %q: %v", re, other, re.MatchString(other))
		}
	})
}
