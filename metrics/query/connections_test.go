package query

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// write puts a file into a folder of the test's, and returns its path.
func write(t *testing.T, dir, name, content string) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// connect reads a file of connections and sets them up.
func connect(t *testing.T, dir, content string, o Options) (*Connections, error) {
	t.Helper()
	all, err := ReadConnections(write(t, dir, "prometheus.yaml", content))
	if err != nil {
		return nil, err
	}
	return NewConnections(all, o)
}

func TestWhoMayUseAConnection(t *testing.T) {
	c, err := connect(t, t.TempDir(), `
connections:
  default: {url: "http://a"}
  tenant-a: {url: "http://b", namespaces: ["team-a", "team-a-*"]}
  nobody: {url: "http://c"}
  none: {url: "http://d", namespaces: []}
  all: {url: "http://e", namespaces: ["*"]}
`, plain)
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct{ namespace, name, address, accepted string }{
		{"shop", "", "http://a", ""},
		{"shop", "default", "http://a", ""},
		{"shop", "all", "http://e", ""},
		{"team-a", "tenant-a", "http://b", ""},
		{"team-a-dev", "tenant-a", "http://b", ""},
		{"team-b", "tenant-a", "", "accepted: all, default"},
		{"team-a", "nobody", "", "accepted: all, default, tenant-a"},
		{"shop", "none", "", "accepted: all, default"},
		{"shop", "unknown", "", "accepted: all, default"},
	}
	for _, tc := range cases {
		got, err := c.For(tc.namespace, tc.name)
		switch {
		case tc.address != "" && (err != nil || got.client.Address() != tc.address):
			t.Errorf("%q for %s: %v", tc.name, tc.namespace, err)
		case tc.address == "":
			if !errors.Is(err, ErrNoConnection) || !strings.HasSuffix(err.Error(), tc.accepted) ||
				!strings.Contains(err.Error(), fmt.Sprintf("connection %q for namespace %s", tc.name, tc.namespace)) {
				t.Errorf("%q for %s: %v", tc.name, tc.namespace, err)
			}
			if err := c.Watch(Key{tc.namespace, "x"}, tc.name, shop); !errors.Is(err, ErrNoConnection) {
				t.Errorf("watching %q for %s: %v", tc.name, tc.namespace, err)
			}
		}
	}
	closed, err := connect(t, t.TempDir(), `connections: {default: {url: "http://a", namespaces: []}}`, plain)
	if err != nil {
		t.Fatal(err)
	}
	if err := closed.Check("shop", ""); !errors.Is(err, ErrNoConnection) || !strings.Contains(err.Error(), "accepted: none") {
		t.Errorf("a default for nobody: %v", err)
	}
}

func TestConnectionsThatAreRefused(t *testing.T) {
	cases := map[string]struct{ content, says string }{
		"UnknownKey":     {`connections: {default: {url: "http://a", namespace: shop}}`, "field namespace not found"},
		"UnknownHTTPKey": {`connections: {default: {url: "http://a", http: {tls: {}}}}`, "field tls not found"},
		"OutsideAList":   {`default: {url: "http://a"}`, "field default not found"},
		"NoURL":          {`connections: {default: {}}`, `connection "default": url: `},
		"NoScheme":       {`connections: {default: {url: "prometheus:9090"}}`, "must be http://HOST[:PORT]"},
		"Name":           {`connections: {Tenant_A: {url: "http://a"}}`, `connection "Tenant_A": accepted is a name`},
		"Glob":           {`connections: {a: {url: "http://a", namespaces: ["[team"]}}`, `namespaces: "[team": accepted is`},
		"TwoCredentials": {`connections: {a: {url: "http://a", http: {basic_auth: {username: u, password: hunter2}, authorization: {credentials: hunter2}}}}`, "at most one of basic_auth"},
		"NoCAFile":       {`connections: {a: {url: "http://a", http: {tls_config: {ca_file: nowhere.crt}}}}`, "nowhere.crt"},
		"Misplaced":      {`connections: {a: {url: "http://a", http: {basic_auth: hunter2}}}`, "cannot unmarshal"},
		"Proxy":          {`connections: {a: {url: "http://a", http: {proxy_url: "http://u:hunter2@h:hunter2"}}}`, "parse"},
		"BadURL":         {`connections: {a: {url: "http://u:hunter2@[::1"}}`, "must be http://HOST[:PORT]"},
		"NoSchemeAgain":  {`connections: {a: {url: "u:hunter2@prometheus"}}`, "must be http://HOST[:PORT]"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := connect(t, t.TempDir(), tc.content, plain)
			if err == nil || !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got %v, want it to say %q and no secret", err, tc.says)
			}
		})
	}
	if _, err := ReadConnections(filepath.Join(t.TempDir(), "nowhere.yaml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a file: %v", err)
	}
}

// guarded is the fake behind a check of each request.
func guarded(p *fakePrometheus, allows func(*http.Request) bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !allows(r) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		p.ServeHTTP(w, r)
	})
}

