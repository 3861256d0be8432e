package e2e

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/e2e/scene"
)

// tenantToken and tenant are what the guarded Prometheus demands.
const tenantToken, tenant = "7f4c2d9e", "shop"

// guard stands in front of Prometheus as a proxy for several tenants does: it lets through who has the token and says whose data is asked
// for.
type guard struct {
	server           *http.Server
	url              string
	granted, refused atomic.Int64
}

func startGuard(prometheus string) (*guard, error) {
	to, err := url.Parse(prometheus)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	g := &guard{url: "http://" + l.Addr().String()}
	proxy := httputil.NewSingleHostReverseProxy(to)
	g.server = &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+tenantToken || r.Header.Get("X-Scope-OrgID") != tenant {
			g.refused.Add(1)
			http.Error(w, "no org id", http.StatusUnauthorized)
			return
		}
		g.granted.Add(1)
		proxy.ServeHTTP(w, r)
	})}
	go func() { _ = g.server.Serve(l) }() // it ends when the server is closed
	return g, nil
}

func (g *guard) stop() { _ = g.server.Close() } // nobody waits for an answer any more

// connections are the chart's value prometheus.connections: one that the shop may use, with all that the guard demands; one that it may use
// and that lacks the token; and one of another namespace.
func (g *guard) connections() map[string]any {
	scope := map[string]any{"X-Scope-OrgID": tenant}
	return map[string]any{
		"tenant": map[string]any{
			"url": g.url, "namespaces": []any{scene.Shop}, "bearerToken": map[string]any{"secretName": "tenant"}, "headers": scope,
		},
		"tokenless": map[string]any{"url": g.url, "namespaces": []any{scene.Shop}, "headers": scope},
		"elsewhere": map[string]any{"url": g.url, "namespaces": []any{"else*"}},
	}
}

// README: "`sluice.dev/prometheus`: One of the connections that the administrator has set up." This one has its token in a Secret, as the
// chart's value prometheus.connections says.
func TestPrometheusWithCredentials(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const name = "tenanted"
	service(t, s, name, "prometheus=tenant")
	users := through(t, s, name+".example.com", 40)
	before := shared.guard.granted.Load()
	release(t, s, name, "v2")
	await(t, s, name, "to be promoted", scene.Stable("v2"))
	if asked := shared.guard.granted.Load() - before; asked == 0 {
		t.Error("the connection's Prometheus was asked nothing")
	}

	annotate := func(connection string) {
		t.Helper()
		if err := s.Annotate(t.Context(), deployment(name), map[string]string{v1alpha1.AnnotationPrometheus: connection}); err != nil {
			t.Fatal(err)
		}
	}
	annotate("elsewhere")
	ts := await(t, s, name, "to refuse a connection of another namespace", func(ts *v1alpha1.TrafficShift) bool {
		c := condition(ts, v1alpha1.ConditionAccepted)
		return c != nil && c.Status == "False"
	})
	if c := condition(ts, v1alpha1.ConditionAccepted); !strings.Contains(c.Message, `"elsewhere"`) || !strings.Contains(c.Message, scene.Shop) ||
		!strings.Contains(c.Message, "tenant") || c.Reason != v1alpha1.ReasonInvalidSpec {
		t.Errorf("condition %+v; want it to name the connection, the namespace and what is accepted", c)
	}

	refused := shared.guard.refused.Load()
	annotate("tokenless")
	release(t, s, name, "v3")
	ts = await(t, s, name, "to say that its Prometheus refuses it", func(ts *v1alpha1.TrafficShift) bool {
		c := condition(ts, v1alpha1.ConditionEvidenceAvailable)
		return ts.Status.State.Stage == v1alpha1.StageExposing && c != nil && c.Status == "False" && strings.Contains(c.Message, "refuses") && shared.guard.refused.Load() > refused
	})
	if strings.Contains(fmt.Sprint(ts.Status), tenantToken) {
		t.Errorf("the status shows the token: %+v", ts.Status)
	}
	annotate("tenant")
	await(t, s, name, "to be promoted once it may ask", scene.Stable("v3"))
	lossless(t, users)
}
