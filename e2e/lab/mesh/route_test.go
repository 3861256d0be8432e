package mesh

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
)

// echo answers with what it was asked, so that tests see what a proxy sends.
func echo(rw http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)                                                                                                                              // a broken body shows as a short one
	_, _ = fmt.Fprintf(rw, "%s %s %s user=%q secret=%q body=%q", r.Method, r.Host, r.URL.RequestURI(), r.Header.Get("X-User"), r.Header.Get("X-Secret"), body) // a client that is gone needs no answer
}

func option(name, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: name, Value: value}}
}

// TestRewrites has a row per way in which a route changes what the upstream is asked.
func TestRewrites(t *testing.T) {
	shaped := func(m *routev3.RouteMatch, change func(*routev3.Route)) *routev3.Route {
		r := to(clusterNamed("v1"))
		r.Match = m
		change(r)
		return r
	}
	tests := map[string]struct {
		route *routev3.Route
		path  string
		want  string
	}{
		"nothing": {
			route: to(clusterNamed("v1")), path: "/a%2Fb/c?x=1&y=%20",
			want: `GET ` + shopHost + ` /a%2Fb/c?x=1&y=%20 user="me" secret="s" body=""`,
		},
		"prefix": {
			route: shaped(prefix("/api/"), func(r *routev3.Route) { r.GetRoute().PrefixRewrite = "/" }), path: "/api/v1?x=1",
			want: `GET ` + shopHost + ` /v1?x=1 user="me" secret="s" body=""`,
		},
		"regular expression": {
			route: shaped(prefix("/"), func(r *routev3.Route) {
				r.GetRoute().RegexRewrite = &matcherv3.RegexMatchAndSubstitute{Pattern: regex("^/v([0-9]+)/(.*)$"), Substitution: `/\2/of/\1`}
			}), path: "/v3/shop",
			want: `GET ` + shopHost + ` /shop/of/3 user="me" secret="s" body=""`,
		},
		"host": {
			route: shaped(prefix("/"), func(r *routev3.Route) {
				r.GetRoute().HostRewriteSpecifier = &routev3.RouteAction_HostRewriteLiteral{HostRewriteLiteral: "inside"}
			}), path: "/",
			want: `GET inside / user="me" secret="s" body=""`,
		},
		"headers": {
			route: shaped(prefix("/"), func(r *routev3.Route) {
				r.RequestHeadersToRemove = []string{"x-secret"}
				you := option("x-user", "you")
				you.AppendAction = corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD
				r.RequestHeadersToAdd = []*corev3.HeaderValueOption{you}
			}), path: "/",
			want: `GET ` + shopHost + ` / user="you" secret="" body=""`,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.pod("10.244.1.1", "v1", http.HandlerFunc(echo))
			w.serve([]proto.Message{clusterFor("v1"), endpointsFor("v1", "10.244.1.1")}, tt.route)
			resp := w.ask(w.gateway(), func(r *http.Request) {
				r.URL.Path, r.URL.RawPath = "", ""
				r.URL.Opaque = tt.path
				r.Header.Set("X-User", "me")
				r.Header.Set("X-Secret", "s")
			})
			if got := read(t, resp); got != tt.want {
				t.Errorf("the upstream was asked\n got %s\nwant %s", got, tt.want)
			}
		})
	}
}

// TestStickyCookie: headers of a weighted cluster go on the answers of that cluster only, which is how versions stick.
func TestStickyCookie(t *testing.T) {
	w := newWorld(t)
	w.pod("10.244.1.1", "v1", says("v1"))
	w.pod("10.244.1.2", "v2", says("v2"))
	action := weighted(50, 50)
	for i, c := range action.GetWeightedClusters().GetClusters() {
		version := fmt.Sprintf("v%d", i+1)
		c.Name = clusterNamed(version)
		c.ResponseHeadersToAdd = []*corev3.HeaderValueOption{option("set-cookie", "version="+version)}
	}
	w.serve([]proto.Message{clusterFor("v1"), endpointsFor("v1", "10.244.1.1"), clusterFor("v2"), endpointsFor("v2", "10.244.1.2")},
		&routev3.Route{Match: prefix("/"), Action: &routev3.Route_Route{Route: action}})
	g, seen := w.gateway(), map[string]bool{}
	for range 30 {
		resp := w.ask(g)
		version, cookie := resp.Header.Get("X-App-Version"), resp.Header.Get("Set-Cookie")
		if cookie != "version="+version {
			t.Errorf("answer of %s sets %q", version, cookie)
		}
		seen[version] = true
	}
	if diff := cmp.Diff(map[string]bool{"v1": true, "v2": true}, seen); diff != "" {
		t.Errorf("versions (-want +got):\n%s", diff)
	}
}

