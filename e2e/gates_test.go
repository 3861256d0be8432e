package e2e

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/e2e/lab/load"
	"github.com/sluice-dev/sluice/e2e/scene"
)

// gates writes the gates of a service, as YAML of a list in braces, into a TrafficShift that adds to its annotations.
func gates(t *testing.T, s *scene.Scene, name, list string) {
	t.Helper()
	text := fmt.Sprintf(`
apiVersion: sluice.dev/v1alpha1
kind: TrafficShift
metadata: {name: %s, namespace: %s, annotations: {sluice.dev/extends-annotations: "true"}}
spec:
  gates:
%s`, name, scene.Shop, list)
	if err := s.ApplyYAML(t.Context(), []byte(text)); err != nil {
		t.Fatal(err)
	}
}

// answered is the share of the candidate's requests that were answered with 200.
const answered = `
      promql: |-
        sum(rate(istio_requests_total{reporter="source",destination_service_namespace="{{namespace}}",destination_workload="{{candidate}}",response_code="200"}[{{window}}]))
          / sum(rate(istio_requests_total{reporter="source",destination_service_namespace="{{namespace}}",destination_workload="{{candidate}}"}[{{window}}]))
      window: 5s
`

// docs/gates.md: "all must pass before a weight is raised", "Fail: goes back to 0 and is refused", "`dryRun: true` has a gate asked and shown,
// and its answer ignored", and "A mistake in a gate is refused when it is written".
func TestQueryGate(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const name = "queried"
	service(t, s, name)
	gates(t, s, name, `
  - name: answered
    query:`+answered+`
      min: "0.95"
  - name: wishful
    dryRun: true
    query:`+answered+`
      max: "0.5"`)
	users := through(t, s, name+".example.com", 60)
	release(t, s, name, "v2")
	await(t, s, name, "to have a weight", heldAt(50))
	for gate, want := range map[string]float64{"answered": 1, "wishful": -1} {
		eventually(t, "the verdict of "+gate, func(ctx context.Context) error { return verdict(ctx, s, name, gate, want) })
	}
	await(t, s, name, "to be promoted in spite of a dry run that fails", scene.Stable("v2"))

	gates(t, s, name, `
  - name: answered
    query:`+answered+`
      min: "0.95"
  - name: wishful
    query:`+answered+`
      max: "0.5"`)
	release(t, s, name, "v3")
	ts := await(t, s, name, "to be taken back by its gate", scene.Rejected("v3"))
	if got := ts.Status.History[0]; got.Reason != v1alpha1.ReasonGateFailed || got.Weight != "5%" || !strings.Contains(got.Message, "gate wishful: 1, above the most of 0.5") {
		t.Errorf("v3 ended as %s at %s: %s", got.Reason, got.Weight, got.Message)
	}

	gates(t, s, name, `
  - name: unbalanced
    query:
      promql: |-
        vector(1)
          + sum(rate(istio_requests_total{namespace="{{namespace}}"}[{{window}}])
      max: "1"`)
	ts = await(t, s, name, "to refuse a PromQL that cannot be read", func(ts *v1alpha1.TrafficShift) bool {
		c := condition(ts, v1alpha1.ConditionAccepted)
		return c != nil && c.Status == "False"
	})
	c := condition(ts, v1alpha1.ConditionAccepted)
	if !regexp.MustCompile(`gate "unbalanced": 2:\d+: .*paren`).MatchString(c.Message) || c.Reason != v1alpha1.ReasonInvalidSpec {
		t.Errorf("condition %+v; want it to name the gate, and the line and column", c)
	}
	t.Log(c.Message)
	lossless(t, users)
}

// verdict complains unless sluice_shift_gate_verdict says what is wanted.
func verdict(ctx context.Context, s *scene.Scene, name, gate string, want float64) error {
	series, err := query(ctx, s.PrometheusURL, fmt.Sprintf("sluice_shift_gate_verdict{name=%q,gate=%q}", name, gate))
	if err != nil {
		return err
	}
	for _, one := range series {
		if v, err := strconv.ParseFloat(one.value(), 64); err == nil && math.Abs(v-want) < 0.5 {
			return nil
		}
	}
	return fmt.Errorf("%d series, none is %v", len(series), want)
}

// docs/gates.md: "Waiting for a person costs no deadline", and "The value names the candidate, so that an approval never meets another release.
// It answers the gate that holds the candidate, once; the annotation is taken away when it is counted."
func TestManualGate(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const name = "approved"
	service(t, s, name, "deadline=15s")
	gates(t, s, name, `
  - name: go
    manual: {before: "50"}`)
	users := through(t, s, name+".example.com", 40)
	waits := func(ts *v1alpha1.TrafficShift) bool {
		c := condition(ts, v1alpha1.ConditionProgressing)
		return heldAt(50)(ts) && c != nil && c.Reason == v1alpha1.ReasonWaitingForApproval && strings.Contains(ts.Status.Message, v1alpha1.AnnotationApprove+"=v2")
	}
	approve := func(version string) {
		t.Helper()
		if err := s.Annotate(t.Context(), shiftOf(name), map[string]string{v1alpha1.AnnotationApprove: version}); err != nil {
			t.Fatal(err)
		}
		await(t, s, name, "to take the annotation away", func(ts *v1alpha1.TrafficShift) bool {
			return ts.Annotations[v1alpha1.AnnotationApprove] == ""
		})
	}
	release(t, s, name, "v2")
	await(t, s, name, "to wait for a person", waits)
	approve("v1")
	watchFor(t, s, name, 16*time.Second, "wait for longer than the deadline, for an approval of its own", heldAt(50))
	approve("v2")
	await(t, s, name, "to be promoted", scene.Stable("v2"))
	lossless(t, users)
}

