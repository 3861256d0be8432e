package webhook

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"

	"github.com/sluice-dev/sluice/metrics/analysis"
)

func hosts(t *testing.T, patterns ...string) Hosts {
	t.Helper()
	h, err := ParseHosts(patterns)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// quick are options for endpoints of this machine, whose retries do not keep a test waiting.
func quick(t *testing.T) Options {
	return Options{Hosts: hosts(t, "*", "127.0.0.1"), Backoff: time.Nanosecond, MaxBackoff: time.Nanosecond}
}

func question(url string) Question {
	return Question{
		URL: url, Interval: 15 * time.Second, Timeout: 5 * time.Second, OnError: analysis.Inconclusive,
		Event: Event{
			Gate: "ask", Namespace: "shop", Name: "micro-api", UID: "6f1c", Run: "6f1c-v2-1", Stable: "v1", Candidate: "v2", Weight: "20%",
			Phase: "Progressing", Stage: "Stepping", Step: "2/4",
		},
	}
}

// once asks one question to its end.
func once(t *testing.T, o Options, q Question) Answer {
	t.Helper()
	c := NewCaller(o)
	t.Cleanup(c.client.CloseIdleConnections)
	return c.ask(t.Context(), q, make(chan struct{}, 1))
}

// shown is an answer without its time, and without the port of a test's server.
func shown(t *testing.T, a Answer, server string) string {
	t.Helper()
	if a.At.IsZero() || a.At.Nanosecond()%1000 != 0 {
		t.Errorf("the answer is of %s; want a time in microseconds", a.At)
	}
	if u, err := url.Parse(server); err == nil && u.Host != "" {
		a.Message = strings.ReplaceAll(a.Message, u.Host, "HOST")
	}
	return fmt.Sprintf("%s: %s", a.Outcome, a.Message)
}

func TestWhatAStatusMeans(t *testing.T) {
	long := strings.Repeat("x", 300)
	for _, tc := range []struct {
		status  int
		body    string
		onError analysis.Outcome
		want    string
	}{
		{200, "", analysis.Fail, "Pass: HOST answered 200"},
		{204, "", analysis.Fail, "Pass: HOST answered 204"},
		{299, "no matter what it says", analysis.Fail, "Pass: HOST answered 299"},
		{409, "freeze until Monday\nand more", analysis.Fail, "Inconclusive: HOST says to wait (409): freeze until Monday"},
		{425, "", analysis.Fail, "Inconclusive: HOST says to wait (425)"},
		{409, "\r\n  \x1b[31mred\x00\xff \t\u202e end \r\n", analysis.Fail, "Inconclusive: HOST says to wait (409): [31mred  end"},
		{409, long, analysis.Fail, "Inconclusive: HOST says to wait (409): " + long[:200]},
		{409, strings.Repeat("é", 300), analysis.Fail, "Inconclusive: HOST says to wait (409): " + strings.Repeat("é", 200)},
		{500, "a stack", analysis.Inconclusive, "Inconclusive: HOST answered 500 Internal Server Error (asked 3 times)"},
		{500, "a stack", analysis.Fail, "Fail: HOST answered 500 Internal Server Error (asked 3 times)"},
		{403, "no", analysis.Fail, "Fail: HOST answered 403 Forbidden (asked 3 times)"},
		{599, "", analysis.Fail, "Fail: HOST answered 599 (asked 3 times)"},
		{302, "", analysis.Fail, "Fail: HOST answered 302 Found; redirects are not followed (asked 3 times)"},
	} {
		elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", elsewhere.URL)
			w.WriteHeader(tc.status)
			_, _ = io.WriteString(w, tc.body)
		}))
		q := question(s.URL)
		q.Retries, q.OnError = 2, tc.onError
		if got := shown(t, once(t, quick(t), q), s.URL); got != tc.want {
			t.Errorf("%d %q: %s; want %s", tc.status, tc.body, got, tc.want)
		}
		s.Close()
		elsewhere.Close()
	}
}

