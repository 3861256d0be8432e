package query

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"
)

// labels are those of a request that a gateway reports of the candidate, with changes.
func labels(changes ...string) model.Metric {
	m := model.Metric{
		"__name__": metricRequests, labelReporter: "source", labelService: model.LabelValue(shop.Service),
		labelWorkload: model.LabelValue(shop.Candidate), labelNamespace: model.LabelValue(shop.Namespace), labelProtocol: "http", labelCode: "200", labelFlags: "-", labelGRPCStatus: "",
	}
	for i := 0; i < len(changes); i += 2 {
		m[model.LabelName(changes[i])] = model.LabelValue(changes[i+1])
	}
	return m
}

func TestClassify(t *testing.T) {
	type want struct {
		class  class
		counts bool
	}
	none := want{}
	cases := map[string]struct {
		reason string
		labels model.Metric
		want   want
	}{
		"Answered":        {"a candidate's success", labels(), want{class{source, candidate, false, false}, true}},
		"Stable":          {"the other version", labels(labelWorkload, shop.Stable), want{class{source, stable, false, false}, true}},
		"ByServer":        {"the server's own report", labels(labelReporter, "destination"), want{class{destination, candidate, false, false}, true}},
		"ServerError":     {"5xx", labels(labelCode, "500"), want{class{source, candidate, true, false}, true}},
		"ConnectFailure":  {"known to be the candidate's", labels(labelCode, "503", labelFlags, "UF,URX"), want{class{source, candidate, true, false}, true}},
		"ClientError":     {"4xx is the client's", labels(labelCode, "404"), want{class{source, candidate, false, false}, true}},
		"NotACode":        {"no three digits", labels(labelCode, "5"), want{class{source, candidate, false, false}, true}},
		"ClientWent":      {"neither request nor error", labels(labelCode, "0", labelFlags, "DC"), none},
		"ClientReset":     {"neither request nor error", labels(labelCode, "0", labelFlags, "DR"), none},
		"ClientWentLater": {"after the answer began", labels(labelFlags, "DC"), want{class{source, candidate, false, false}, true}},
		"GRPCUnavailable": {"a server's fault with HTTP 200", labels(labelProtocol, "grpc", labelGRPCStatus, "14"), want{class{source, candidate, true, false}, true}},
		"GRPCNotFound":    {"a client's fault", labels(labelProtocol, "grpc", labelGRPCStatus, "5"), want{class{source, candidate, false, false}, true}},
		"GRPCOverHTTP":    {"a status without gRPC means nothing", labels(labelGRPCStatus, "14"), want{class{source, candidate, false, false}, true}},
		"GRPC503":         {"a proxy's plain answer", labels(labelProtocol, "grpc", labelCode, "503"), want{class{source, candidate, true, false}, true}},
		"NoHost": {"no version is to blame", labels(labelWorkload, "unknown", labelCode, "503", labelFlags, "UH"),
			want{class{source, noVersion, true, true}, true}},
		"NoCluster": {"one of several flags", labels(labelWorkload, "unknown", labelCode, "503", labelFlags, "URX,NC"),
			want{class{source, noVersion, true, true}, true}},
		"OverflowOfAVersion": {"attributed failures are the version's", labels(labelCode, "503", labelFlags, "UO"),
			want{class{source, candidate, true, false}, true}},
		"NoHostByServer":  {"a server always has a host", labels(labelReporter, "destination", labelWorkload, "unknown", labelFlags, "UH"), none},
		"UnknownWorkload": {"nobody's, without such a flag", labels(labelWorkload, "unknown"), none},
		"OtherWorkload":   {"a retired version", labels(labelWorkload, "micro-api-v0"), none},
		"SecondService":   {"the same pods through another Service", labels(labelService, "all.shop.svc.cluster.local"), want{class{source, candidate, false, false}, true}},
		"OwnAddress":      {"who wants to see this version is no user", labels(labelService, shop.Candidate+".shop.svc.cluster.local"), none},
		"OwnAddressAlone": {"without its domain", labels(labelService, shop.Candidate), none},
		"OwnByServer": {"a server names the oldest Service of its port", labels(labelReporter, "destination", labelService, shop.Candidate+".shop.svc.cluster.local"),
			want{class{destination, candidate, false, false}, true}},
		"LongerAddress":   {"another Service, whose name begins so", labels(labelService, shop.Candidate+"0.shop.svc.cluster.local"), want{class{source, candidate, false, false}, true}},
		"OtherNamespace":  {"a workload of the same name elsewhere", labels(labelNamespace, "till"), none},
		"NoHostElsewhere": {"another service's failures are not ours", labels(labelService, "all.shop.svc.cluster.local", labelWorkload, "unknown", labelNamespace, "unknown", labelCode, "503", labelFlags, "UH"), none},
		"NoHostOfAnother": {"of a workload that is known, but is no version", labels(labelWorkload, "cart-v1", labelCode, "503", labelFlags, "UO"), none},
		"Waypoint":        {"ambient", labels(labelReporter, "waypoint"), want{class{waypoint, candidate, false, false}, true}},
		"WaypointNoHost":  {"ambient", labels(labelReporter, "waypoint", labelWorkload, "unknown", labelNamespace, "unknown", labelCode, "503", labelFlags, "NC"), want{class{waypoint, noVersion, true, true}, true}},
		"OtherReporter":   {"none that Istio has", labels(labelReporter, "ztunnel"), none},
		"NoLabels":        {"nothing at all", model.Metric{}, none},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			c, counts := shop.classify(tc.labels)
			if diff := cmp.Diff(tc.want, want{c, counts}, cmp.AllowUnexported(want{}, class{})); diff != "" {
				if counts || tc.want.counts {
					t.Errorf("%s: -want, +got:\n%s", tc.reason, diff)
				}
			}
		})
	}
}