func TestCredentialsAreReadAgain(t *testing.T) {
	var mu sync.Mutex
	token := "first"
	p := running()
	p.count(tick(0), 1)
	server := httptest.NewTLSServer(guarded(p, func(r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		return r.Header.Get("Authorization") == "Bearer "+token && r.Header.Get("X-Scope-Orgid") == "shop"
	}))
	defer server.Close()
	dir := t.TempDir()
	write(t, dir, "ca.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	write(t, dir, "token", "first\n")
	c, err := connect(t, dir, `
connections:
  default:
    url: `+server.URL+`
    http:
      authorization: {credentials_file: token}
      tls_config: {ca_file: ca.crt}
      http_headers: {X-Scope-OrgID: {values: [shop]}}
`, plain)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Watch(microAPI, "", shop); err != nil {
		t.Fatal(err)
	}
	one, err := c.For("shop", "")
	if err != nil {
		t.Fatal(err)
	}
	look := func(n int) error {
		one.look(t.Context(), tick(n))
		_, err := c.Since(t.Context(), microAPI, tick(0))
		return err
	}
	if err := look(0); err != nil {
		t.Errorf("with its credentials: %v", err)
	}
	mu.Lock()
	token = "second"
	mu.Unlock()
	if err := look(1); !errors.Is(err, ErrRefused) || strings.Contains(err.Error(), "first") {
		t.Errorf("with an old token: %v", err)
	}
	write(t, dir, "token", "second\n")
	if err := look(2); err != nil {
		t.Errorf("with the token that was renewed: %v", err)
	}
}

func TestAPasswordIsInNoError(t *testing.T) {
	server := httptest.NewServer(guarded(running(), func(r *http.Request) bool {
		user, password, _ := r.BasicAuth()
		return user == "sluice" && password == "right"
	}))
	defer server.Close()
	dir := t.TempDir()
	write(t, dir, "password", "hunter2")
	for name, text := range map[string]string{
		"File":   `connections: {default: {url: "` + server.URL + `", http: {basic_auth: {username: sluice, password_file: password}}}}`,
		"Inline": `connections: {default: {url: "` + server.URL + `", http: {basic_auth: {username: sluice, password: hunter2}}}}`,
		"URL":    `connections: {default: {url: "` + strings.Replace(server.URL, "//", "//sluice:hunter2@", 1) + `"}}`,
		"Gone":   `connections: {default: {url: "http://sluice:hunter2@127.0.0.1:1"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			c, err := connect(t, dir, text, plain)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Watch(microAPI, "", shop); err != nil {
				t.Fatal(err)
			}
			c.collectors[DefaultConnection].look(t.Context(), tick(0))
			_, err = c.Since(t.Context(), microAPI, time.Time{})
			if err == nil || strings.Contains(fmt.Sprintf("%v %v %+v", err, c.Addresses(), c.collectors), "hunter2") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// joined are connections to fakes, by name, that every namespace may use.
func joined(t *testing.T, fakes map[string]*fakePrometheus) *Connections {
	t.Helper()
	c, err := NewConnections(nil, plain)
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range fakes {
		c.collectors[name], c.namespaces[name] = newCollector(p.client(t), plain, c.updates), []string{"*"}
	}
	return c
}

func TestAKeyMovesBetweenConnections(t *testing.T) {
	a, b := running(), running()
	c := joined(t, map[string]*fakePrometheus{"a": a, "b": b})
	watch := func(connection string) {
		t.Helper()
		if err := c.Watch(microAPI, connection, shop); err != nil {
			t.Fatal(err)
		}
	}
	look := func(n int) {
		for _, collector := range c.collectors {
			if collector.watching() {
				collector.look(t.Context(), tick(n))
			}
		}
	}
	if _, err := c.Since(t.Context(), microAPI, time.Time{}); !errors.Is(err, ErrNotYet) {
		t.Errorf("before anything is watched: %v", err)
	}
	watch("a")
	a.count(tick(0), 10)
	b.count(tick(0), 1000)
	look(0)
	a.count(tick(1), 13)
	look(1)
	if x, err := c.Since(t.Context(), microAPI, tick(0)); err != nil || x.Candidate != requests(3, 0) {
		t.Errorf("at a: %+v, %v", x, err)
	}
	for len(c.updates) > 0 {
		<-c.Updates()
	}
	watch("b")
	look(2)
	select {
	case k := <-c.Updates():
		if k != microAPI {
			t.Errorf("news of %s", k)
		}
	default:
		t.Error("the news of the key that moved are lost")
	}
	b.count(tick(3), 1007)
	a.asked()
	look(3)
	if x, err := c.Since(t.Context(), microAPI, tick(2)); err != nil || x.Candidate != requests(7, 0) {
		t.Errorf("at b: %+v, %v", x, err)
	}
	if q := a.asked(); len(q) != 0 {
		t.Errorf("a is still asked: %q", q)
	}
	if _, err := c.History(t.Context(), microAPI, tick(3)); err != nil {
		t.Error(err)
	}
	c.Unwatch(microAPI)
	c.Unwatch(microAPI)
	for name, collector := range c.collectors {
		if collector.watching() {
			t.Errorf("%s still watches", name)
		}
	}
	if _, err := c.History(t.Context(), microAPI, tick(3)); !errors.Is(err, ErrNotYet) || c.Readings(microAPI) != nil {
		t.Errorf("after Unwatch: %v", err)
	}
}

func TestAConnectionThatHangsDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := running(), running()
		a.answer = func(_ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true }
		c := joined(t, map[string]*fakePrometheus{"a": a, "b": b})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.Start(ctx) }()
		other := Key{"shop", "other"}
		for key, connection := range map[Key]string{microAPI: "a", other: "b"} {
			if err := c.Watch(key, connection, shop); err != nil {
				t.Fatal(err)
			}
		}
		start := time.Now()
		first, second := <-c.Updates(), <-c.Updates()
		if diff := cmp.Diff([]Key{other, microAPI}, []Key{first, second}); diff != "" || time.Since(start) > 5*time.Second {
			t.Errorf("after %s: -want, +got:\n%s", time.Since(start), diff)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