// docs/gates.md: "409, 425: Inconclusive; the first line of the body is shown", "2xx: Pass", "It is asked again every interval, and told the
// present weight", and "With `webhooks.signingKey.secretName` each request carries `Sluice-Signature`".
func TestWebhookGate(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const name = "desked"
	d := openDesk(t)
	d.answer(http.StatusConflict)
	service(t, s, name)
	gates(t, s, name, d.gate())
	users := through(t, s, name+".example.com", 40)
	release(t, s, name, "v2")
	waits := func(ts *v1alpha1.TrafficShift) bool {
		return heldAt(50)(ts) && strings.Contains(ts.Status.Message, "the desk is closed") && !strings.Contains(ts.Status.Message, "lunch")
	}
	await(t, s, name, "to be told to wait", waits)
	watchFor(t, s, name, 5*time.Second, "wait while it is told to", heldAt(50))
	d.answer(http.StatusNoContent)
	await(t, s, name, "to be promoted when the desk says so", scene.Stable("v2"))
	d.check(t, name, "v2", "5%", "50%", "100%")
	lossless(t, users)
}

// docs/gates.md, at the start: "the candidate stays at 0%", "One that fails ends the release, with not one user's request on it", and "A webhook is
// told the weight `0%` and the stage `Exposing`".
func TestGateAtTheStart(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const name = "kept"
	d := openDesk(t)
	d.answer(http.StatusConflict)
	service(t, s, name, "deadline=15s")
	gates(t, s, name, `
  - name: desk
    at: start
    webhook: {url: "`+d.server.URL+`/may-start", interval: 1s, onError: fail}`)
	users := through(t, s, name+".example.com", 40)
	unweighted := func(ts *v1alpha1.TrafficShift) bool {
		return ts.Status.Candidate == "v2" && ts.Status.State.Weight == 0
	}
	kept := func(ts *v1alpha1.TrafficShift) bool {
		return unweighted(ts) && strings.Contains(ts.Status.Message, "before anybody meets v2: gate desk: ") &&
			strings.Contains(ts.Status.Message, "the desk is closed")
	}
	release(t, s, name, "v2")
	await(t, s, name, "to be told to wait at 0%", kept)
	watchFor(t, s, name, 16*time.Second, "wait for longer than the deadline, while it is told to", unweighted)
	unmet(t, users, "v2")
	d.answer(http.StatusNoContent)
	await(t, s, name, "to be promoted when the desk says so", scene.Stable("v2"))
	d.check(t, name, "v2", "0%")
	d.startedOnly(t)

	d.refuse(t, s, name, users)
	lossless(t, users)
}

// refuse has the desk say no to v3, which no user meets.
func (d *desk) refuse(t *testing.T, s *scene.Scene, name string, users *load.Source) {
	t.Helper()
	d.answer(http.StatusForbidden)
	release(t, s, name, "v3")
	ts := await(t, s, name, "to refuse v3", scene.Rejected("v3"))
	if got := ts.Status.History[0]; got.Reason != v1alpha1.ReasonGateFailed || got.Weight != "0%" || !strings.Contains(got.Message, "gate desk: ") {
		t.Errorf("v3 ended as %s at %s: %s", got.Reason, got.Weight, got.Message)
	}
	unmet(t, users, "v3")
}

// unmet asserts that no user was answered by a version.
func unmet(t *testing.T, users *load.Source, version string) {
	t.Helper()
	if met := users.Report().ByVersion[version]; met > 0 {
		t.Errorf("%d users met %s", met, version)
	}
}

// startedOnly asserts that nothing was asked once users had met the candidate.
func (d *desk) startedOnly(t *testing.T) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, q := range d.questions {
		if q.Data.Weight != "0%" || q.Data.Stage != string(v1alpha1.StageExposing) {
			t.Errorf("asked at %s, %s", q.Data.Weight, q.Data.Stage)
		}
	}
}

// signingKey is what requests to webhooks are signed with.
const signingKey = "mYk3yIsL0ng-and-known-to-two"

// desk is an endpoint that a release has to ask.
type desk struct {
	server *httptest.Server

	mu        sync.Mutex
	status    int
	questions []asked
	problems  []string
}

// asked is a question, as docs/gates.md shows it.
type asked struct {
	SpecVersion string    `json:"specversion"`
	ID          string    `json:"id"`
	Type        string    `json:"type"`
	Subject     string    `json:"subject"`
	Source      string    `json:"source"`
	Time        time.Time `json:"time"`
	Data        struct {
		Gate, Namespace, Name, UID, Run, Stable, Candidate, Weight, Phase, Stage, Step string
	} `json:"data"`
}