func TestEmptyVersionNeverMatches(t *testing.T) {
	s := Subject{Service: shop.Service, Namespace: shop.Namespace, Stable: shop.Stable}
	if _, counts := s.classify(labels(labelWorkload, "")); counts {
		t.Error("a series without a workload was counted for a subject without a candidate")
	}
}

func TestPointsLeaveOutWhatIsNoCount(t *testing.T) {
	var v model.Vector
	for i, x := range []float64{1, math.NaN(), math.Inf(1), math.Inf(-1), -1, 1e300, 0} {
		v = append(v, &model.Sample{Metric: labels("pod", string(rune('a'+i))), Value: model.SampleValue(x)})
	}
	v = append(v, &model.Sample{Metric: labels("le", "many"), Value: 1})
	got, skipped := points(v)
	var counts []float64
	for _, p := range got[ownerOf(labels())] {
		if !math.IsNaN(p.value) {
			counts = append(counts, p.value)
		}
	}
	if diff := cmp.Diff([]float64{1, 0}, counts); diff != "" || skipped != 6 {
		t.Errorf("%d skipped; -want, +got:\n%s", skipped, diff)
	}
}

func TestBucketsOfOneHistogramShareASeries(t *testing.T) {
	v := model.Vector{
		{Metric: labels("le", "500.0"), Value: 3}, {Metric: labels("le", "500"), Value: 3},
		{Metric: labels("le", "+Inf"), Value: 5}, {Metric: labels("le", "+Inf", "pod", "b"), Value: 7},
	}
	got, _ := points(v)
	pairs := histograms(got[ownerOf(labels())], 500)
	if len(pairs) != 2 {
		t.Fatalf("%d histograms, want 2", len(pairs))
	}
	for _, h := range pairs {
		if !(h.within == 3 && h.all == 5) && !(math.IsNaN(h.within) && h.all == 7) {
			t.Errorf("got %+v", h)
		}
	}
}

// Where each version has a Service of its own, a request that fails before an endpoint is chosen bears that one's name.
func TestFailuresWithoutAHostAtAVersionsOwnService(t *testing.T) {
	own := "micro-api-v2.shop.svc.cluster.local"
	m := labels(labelService, own, labelWorkload, "unknown", labelNamespace, "unknown", labelCode, "503", labelFlags, "UH")
	if _, counts := shop.classify(m); counts {
		t.Error("they count although no route sends requests there")
	}
	s := shop
	s.Backends = []string{"micro-api-v1.shop.svc.cluster.local", own}
	if c, counts := s.classify(m); !counts || !c.noHost {
		t.Errorf("counts %t, %+v; want a failure without a host", counts, c)
	}
	if !slices.Contains(s.owners(), ownerOf(m)) || !strings.Contains(selectionOf([]Subject{s}).requests(asIs), `micro-api-v2\\.shop`) {
		t.Errorf("they are not asked for: %s", selectionOf([]Subject{s}).requests(asIs))
	}
}

// A version's own Service is an address to look at it, unless the routes send users there.
func TestWhoeverComesByAVersionsOwnService(t *testing.T) {
	own := shop.Candidate + ".shop.svc.cluster.local"
	m := labels(labelReporter, "source", labelService, own, labelWorkload, shop.Candidate, labelNamespace, shop.Namespace, labelCode, "200")
	if _, counts := shop.classify(m); counts {
		t.Error("a look at the preview counts as a user's request")
	}
	s := shop
	s.Backends = []string{own}
	if c, counts := s.classify(m); !counts || c.version != candidate {
		t.Errorf("routed there: counts %t, %+v; want the candidate's", counts, c)
	}
}
