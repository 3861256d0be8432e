package plan_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	networking "istio.io/api/networking/v1alpha3"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/plan"
	"github.com/sluice-dev/sluice/controllers/shift"
)

var update = flag.Bool("update", false, "rewrite the golden files; commit only a difference that you can explain")

// scenario is one *.in.yaml: a world and what is asked of it.
type scenario struct {
	Deployment      appsv1.Deployment
	Service         corev1.Service
	Made            bool // in place of service: none selects the pods
	Host            string
	GatewaySelector map[string]string
	Spec            v1alpha1.TrafficShiftSpec
	Policy          *networking.TrafficPolicy
	Records         map[string]recorded
	Previews        []string
	Shown           bool
	Hosted          []string
	Restarted       map[string]string
	Autoscaler      *autoscalingv2.HorizontalPodAutoscaler
	Scaled          *scaled
	Versions        []string // that have a Service for routes of the Gateway API
	Desired         shift.Desired
	Delegate        bool
	RuleBeside      bool
	Attached        attachments
}

// attached is a VirtualService of the user's, with the object beside what the DestinationRule says of it.
type attached struct {
	VirtualService string
	Namespace      string
	Withheld       bool
	Routes         []string
	TCP            []v1alpha1.AttachedTCPRoute
	TLS            []v1alpha1.AttachedTLSRoute
	Was            map[string]plan.Origin
	Object         map[string]any // none where it is gone
	Unread         bool
}

// attachments are one of them, or a list, as a DestinationRule has it too.
type attachments []attached

func (a *attachments) UnmarshalJSON(raw []byte) error {
	if bytes.HasPrefix(raw, []byte("[")) {
		return json.Unmarshal(raw, (*[]attached)(a))
	}
	*a = make(attachments, 1)
	return json.Unmarshal(raw, &(*a)[0])
}

// scaled is what is known of ScaledObjects; of others than the one that is followed, their names.
type scaled struct {
	Object              map[string]any
	Following, Pausable bool
	Paused, Strays      []string
}

// recorded is a version's record, told by what tells it from the live template.
type recorded struct {
	Image, Verdict string
	Labels         map[string]string
}

// TestGolden compares the whole plan of each scenario, objects and order, with its *.out.yaml.
func TestGolden(t *testing.T) {
	inputs, err := filepath.Glob("testdata/*.in.yaml")
	if err != nil || len(inputs) == 0 {
		t.Fatalf("finding scenarios: %v, %d found", err, len(inputs))
	}
	for _, in := range inputs {
		t.Run(strings.TrimSuffix(filepath.Base(in), ".in.yaml"), func(t *testing.T) {
			s := load(t, in)
			p, err := plan.For(s.scope(t), s.Desired)
			if err != nil {
				t.Fatalf("planning: %v", err)
			}
			got, out := render(t, p), strings.TrimSuffix(in, ".in.yaml")+".out.yaml"
			if *update {
				if err := os.WriteFile(out, got, 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("the plan has changed (-want +got); if that is meant, run the test with -update:\n%s", diff)
			}
		})
	}
}

func load(t *testing.T, file string) scenario {
	t.Helper()
	var s scenario
	for _, f := range []string{filepath.Join("testdata", "base.yaml"), file} {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.UnmarshalStrict(raw, &s); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
	}
	return s
}

func (s scenario) scope(t *testing.T) plan.Scope {
	t.Helper()
	spec := s.Spec
	spec.Default()
	scope := plan.Scope{
		Shift:    &v1alpha1.TrafficShift{ObjectMeta: metav1.ObjectMeta{Name: s.Deployment.Name, Namespace: s.Deployment.Namespace}, Spec: spec},
		Template: &s.Deployment, Service: &s.Service, Host: s.Host, Policy: s.Policy, GatewaySelector: s.GatewaySelector,
		Autoscaler: s.Autoscaler, Restarted: s.Restarted, Records: map[string]*appsv1.ControllerRevision{}, Previews: s.Previews, Shown: s.Shown, Hosted: s.Hosted, Versions: s.Versions,
		Entry: plan.Entry{Hosts: spec.Hosts, Gateways: plan.QualifiedGateways(s.Deployment.Namespace, spec.Gateways)},
	}
	if spec.Preview != nil {
		scope.Entry.Preview = spec.Preview.Host
	}
	scope.Delegate, scope.RuleBeside = s.Delegate, s.RuleBeside
	for _, a := range s.Attached {
		raw, err := json.Marshal(a.Object)
		if err != nil {
			t.Fatal(err)
		}
		one := &plan.Attached{Name: a.VirtualService, Namespace: a.Namespace, Withheld: a.Withheld, Routes: a.Routes, TCP: a.TCP, TLS: a.TLS, Was: a.Was, Several: len(s.Attached) > 1}
		switch {
		case a.Unread:
			one.Unread = errors.New("unread")
		case a.Object != nil:
			one.Object = &unstructured.Unstructured{}
			if err := one.Object.UnmarshalJSON(raw); err != nil {
				t.Fatal(err)
			}
		}
		scope.Attached = append(scope.Attached, one)
	}
	if s.Scaled != nil {
		scope.Scaled = s.Scaled.scope(t)
	}
	if spec.GatewayTLS != nil {
		var errs field.ErrorList
		if scope.TLS, errs = plan.ServerTLS(spec.GatewayTLS, field.NewPath("gatewayTLS")); len(errs) > 0 {
			t.Fatal(errs)
		}
	}
	if spec.Routing != nil {
		var errs field.ErrorList
		scope.API = spec.Routing.API
		if scope.HTTP, errs = plan.HTTPFields(spec.Routing.HTTP, field.NewPath("http")); len(errs) > 0 {
			t.Fatal(errs)
		}
	}
	for version, r := range s.Records {
		template := s.Deployment.Spec.Template.DeepCopy()
		template.Spec.Containers[0].Image = r.Image
		for k, v := range r.Labels {
			template.Labels[k] = v
		}
		record := scope.MakeRecord(version, *template, "kubectl")
		if r.Verdict != "" {
			record.Annotations[v1alpha1.AnnotationVerdict] = r.Verdict
		}
		scope.Records[version] = record
	}
	if s.Made {
		scope.Made, scope.Service = true, scope.MakeService()
	}
	return scope
}

func (s scaled) scope(t *testing.T) plan.Scaled {
	t.Helper()
	known := plan.Scaled{Following: s.Following, Pausable: s.Pausable}
	if s.Object != nil {
		raw, err := json.Marshal(s.Object)
		if err != nil {
			t.Fatal(err)
		}
		known.Object = &unstructured.Unstructured{}
		if err := known.Object.UnmarshalJSON(raw); err != nil {
			t.Fatal(err)
		}
	}
	for names, into := range map[*[]string]*[]*unstructured.Unstructured{&s.Paused: &known.Paused, &s.Strays: &known.Strays} {
		for _, name := range *names {
			o := &unstructured.Unstructured{Object: map[string]any{}}
			o.SetName(name)
			*into = append(*into, o)
		}
	}
	return known
}

// render writes a plan as one YAML document for each step, under its group and verb.
func render(t *testing.T, p plan.Plan) []byte {
	t.Helper()
	var b bytes.Buffer
	for _, group := range p {
		fmt.Fprintf(&b, "### %s\n", group.Name)
		for _, step := range group.Steps {
			raw, err := yaml.Marshal(step.Object)
			if err != nil {
				t.Fatalf("%s: %v", step, err)
			}
			fmt.Fprintf(&b, "--- # %s\n%s", step, raw)
		}
	}
	return b.Bytes()
}