// openDesk opens a desk that says yes. It closes with the test.
func openDesk(t *testing.T) *desk {
	d := &desk{status: http.StatusOK}
	d.server = httptest.NewServer(d)
	t.Cleanup(d.server.Close)
	return d
}

// gate is a gate that asks it, with further fields of its own.
func (d *desk) gate(fields ...string) string {
	return `
  - name: desk
    webhook: {` + strings.Join(append([]string{`url: "` + d.server.URL + `/may-go-on"`, "interval: 1s"}, fields...), ", ") + `}`
}

func (d *desk) answer(status int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.status = status
}

func (d *desk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // who asked has gone
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var q asked
	if err := signed(r.Header.Get("Sluice-Signature"), body, time.Now()); err != nil {
		d.problems = append(d.problems, err.Error())
	}
	if err := json.Unmarshal(body, &q); err != nil || r.Method != http.MethodPost || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/cloudevents+json") {
		d.problems = append(d.problems, fmt.Sprintf("%s %s %q: %v", r.Method, r.Header.Get("Content-Type"), body, err))
	}
	d.questions = append(d.questions, q)
	w.WriteHeader(d.status)
	if d.status != http.StatusNoContent {
		fmt.Fprint(w, "the desk is closed\nfor lunch")
	}
}

// signed does what docs/gates.md says in a shell: the HMAC-SHA256, in hex, of the seconds since 1970, a dot and the body.
func signed(header string, body []byte, now time.Time) error {
	stamp, mac, ok := strings.Cut(strings.TrimPrefix(header, "t="), ",v1=")
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if !ok || err != nil {
		return fmt.Errorf("signature %q: %w", header, err)
	}
	if age := now.Sub(time.Unix(seconds, 0)).Abs(); age > 5*time.Minute {
		return fmt.Errorf("signature %q is %s old", header, age)
	}
	want := hmac.New(sha256.New, []byte(signingKey))
	fmt.Fprintf(want, "%s.%s", stamp, body)
	if got, err := hex.DecodeString(mac); err != nil || !hmac.Equal(got, want.Sum(nil)) {
		return fmt.Errorf("signature %q does not sign %q", header, body)
	}
	return nil
}

// check asserts that all questions were about one release, and that each of the weights was asked about.
func (d *desk) check(t *testing.T, name, candidate string, weights ...string) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.problems {
		t.Error(p)
	}
	if len(d.questions) == 0 {
		t.Fatal("the desk was asked nothing")
	}
	told, ids := map[string]bool{}, map[string]bool{}
	for _, q := range d.questions {
		told[q.Data.Weight], ids[q.ID] = true, true
		if first := d.questions[0]; q.Data.Run != first.Data.Run || q.Data.Run == "" {
			t.Errorf("asked about run %q, and before about %q", q.Data.Run, first.Data.Run)
		}
		if q.SpecVersion != "1.0" || q.Type != "dev.sluice.gate.v1" || q.Subject != "desk" || q.Data.Gate != "desk" ||
			q.Source != "/apis/sluice.dev/v1alpha1/namespaces/"+scene.Shop+"/trafficshifts/"+name ||
			q.Data.Namespace != scene.Shop || q.Data.Name != name || q.Data.Stable != "v1" || q.Data.Candidate != candidate || q.Data.Phase != string(v1alpha1.PhaseProgressing) {
			t.Errorf("asked %+v", q)
		}
	}
	for _, w := range weights {
		if !told[w] {
			t.Errorf("it was not asked about %s, only about %v", w, told)
		}
	}
	if len(ids) < len(weights) {
		t.Errorf("%d questions in all", len(ids))
	}
	t.Logf("%d questions about %v", len(ids), told)
}

// From the files of examples/gates. Its README: "A gate that has no answer holds", "the candidate gets its first weight and stays there, and the
// message says what it waits for". Its hold is made short here.
func TestGatesWithoutAnAnswer(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const name = "purchases"
	example(t, s, "gates", name)
	if err := s.Annotate(t.Context(), deployment(name), annotationsOf(quick[2:]...)); err != nil {
		t.Fatal(err)
	}
	users := within(t, s, name, "http://purchases.shop.svc.cluster.local/", 60)
	image(t, s, name, "docker.io/sluice-dev/micro-api:1.3")
	await(t, s, name, "to prove its first weight", proven(50))
	await(t, s, name, "to wait for its gates", func(ts *v1alpha1.TrafficShift) bool {
		return ts.Status.State.Weight == 50 && strings.Contains(ts.Status.Message, "gate orders: no data")
	})
	eventually(t, "the change desk not to be reached", func(ctx context.Context) error { return verdict(ctx, s, name, "change-desk", 0) })
	tell(t, s, name, v1alpha1.AnnotationAbort, "v2")
	await(t, s, name, "to be taken back", scene.Rejected("v2"))
	lossless(t, users)
}
