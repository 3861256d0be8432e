package query

import (
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var shop = Subject{Service: "micro-api.shop.svc.cluster.local", Stable: "micro-api-v1", Candidate: "micro-api-v2"}

func TestPromQL(t *testing.T) {
	other := Subject{Service: "cart.shop.svc.cluster.local", Stable: "cart-v3"}
	both := selectionOf([]Subject{shop, other, shop})
	const matchers = `reporter=~"destination|source",` +
		`destination_service=~"cart\\.shop\\.svc\\.cluster\\.local|micro-api\\.shop\\.svc\\.cluster\\.local",` +
		`destination_workload=~"cart-v3|micro-api-v1|micro-api-v2|unknown"`
	cases := map[string]struct{ got, want string }{
		"Requests":  {both.requests(), `istio_requests_total{` + matchers + `}`},
		"Memory":    {lastOf(both.requests(), 15*time.Minute), `last_over_time(istio_requests_total{` + matchers + `}[15m])`},
		"Freshness": {both.freshness(), `max by (destination_service,reporter) (timestamp(istio_requests_total{` + matchers + `}))`},
		"Durations": {
			both.durations([]float64{500, 0.5}),
			`istio_request_duration_milliseconds_bucket{` + matchers + `,le=~"\\+Inf|0\\.5|500|500\\.0"}`,
		},
		"Bounds": {
			both.bounds(90 * time.Second),
			`count by (destination_service,le) (last_over_time(istio_request_duration_milliseconds_bucket{` + matchers + `}[1m30s]))`,
		},
		"Up": {upBefore(time.Minute), `count(up offset 1m)`},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, tc.got); diff != "" {
				t.Errorf("-want, +got:\n%s", diff)
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