// An endpoint that fails now and then is asked again, with the same event, and that is no failure.
func TestARetryIsTheSameEvent(t *testing.T) {
	var mu sync.Mutex
	var ids, bodies []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		var e envelope
		if err := json.Unmarshal(text, &e); err != nil {
			t.Errorf("%v: %s", err, text)
		}
		mu.Lock()
		defer mu.Unlock()
		ids, bodies = append(ids, e.ID), append(bodies, string(text))
		if len(ids)%3 != 0 {
			w.WriteHeader(http.StatusBadGateway)
		}
	}))
	defer s.Close()
	q := question(s.URL)
	q.Retries, q.OnError = 2, analysis.Fail
	for range 2 {
		if got := shown(t, once(t, quick(t), q), s.URL); got != "Pass: HOST answered 200" {
			t.Error(got)
		}
	}
	if len(ids) != 6 || bodies[0] != bodies[1] || bodies[1] != bodies[2] {
		t.Fatalf("the retries are not the same event: %q", bodies)
	}
	if ids[0] == ids[3] || ids[0] == "" {
		t.Errorf("two questions have the same id %q", ids[0])
	}
}

func TestTheRequestIsASignedCloudEvent(t *testing.T) {
	key := []byte("0123456789abcdef0123456789abcdef")
	var text []byte
	var header http.Header
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		text, _ = io.ReadAll(r.Body)
		header = r.Header.Clone()
		header.Set("Method", r.Method)
	}))
	defer s.Close()
	o := quick(t)
	o.SigningKey = func() ([]byte, error) { return key, nil }
	once(t, o, question(s.URL+"/ask?env=prod"))

	var got map[string]any
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if _, err := time.Parse(time.RFC3339, got["time"].(string)); err != nil {
		t.Error(err)
	}
	if id, _ := got["id"].(string); len(id) < 16 {
		t.Errorf("id %q", id)
	}
	delete(got, "time")
	delete(got, "id")
	want := map[string]any{
		"specversion": "1.0", "type": "dev.sluice.gate.v1", "subject": "ask", "datacontenttype": "application/json",
		"source": "/apis/sluice.dev/v1alpha1/namespaces/shop/trafficshifts/micro-api",
		"data": map[string]any{
			"gate": "ask", "namespace": "shop", "name": "micro-api", "uid": "6f1c", "run": "6f1c-v2-1", "stable": "v1", "candidate": "v2",
			"weight": "20%", "phase": "Progressing", "stage": "Stepping", "step": "2/4",
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("body (-want +got):\n%s", diff)
	}
	if header.Get("Method") != "POST" || header.Get("Content-Type") != "application/cloudevents+json" || header.Get("User-Agent") != "sluice" {
		t.Errorf("header %v", header)
	}
	if err := Verify(header.Get(SignatureHeader), text, key, time.Now(), time.Minute); err != nil {
		t.Error(err)
	}
	once(t, quick(t), question(s.URL))
	if _, signed := header[SignatureHeader]; signed {
		t.Error("signed without a key")
	}
}

// A key that cannot be read is a mistake of the installation's: nothing is sent unsigned, and no candidate is refused for it.
func TestWithoutItsKeyNothingIsSent(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("sent unsigned") }))
	defer s.Close()
	o := quick(t)
	o.SigningKey = KeyFile("/nowhere/key")
	q := question(s.URL)
	q.OnError, q.Retries = analysis.Fail, 2
	want := "Inconclusive: not asked, because the request cannot be signed: reading the signing key: open /nowhere/key: no such file or directory"
	if got := shown(t, once(t, o, q), s.URL); got != want {
		t.Errorf("%s; want %s", got, want)
	}
}