// TestRedirect: where clients are sent, and with which status.
func TestRedirect(t *testing.T) {
	tests := map[string]struct {
		action *routev3.RedirectAction
		status int
		want   string
	}{
		"to HTTPS": {
			action: &routev3.RedirectAction{SchemeRewriteSpecifier: &routev3.RedirectAction_HttpsRedirect{HttpsRedirect: true}},
			status: 301, want: "https://" + shopHost + "/?x=1",
		},
		"to another path and host": {
			action: &routev3.RedirectAction{
				HostRedirect: "example.com", PathRewriteSpecifier: &routev3.RedirectAction_PathRedirect{PathRedirect: "/new"},
				ResponseCode: routev3.RedirectAction_PERMANENT_REDIRECT,
			},
			status: 308, want: "http://example.com/new?x=1",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.serve(nil, &routev3.Route{Match: prefix("/"), Action: &routev3.Route_Redirect{Redirect: tt.action}})
			resp := w.ask(w.gateway(), func(r *http.Request) { r.URL.RawQuery = "x=1" })
			if got := resp.Header.Get("Location"); resp.StatusCode != tt.status || got != tt.want {
				t.Errorf("redirect: got %d %s, want %d %s", resp.StatusCode, got, tt.status, tt.want)
			}
		})
	}
}

// A host that requires TLS answers requests without it with a redirect, whatever its routes say.
func TestHostThatRequiresTLS(t *testing.T) {
	w := newWorld(t)
	vh := &routev3.VirtualHost{Name: "shop", Domains: []string{shopHost}, RequireTls: routev3.VirtualHost_ALL, Routes: []*routev3.Route{to(clusterNamed("v1"))}}
	w.ads.Set(listenerOn(80, "http.80"), &routev3.RouteConfiguration{Name: "http.80", IgnorePortInHostMatching: true, VirtualHosts: []*routev3.VirtualHost{vh}})
	resp := w.ask(w.gateway(), func(r *http.Request) { r.URL.RawQuery = "x=1" })
	if got, want := resp.Header.Get("Location"), "https://"+shopHost+"/?x=1"; resp.StatusCode != http.StatusMovedPermanently || got != want {
		t.Errorf("got %d %s, want %d %s", resp.StatusCode, got, http.StatusMovedPermanently, want)
	}
}

// TestMirror: the client gets the route's answer; the mirror gets the same request, counted by its own sidecar only.
func TestMirror(t *testing.T) {
	w := newWorld(t)
	mirrored := make(chan string, 1)
	w.pod("10.244.1.1", "v1", http.HandlerFunc(echo))
	w.pod("10.244.1.2", "v2", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // a broken body shows as a short one
		mirrored <- r.Method + " " + r.Host + " " + string(body)
	}))
	w.serve([]proto.Message{clusterFor("v1"), endpointsFor("v1", "10.244.1.1"), clusterFor("v2"), endpointsFor("v2", "10.244.1.2")},
		to(clusterNamed("v1"), func(a *routev3.RouteAction) {
			a.RequestMirrorPolicies = []*routev3.RouteAction_RequestMirrorPolicy{{Cluster: clusterNamed("v2"), DisableShadowHostSuffixAppend: true}}
		}))
	resp := w.ask(w.gateway(), func(r *http.Request) {
		r.Method, r.Body, r.ContentLength = http.MethodPost, io.NopCloser(strings.NewReader("body")), 4
	})
	if got, want := read(t, resp), `POST `+shopHost+` / user="" secret="" body="body"`; got != want {
		t.Errorf("the client got %s, want %s", got, want)
	}
	if got, want := <-mirrored, "POST "+shopHost+" body"; got != want {
		t.Errorf("the mirror got %q, want %q", got, want)
	}
	if diff := cmp.Diff(map[string]int{"micro-api-v1": 1}, w.series("source", "destination_workload")); diff != "" {
		t.Errorf("source (-want +got):\n%s", diff)
	}
	want := map[string]int{"istio-ingressgateway|micro-api-v1": 1, "istio-ingressgateway|micro-api-v2": 1}
	eventually(t, "both servers count", func() bool {
		return cmp.Equal(want, w.series("destination", "source_workload", "destination_workload"))
	})
}
