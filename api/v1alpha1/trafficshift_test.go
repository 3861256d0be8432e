package v1alpha1

import (
	"encoding/json"
	"math"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"
)

// A spec that never met an API server must mean the same as one that did.
func TestDefaultGivesWhatTheSchemaGives(t *testing.T) {
	raw, err := os.ReadFile("../../manifests/crd/sluice.dev_trafficshifts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var crd apiextensionsv1.CustomResourceDefinition
	if err := yaml.Unmarshal(raw, &crd); err != nil {
		t.Fatal(err)
	}
	defaults := map[string]json.RawMessage{}
	for name, p := range crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"].Properties {
		if p.Default != nil {
			defaults[name] = p.Default.Raw
		}
	}
	text, err := json.Marshal(defaults)
	if err != nil {
		t.Fatal(err)
	}
	var want, got TrafficShiftSpec
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	// What a static default cannot say: these two depend on whether there are steps.
	want.Pacing, want.Hold = PacingAuto, &metav1.Duration{Duration: 30 * time.Second}
	got.Default()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("a spec with nothing in it (-schema +Default):\n%s", diff)
	}
}

func TestDefaultLeavesWhatIsSaid(t *testing.T) {
	zero, one := metav1.Duration{}, int32(1)
	said := TrafficShiftSpec{
		Strategy: StrategyCanary, Steps: ladder("100"), Hold: &zero, MaxErrorRate: "0%", MinRequests: &one,
		Capacity: CapacityProportional, ReadyThreshold: "80%", KeepRejected: &metav1.Duration{Duration: time.Second}, MinReplicas: new(int32(2)), Autoscaler: AutoscalerFollow, Deadline: &metav1.Duration{Duration: time.Second}, Bake: &zero, Pacing: PacingLadder, MaxIncrease: "1%", MaxFailedRequests: &one,
		Reporter: ReporterWaypoint,
	}
	got := *said.DeepCopy()
	got.Default()
	if diff := cmp.Diff(said, got); diff != "" {
		t.Errorf("Default changed what was said (-said +got):\n%s", diff)
	}
}

func ladder(weights ...string) []Step {
	var steps []Step
	for _, w := range weights {
		steps = append(steps, Step{Weight: new(intstr.Parse(w))})
	}
	return steps
}

var testers = []apiextensionsv1.JSON{{Raw: []byte(`{"headers":{"x-tester":{"exact":"yes"}}}`)}}

// beside is a ladder with a match beside each weight that is given, and 100 at its end.
func beside(weights ...string) []Step {
	steps := ladder(weights...)
	for i := range steps {
		steps[i].Match = testers
	}
	if weights[len(weights)-1] != "100" {
		steps = append(steps, ladder("100")...)
	}
	return steps
}