// What goes wrong on the way is told in words that are the same each time and hold no secret.
func TestWhatGoesWrongOnTheWay(t *testing.T) {
	const secret = "hunter2"
	stop := make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-stop:
		case <-r.Context().Done():
		}
	}))
	defer slow.Close()
	defer close(stop)
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // it tells of every handshake that fails
	secure.StartTLS()
	defer secure.Close()
	hangUp := serve(t, func(c net.Conn) { _ = c.Close() })
	noHTTP := serve(t, func(c net.Conn) { _, _ = io.WriteString(c, "220 mail.example.com\r\n"); _ = c.Close() })
	longHeader := serve(t, func(c net.Conn) {
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nX-A: "+strings.Repeat("x", 1<<20)+"\r\n\r\n")
		_ = c.Close()
	})
	closed := serve(t, nil)
	for name, tc := range map[string]struct{ url, want string }{
		"Refused":     {closed, "HOST: cannot be reached (asked 2 times)"},
		"HangsUp":     {hangUp, "HOST: cannot be reached (asked 2 times)"},
		"NoHTTP":      {noHTTP, "HOST: cannot be reached (asked 2 times)"},
		"NoTLS":       {strings.Replace(noHTTP, "http", "https", 1), "HOST: cannot be reached (asked 2 times)"},
		"HTTPForTLS":  {strings.Replace(slow.URL, "http", "https", 1), "HOST: cannot be reached (asked 2 times)"},
		"LongHeader":  {longHeader, "HOST: cannot be reached (asked 2 times)"},
		"TooSlow":     {slow.URL, "HOST: no answer in time (asked 2 times)"},
		"Certificate": {secure.URL, "HOST: its certificate is not trusted (asked 2 times)"},
		"HTTPToTLS":   {strings.Replace(secure.URL, "https", "http", 1), "HOST answered 400 Bad Request (asked 2 times)"},
	} {
		t.Run(name, func(t *testing.T) {
			q := question(tc.url + "/hooks/" + secret + "?token=" + secret)
			q.Retries, q.OnError, q.Timeout = 1, analysis.Fail, 5*time.Second
			if name == "TooSlow" {
				q.Timeout = 50 * time.Millisecond
			}
			got := shown(t, once(t, quick(t), q), tc.url)
			if !strings.HasPrefix(got, "Fail: ") || !strings.Contains(got, tc.want) {
				t.Errorf("%s; want Fail: %s", got, tc.want)
			}
			if strings.Contains(got, secret) || strings.Contains(got, "mail.example.com") {
				t.Errorf("%s shows a secret, or what another service said", got)
			}
			if again := shown(t, once(t, quick(t), q), tc.url); again != got {
				t.Errorf("the second time it reads %s; the first time %s", again, got)
			}
		})
	}
}

// What the status keeps to itself the log tells, to whoever asks for its debug level; the path and the query not even there.
func TestTheLogTellsWhyItWasNotReached(t *testing.T) {
	for level, want := range map[int]string{0: "", 1: "connection refused"} {
		var lines []string
		o := quick(t)
		o.Log = funcr.New(func(_, args string) { lines = append(lines, args) }, funcr.Options{Verbosity: level})
		once(t, o, question(serve(t, nil)+"/hooks/hunter2?token=hunter2"))
		got := strings.Join(lines, "\n")
		if want == "" && got != "" || !strings.Contains(got, want) || strings.Contains(got, "hunter2") {
			t.Errorf("at level %d: %s; want %q", level, got, want)
		}
	}
}

// serve accepts connections for handle; without one nobody listens at the address.
func serve(t *testing.T, handle func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if handle == nil {
		_ = l.Close()
		return "http://" + l.Addr().String()
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			buffer := make([]byte, 4096)
			_, _ = c.Read(buffer)
			handle(c)
		}
	}()
	return "http://" + l.Addr().String()
}

func TestWhereNobodyMayCall(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was called") }))
	defer s.Close()
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(s.URL, "http://"))
	refused := func(host, is string) string {
		return `host "` + host + `" is ` + is + ", which is called only where --webhook-allowed-hosts names the host itself; allowed: "
	}
	for _, tc := range []struct{ patterns, url, want string }{
		{"*", s.URL, refused("127.0.0.1", "127.0.0.1, a loopback address") + "*"},
		{"127.0.0.*", s.URL, refused("127.0.0.1", "127.0.0.1, a loopback address") + "127.0.0.*"},
		{"*,127.0.0.1", "http://[::ffff:127.0.0.1]:" + port, refused("::ffff:127.0.0.1", "127.0.0.1, a loopback address") + "*, 127.0.0.1"},
		{"*,127.0.0.1", "http://0.0.0.0:" + port, refused("0.0.0.0", "0.0.0.0, an unspecified address") + "*, 127.0.0.1"},
		// A name does not get around it: that the address is listed says nothing of who points at it.
		{"*,127.0.0.1", "http://localhost:" + port, refused("localhost", "127.0.0.1, a loopback address") + "*, 127.0.0.1"},
		{"*", "http://169.254.169.254/latest/meta-data", refused("169.254.169.254", "169.254.169.254, a link-local address") + "*"},
		{"*.example.com", s.URL, `host "127.0.0.1" is not allowed; allowed: Services of namespace shop, *.example.com; the administrator's webhooks.allowedHosts extends it`},
	} {
		q := question(tc.url)
		q.OnError, q.Retries = analysis.Fail, 2 // no error of the endpoint's: it holds, whatever onError says
		got := once(t, Options{Hosts: hosts(t, strings.Split(tc.patterns, ",")...)}, q)
		if strings.Contains(tc.url, "localhost") {
			got.Message = strings.Replace(got.Message, " ::1,", " 127.0.0.1,", 1)
		}
		if got.Outcome != analysis.Inconclusive || got.Message != tc.want {
			t.Errorf("%s with %s:\n got %s: %s\nwant Inconclusive: %s", tc.url, tc.patterns, got.Outcome, got.Message, tc.want)
		}
	}
}

