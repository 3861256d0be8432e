package shim

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Annotations that name parts of one field own those parts: one goes without the others, and what somebody else writes beside them stays.
func TestPartsOfAFieldComeAndGo(t *testing.T) {
	c := start(t)
	c.create("replicas: 3", "strategy: canary", "timeout: 5s", `retries: "3"`)
	c.want("routing.http.retries.attempts routing.http.timeout strategy", c.named)

	s := c.shift()
	was := s.DeepCopy()
	s.Spec.Routing.HTTP = &apiextensionsv1.JSON{Raw: []byte(`{"timeout": "5s", "retries": {"attempts": 3, "retryOn": "5xx"}, "rewrite": {"uri": "/v1"}}`)}
	if err := c.Patch(t.Context(), s, client.MergeFrom(was), client.FieldOwner("kubectl")); err != nil {
		t.Fatal(err)
	}
	c.annotate("timeout: null")
	c.want("routing.http.retries.attempts strategy", c.named)
	c.want(`{"retries":{"attempts":3,"retryOn":"5xx"},"rewrite":{"uri":"/v1"}}`, c.http)
	version := c.shift().ResourceVersion
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: c.ns, Name: "micro-api"}}
	if err := c.Patch(t.Context(), d, client.RawPatch("application/merge-patch+json", []byte(`{"metadata": {"labels": {"x": "y"}}}`))); err != nil {
		t.Fatal(err) // another look writes nothing
	}
	c.stays(version, func() string { return c.shift().ResourceVersion })

	c.annotate(`retries: "1"`, "virtual-service: shop")
	c.want("Warning InvalidAnnotation", c.reasons) // the API server's: an own VirtualService, and fields for routes of ours
	if diff := cmp.Diff(`{"retries":{"attempts":3,"retryOn":"5xx"},"rewrite":{"uri":"/v1"}}`, c.http()); diff != "" {
		t.Errorf("what was accepted last (-want +got):\n%s", diff)
	}
}

// Several VirtualServices are another field than one: who goes from one to several and back moves from field to field, and nothing is written
// twice, whatever the API server fills in.
func TestSeveralVirtualServicesComeAndGo(t *testing.T) {
	c := start(t)
	c.create("replicas: 3", "strategy: canary", "virtual-service: front@edge/main; internal")
	c.want("routing.virtualServices strategy", c.named)
	settles := func() {
		t.Helper()
		was := ""
		c.want("settled", func() string {
			time.Sleep(500 * time.Millisecond)
			version := c.shift().ResourceVersion
			if version == was {
				return "settled"
			}
			was = version
			return "written again"
		})
		version := was
		d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: c.ns, Name: "micro-api"}}
		if err := c.Patch(t.Context(), d, client.RawPatch("application/merge-patch+json", []byte(`{"metadata": {"labels": {"x": "`+version+`"}}}`))); err != nil {
			t.Fatal(err)
		}
		c.stays(version, func() string { return c.shift().ResourceVersion })
	}
	settles()
	c.annotate("virtual-service: internal")
	c.want("routing.virtualService.name strategy", c.named)
	settles()
	c.annotate("virtual-service: internal; front")
	c.want("routing.virtualServices strategy", c.named)
	if got := c.shift().Spec.Routing; got.VirtualService != nil || len(got.VirtualServices) != 2 || got.VirtualServices[1].Name != "front" {
		t.Errorf("routing is %+v", got)
	}
}

func (c *cluster) http() string {
	c.Helper()
	s := c.shift()
	if s == nil || s.Spec.Routing == nil || s.Spec.Routing.HTTP == nil {
		return ""
	}
	return string(s.Spec.Routing.HTTP.Raw)
}