func TestValidateNamesTheField(t *testing.T) {
	negative := &metav1.Duration{Duration: -time.Second}
	tests := map[string]struct {
		change func(*TrafficShiftSpec)
		want   []string
	}{
		"Defaults":              {func(*TrafficShiftSpec) {}, nil},
		"Strategy":              {func(s *TrafficShiftSpec) { s.Strategy = "rolling" }, []string{"spec.strategy"}},
		"OneStep":               {func(s *TrafficShiftSpec) { s.Steps = ladder("100") }, nil},
		"FineSteps":             {func(s *TrafficShiftSpec) { s.Steps = ladder("0.5", "1%", "100") }, nil},
		"NotRising":             {func(s *TrafficShiftSpec) { s.Steps = ladder("20", "20", "100") }, []string{"spec.steps[1].weight"}},
		"Falling":               {func(s *TrafficShiftSpec) { s.Steps = ladder("50", "20", "100") }, []string{"spec.steps[1].weight"}},
		"Zero":                  {func(s *TrafficShiftSpec) { s.Steps = ladder("0", "100") }, []string{"spec.steps[0].weight"}},
		"TooMuch":               {func(s *TrafficShiftSpec) { s.Steps = ladder("5", "500", "100") }, []string{"spec.steps[1].weight"}},
		"Negative":              {func(s *TrafficShiftSpec) { s.Steps = ladder("-5", "100") }, []string{"spec.steps[0].weight"}},
		"TooFine":               {func(s *TrafficShiftSpec) { s.Steps = ladder("0.05", "100") }, []string{"spec.steps[0].weight"}},
		"AutoWithSteps":         {func(s *TrafficShiftSpec) { s.Pacing = PacingAuto }, []string{"spec.steps"}},
		"Auto":                  {func(s *TrafficShiftSpec) { s.Pacing, s.Steps = PacingAuto, nil }, nil},
		"Pacing":                {func(s *TrafficShiftSpec) { s.Pacing = "slow" }, []string{"spec.pacing"}},
		"IncreaseText":          {func(s *TrafficShiftSpec) { s.MaxIncrease = "a bit" }, []string{"spec.maxIncrease"}},
		"IncreaseTooSmall":      {func(s *TrafficShiftSpec) { s.MaxIncrease = "0.1%" }, []string{"spec.maxIncrease"}},
		"NoFailureAllowed":      {func(s *TrafficShiftSpec) { s.MaxFailedRequests = new(int32) }, []string{"spec.maxFailedRequests"}},
		"Reporter":              {func(s *TrafficShiftSpec) { s.Reporter = "sidecar" }, []string{"spec.reporter"}},
		"EndsBelow100":          {func(s *TrafficShiftSpec) { s.Steps = ladder("5", "50") }, []string{"spec.steps"}},
		"NoSteps":               {func(s *TrafficShiftSpec) { s.Steps = nil }, []string{"spec.steps"}},
		"ErrorRate":             {func(s *TrafficShiftSpec) { s.MaxErrorRate = "lots" }, []string{"spec.maxErrorRate"}},
		"ErrorRateFinerThan0.1": {func(s *TrafficShiftSpec) { s.MaxErrorRate = "0.01%" }, nil},
		"Latency":               {func(s *TrafficShiftSpec) { s.MaxLatency = limit("99", time.Second) }, nil},
		"LatencyPercentile0":    {func(s *TrafficShiftSpec) { s.MaxLatency = limit("0", time.Second) }, []string{"spec.maxLatency.percentile"}},
		"LatencyPercentile100":  {func(s *TrafficShiftSpec) { s.MaxLatency = limit("100", time.Second) }, []string{"spec.maxLatency.percentile"}},
		"LatencyPercentileText": {func(s *TrafficShiftSpec) { s.MaxLatency = limit("p99", time.Second) }, []string{"spec.maxLatency.percentile"}},
		"LatencyBelow0":         {func(s *TrafficShiftSpec) { s.MaxLatency = limit("99", 0) }, []string{"spec.maxLatency.below"}},
		"NoRequests":            {func(s *TrafficShiftSpec) { s.MinRequests = new(int32) }, []string{"spec.minRequests"}},
		"GatewaysWithoutHosts":  {func(s *TrafficShiftSpec) { s.Gateways = []string{"a/b"} }, []string{"spec.hosts"}},
		"Service":               {func(s *TrafficShiftSpec) { s.Service = "shop-2" }, nil},
		"ServiceElsewhere":      {func(s *TrafficShiftSpec) { s.Service = "pay.bank.svc.cluster.local" }, []string{"spec.service"}},
		"ServiceTooLong":        {func(s *TrafficShiftSpec) { s.Service = "a" + strings.Repeat("b", 63) }, []string{"spec.service"}},
		"NegativeHold":          {func(s *TrafficShiftSpec) { s.Hold = negative }, []string{"spec.hold"}},
		"NoRevisions":           {func(s *TrafficShiftSpec) { s.RollbackWindow = &RollbackWindow{} }, []string{"spec.rollbackWindow.revisions"}},
		"ManyRevisions":         {func(s *TrafficShiftSpec) { s.RollbackWindow = &RollbackWindow{Revisions: 11} }, []string{"spec.rollbackWindow.revisions"}},
		"NegativeBake":          {func(s *TrafficShiftSpec) { s.Bake = negative }, []string{"spec.bake"}},
		"OtherCapacity":         {func(s *TrafficShiftSpec) { s.Capacity = "half" }, []string{"spec.capacity"}},
		"ReadyThresholdOfNone":  {func(s *TrafficShiftSpec) { s.ReadyThreshold = "0%" }, []string{"spec.readyThreshold"}},
		"NegativeKeep":          {func(s *TrafficShiftSpec) { s.KeepRejected.Duration = -1 }, []string{"spec.keepRejected"}},
		"PreviewOfACanary":      {func(s *TrafficShiftSpec) { s.Preview = &Preview{Replicas: new(int32(1))} }, []string{"spec.preview.replicas"}},
		"NoMinReplicas":         {func(s *TrafficShiftSpec) { s.MinReplicas = new(int32(0)) }, []string{"spec.minReplicas"}},
		"OtherAutoscaler":       {func(s *TrafficShiftSpec) { s.Autoscaler = "keda" }, []string{"spec.autoscaler"}},
		"MatchBesideWeight":     {func(s *TrafficShiftSpec) { s.Steps = beside("20") }, nil},
		"MatchBeside100":        {func(s *TrafficShiftSpec) { s.Steps = beside("20", "100") }, []string{"spec.steps[1].match"}},
		"MatchBesideMirror":     {func(s *TrafficShiftSpec) { s.Steps = append([]Step{{Mirror: "10%", Match: testers}}, ladder("100")...) }, nil},
		"MirrorBesideWeight":    {func(s *TrafficShiftSpec) { s.Steps = ladder("20", "100"); s.Steps[0].Mirror = "10%" }, []string{"spec.steps[0]"}},
		"MatchMirrorAfterWeight": {func(s *TrafficShiftSpec) {
			s.Steps = slices.Concat(ladder("20"), []Step{{Mirror: "10%", Match: testers}}, ladder("100"))
		}, []string{"spec.steps[1]"}},
		"NegativeDrain": {func(s *TrafficShiftSpec) { s.Drain = &metav1.Duration{Duration: -1} }, []string{"spec.drain"}},
		"NoDeadline":    {func(s *TrafficShiftSpec) { s.Deadline = &metav1.Duration{} }, []string{"spec.deadline"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			s := TrafficShiftSpec{Pacing: PacingLadder}
			s.Default()
			tc.change(&s)
			var got []string
			for _, err := range s.Validate(field.NewPath("spec")) {
				got = append(got, err.Field)
				if strings.HasSuffix(err.Error(), ": ") {
					t.Errorf("%v does not say what is accepted", err)
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("refused fields (-want +got):\n%s", diff)
			}
		})
	}
}

func TestValidateNamesTheFieldOfAGate(t *testing.T) {
	seconds := func(n float64) *metav1.Duration {
		return &metav1.Duration{Duration: time.Duration(n * float64(time.Second))}
	}
	number := func(n int32) *int32 { return &n }
	query := func(change func(*QueryGate)) Gate {
		q := &QueryGate{PromQL: "up", Min: "1"}
		change(q)
		return Gate{Name: "g", Query: q}
	}
	webhook := func(change func(*WebhookGate)) Gate {
		w := &WebhookGate{URL: "http://gate.shop:8080/ask?env=prod"}
		change(w)
		return Gate{Name: "g", Webhook: w}
	}
	at := func(u string) Gate { return webhook(func(w *WebhookGate) { w.URL = u }) }
	before := func(p Percent) Gate { return Gate{Name: "g", Manual: &ManualGate{Before: p}} }
	tests := map[string]struct {
		gates []Gate
		want  []string // fields under spec.gates
	}{
		"OneOfEach": {[]Gate{{Name: "a", Query: &QueryGate{PromQL: "up", Max: "0"}}, {Name: "b", Webhook: &WebhookGate{URL: "https://x"}}, {Name: "c", Manual: &ManualGate{}}}, nil},
		"NameTwice": {[]Gate{before("5"), before("50")}, []string{"[1].name"}},
		"NoName":    {[]Gate{{Manual: &ManualGate{}}}, []string{"[0].name"}},
		"Name":      {[]Gate{{Name: "Checkout", Manual: &ManualGate{}}}, []string{"[0].name"}},
		"BuiltIn":   {[]Gate{{Name: "error-rate", Manual: &ManualGate{}}}, []string{"[0].name"}},
		"LongName":  {[]Gate{{Name: strings.Repeat("x", 64), Manual: &ManualGate{}}}, []string{"[0].name"}},
		"NoKind":    {[]Gate{{Name: "g"}}, []string{"[0]"}},
		"TwoKinds":  {[]Gate{{Name: "g", Manual: &ManualGate{}, Query: &QueryGate{PromQL: "up", Min: "1"}}}, []string{"[0]"}},
		"DryPerson": {[]Gate{{Name: "g", Manual: &ManualGate{}, DryRun: true}}, []string{"[0].dryRun"}},

		"NoPromQL":     {[]Gate{query(func(q *QueryGate) { q.PromQL = " " })}, []string{"[0].query.promql"}},
		"NoBound":      {[]Gate{query(func(q *QueryGate) { q.Min = "" })}, []string{"[0].query"}},
		"MinText":      {[]Gate{query(func(q *QueryGate) { q.Min = "some" })}, []string{"[0].query.min"}},
		"MinNaN":       {[]Gate{query(func(q *QueryGate) { q.Min = "NaN" })}, []string{"[0].query.min"}},
		"MaxInfinite":  {[]Gate{query(func(q *QueryGate) { q.Max = "1e999" })}, []string{"[0].query.max"}},
		"MinAboveMax":  {[]Gate{query(func(q *QueryGate) { q.Min, q.Max = "0.2", "1e-1" })}, []string{"[0].query.min"}},
		"MinIsMax":     {[]Gate{query(func(q *QueryGate) { q.Min, q.Max = "0.1", "1e-1" })}, nil},
		"Below0":       {[]Gate{query(func(q *QueryGate) { q.Min, q.Max = "-2", "-1" })}, nil},
		"NoWindow":     {[]Gate{query(func(q *QueryGate) { q.Window = seconds(0) })}, []string{"[0].query.window"}},
		"NoData":       {[]Gate{query(func(q *QueryGate) { q.NoData = "ignore" })}, []string{"[0].query.noData"}},
		"NoFailures":   {[]Gate{query(func(q *QueryGate) { q.Failures = number(0) })}, []string{"[0].query.failures"}},
		"ManyFailures": {[]Gate{query(func(q *QueryGate) { q.Failures = number(101) })}, []string{"[0].query.failures"}},

		"NoURL":       {[]Gate{at("")}, []string{"[0].webhook.url"}},
		"URLScheme":   {[]Gate{at("ftp://x/")}, []string{"[0].webhook.url"}},
		"URLNoHost":   {[]Gate{at("http:///ask")}, []string{"[0].webhook.url"}},
		"URLOnlyPort": {[]Gate{at("http://:80/ask")}, []string{"[0].webhook.url"}},
		"URLUser":     {[]Gate{at("http://me:secret@x/ask")}, []string{"[0].webhook.url"}},
		"URLBadPort":  {[]Gate{at("http://me:secret@x:port/?secret")}, []string{"[0].webhook.url"}},
		"URLFragment": {[]Gate{at("http://x/#ask")}, []string{"[0].webhook.url"}},
		"URLIPv6":     {[]Gate{at("https://[2001:db8::1]:8443/")}, nil},
		"NoTimeout":   {[]Gate{webhook(func(w *WebhookGate) { w.Timeout = seconds(0) })}, []string{"[0].webhook.timeout"}},
		"LongTimeout": {[]Gate{webhook(func(w *WebhookGate) { w.Timeout = seconds(61) })}, []string{"[0].webhook.timeout"}},
		"Interval":    {[]Gate{webhook(func(w *WebhookGate) { w.Interval = seconds(0.5) })}, []string{"[0].webhook.interval"}},
		"Retries":     {[]Gate{webhook(func(w *WebhookGate) { w.Retries = number(-1) })}, []string{"[0].webhook.retries"}},
		"ManyRetries": {[]Gate{webhook(func(w *WebhookGate) { w.Retries = number(11) })}, []string{"[0].webhook.retries"}},
		"OnError":     {[]Gate{webhook(func(w *WebhookGate) { w.OnError = "pass" })}, []string{"[0].webhook.onError"}},

		"Before":        {[]Gate{before("0.5%")}, nil},
		"BeforeText":    {[]Gate{before("half")}, []string{"[0].manual.before"}},
		"BeforeTooFine": {[]Gate{before("0.05%")}, []string{"[0].manual.before"}},
		"BeforeNothing": {[]Gate{before("0")}, []string{"[0].manual.before"}},
		"BeforeTooMuch": {[]Gate{before("101")}, []string{"[0].manual.before"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			s := TrafficShiftSpec{Gates: tc.gates}
			s.Default()
			var got []string
			for _, err := range s.Validate(field.NewPath("spec")) {
				got = append(got, strings.TrimPrefix(err.Field, "spec.gates"))
				if err.Type != field.ErrorTypeDuplicate && strings.HasSuffix(err.Error(), ": ") {
					t.Errorf("%v does not say what is accepted", err)
				}
				if strings.Contains(err.Error(), "secret") {
					t.Errorf("%v shows a password", err)
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("refused fields (-want +got):\n%s", diff)
			}
		})
	}
}

func TestBoundsOfAQuery(t *testing.T) {
	for _, tc := range []struct {
		least, most         string
		wantLeast, wantMost float64
	}{
		{"0.95", "", 0.95, math.Inf(1)}, {"", "1e3", math.Inf(-1), 1000}, {"-1", "1", -1, 1},
	} {
		least, most := (&QueryGate{Min: tc.least, Max: tc.most}).Bounds()
		if least != tc.wantLeast || most != tc.wantMost {
			t.Errorf("min %q, max %q: %g to %g; want %g to %g", tc.least, tc.most, least, most, tc.wantLeast, tc.wantMost)
		}
	}
}

func limit(percentile string, below time.Duration) *LatencyLimit {
	return &LatencyLimit{Percentile: percentile, Below: metav1.Duration{Duration: below}}
}

// The state is decided on as a copy: what a pass does to it must never reach the object that it was read from.
func TestDeepCopyOfStateSharesNothing(t *testing.T) {
	var s State
	fill(reflect.ValueOf(&s).Elem())
	before, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	c := s.DeepCopy()
	if diff := cmp.Diff(s, *c); diff != "" {
		t.Fatalf("the copy is another (-original +copy):\n%s", diff)
	}
	scribble(reflect.ValueOf(c).Elem())
	after, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(before), string(after)); diff != "" {
		t.Errorf("writing to the copy changed the original:\n%s", diff)
	}
}

// A state must come back from the API server as it was written, or a restart would decide on another one.
func TestStateComesBackFromJSON(t *testing.T) {
	var s, got State
	fill(reflect.ValueOf(&s).Elem())
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s, got); diff != "" {
		t.Errorf("the state came back otherwise (-written +read):\n%s", diff)
	}
	if raw, err = json.Marshal(TrafficShiftStatus{}); err != nil || strings.Contains(string(raw), "state") {
		t.Errorf("an empty state is written %s, %v; want it left out", raw, err)
	}
}

var someTime = time.Date(2026, 11, 1, 12, 0, 0, 123456000, time.Local) // to the microsecond, which is what a MicroTime keeps

// fill gives every field a value that is not its zero.
func fill(v reflect.Value) {
	switch v.Interface().(type) {
	case metav1.MicroTime:
		v.Set(reflect.ValueOf(metav1.NewMicroTime(someTime)))
		return
	case metav1.Duration:
		v.Set(reflect.ValueOf(metav1.Duration{Duration: time.Minute}))
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.String:
		v.SetString("x")
	case reflect.Int32, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint8:
		v.SetUint('7') // raw JSON
	case reflect.Bool:
		v.SetBool(true)
	default:
		panic("fill does not know " + v.Kind().String())
	}
}

// scribble writes over everything that can be reached through a pointer or a slice.
func scribble(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		scribble(v.Elem())
		v.Elem().SetZero()
	case reflect.Slice:
		for i := range v.Len() {
			scribble(v.Index(i))
			v.Index(i).SetZero()
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[metav1.MicroTime]() {
			return
		}
		for i := range v.NumField() {
			scribble(v.Field(i))
		}
	}
}
