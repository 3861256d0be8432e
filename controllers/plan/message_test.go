package plan_test

import (
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/sluice-dev/sluice/controllers/plan"
)

// What Istio would drop without a word is refused, at whatever depth; what Istio has is read as Istio reads it.
func TestATrafficPolicyHasNoFieldsOfItsOwn(t *testing.T) {
	tests := map[string]struct{ written, wants string }{
		"Read":        {`{"connectionPool": {"http": {"http2MaxRequests": 7}}, "outlierDetection": {"consecutive5xxErrors": 5, "interval": "5s"}, "loadBalancer": {"consistentHash": {"httpCookie": {"name": "user", "ttl": "0s"}}}}`, ""},
		"ProtoNames":  {`{"connection_pool": {"http": {"http2_max_requests": 7}}}`, ""},
		"AtTheTop":    {`{"conectionPool": {}}`, `spec.trafficPolicy.conectionPool: Unsupported value: "conectionPool": supported values: "connectionPool"`},
		"Below":       {`{"connectionPool": {"http": {"maxRequest": 7}}}`, "spec.trafficPolicy.connectionPool.http.maxRequest: Unsupported value"},
		"InAList":     {`{"portLevelSettings": [{"port": {"number": 80}, "tls": {"mod": "SIMPLE"}}]}`, "spec.trafficPolicy.portLevelSettings[0].tls.mod: Unsupported value"},
		"WrongValue":  {`{"loadBalancer": {"simple": "FASTEST"}}`, "is not what Istio's TrafficPolicy takes"},
		"NotAnObject": {`"fast"`, "is not what Istio's TrafficPolicy takes"},
		"NotJSON":     {`{`, "spec.trafficPolicy: Invalid value"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			read, errs := plan.TrafficPolicy(&apiextensionsv1.JSON{Raw: []byte(tc.written)}, field.NewPath("spec", "trafficPolicy"))
			switch {
			case tc.wants == "" && (len(errs) > 0 || read.GetConnectionPool().GetHttp().GetHttp2MaxRequests() != 7):
				t.Errorf("%v %v; want it read", read, errs)
			case tc.wants != "" && (read != nil || len(errs) == 0 || !strings.Contains(errs.ToAggregate().Error(), tc.wants)):
				t.Errorf("%v %v; want %q", read, errs, tc.wants)
			}
		})
	}
	if read, errs := plan.TrafficPolicy(nil, nil); read != nil || len(errs) > 0 {
		t.Errorf("of nothing: %v %v", read, errs)
	}
}