// The short name of a Service is completed before it is resolved, and the endpoint is told the name that was written.
func TestAShortNameIsCompleted(t *testing.T) {
	c := NewCaller(Options{})
	for url, want := range map[string]string{
		"http://desk.shop/ask":                               "desk.shop.svc",
		"http://desk.shop:8080/ask":                          "desk.shop.svc:8080",
		"http://desk.shop.svc.cluster.local:8080/ask":        "desk.shop.svc.cluster.local:8080",
		"http://me:secret@desk.shop.svc.cluster.local./?a=b": "desk.shop.svc.cluster.local.",
	} {
		req, host, err := c.request(t.Context(), question(url), nil)
		if err != nil || req.URL.Host != want || req.Host != host || !strings.Contains(url, host) || req.URL.User != nil {
			t.Errorf("%s: %v, %v; want it sent to %s, as %s", url, req, err, want, host)
		}
	}
}

// A proxy that the environment names would be asked to call what we refuse to.
func TestNoProxyIsUsed(t *testing.T) {
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the proxy was asked") }))
	defer proxy.Close()
	t.Setenv("HTTP_PROXY", proxy.URL)
	if p := transport(reach{}).Proxy; p != nil {
		t.Error("the transport asks for a proxy")
	}
}

// An answer without an end is not read to its end, and costs no memory.
func TestAnAnswerIsReadInPart(t *testing.T) {
	var sent atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusConflict)
		chunk := []byte(strings.Repeat("wait ", 4096))
		for r.Context().Err() == nil && sent.Load() < 1<<30 {
			n, err := w.Write(chunk)
			if err != nil {
				return
			}
			sent.Add(int64(n))
		}
	}))
	defer s.Close()
	if got := once(t, quick(t), question(s.URL)); got.Outcome != analysis.Inconclusive || !strings.HasSuffix(got.Message, "wait wait") {
		t.Errorf("%s: %s", got.Outcome, got.Message)
	}
	if n := sent.Load(); n >= 1<<30 {
		t.Errorf("%d bytes were read", n)
	}
}

func TestConnectionsAreUsedAgain(t *testing.T) {
	var opened atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "fine") }))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	s.Start()
	defer s.Close()
	c := NewCaller(quick(t))
	for range 5 {
		c.ask(t.Context(), question(s.URL), make(chan struct{}, 1))
	}
	c.client.CloseIdleConnections()
	if n := opened.Load(); n != 1 {
		t.Errorf("five questions opened %d connections; want 1", n)
	}
}

type observed struct {
	mu      sync.Mutex
	results []string
}

func (o *observed) ObserveWebhook(result string, _ time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.results = append(o.results, result)
}

func TestEveryRequestIsObserved(t *testing.T) {
	statuses := []int{500, 409, 200}
	var n atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(statuses[n.Add(1)-1]) }))
	defer s.Close()
	o, seen := quick(t), &observed{}
	o.Observer = seen
	q := question(s.URL)
	q.Retries = 1
	once(t, o, q)
	once(t, o, q)
	if diff := cmp.Diff([]string{"error", "wait", "pass"}, seen.results); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// FuzzFirstLine proves that nothing of an answer can break a line, a terminal or a status.
func FuzzFirstLine(f *testing.F) {
	for _, s := range []string{"", "a\nb", "\x00\x1b[31m", "\xff\xfe", "\u202eabc", strings.Repeat("é", 500)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got := firstLine(text)
		if len([]rune(got)) > maxLine || strings.ContainsAny(got, "\n\r\x00\x1b") {
			t.Errorf("%q is shown as %q", text, got)
		}
		if again := firstLine([]byte(got)); again != got {
			t.Errorf("%q is shown as %q, and that as %q", text, got, again)
		}
	})
}
