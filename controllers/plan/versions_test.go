package plan_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"pgregory.net/rapid"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/plan"
	"github.com/sluice-dev/sluice/controllers/shift"
)

// TestATemplateComesBackAsItWasWritten: what Sluice adds to a template can be taken off again without a trace. A trace would look like
// a new version, and start a shift that nobody asked for.
func TestATemplateComesBackAsItWasWritten(t *testing.T) {
	base := load(t, "testdata/rest.in.yaml")
	keys := rapid.SampledFrom([]string{"app", "tier", v1alpha1.LabelIstioVersion, v1alpha1.LabelCanonicalRevision, v1alpha1.LabelVersion, "app.kubernetes.io/version", "x/y"})
	rapid.Check(t, func(rt *rapid.T) {
		want := base.Deployment.Spec.Template.DeepCopy()
		want.Labels = rapid.MapOfN(keys, rapid.StringMatching(`[a-z0-9]{0,5}`), 0, -1).Draw(rt, "labels")
		s := base.scope(t)
		dep, err := s.MakeDeployment(s.MakeRecord("v7", *want, "kubectl"), shift.Scale{Version: "v7", Replicas: 2})
		if err != nil {
			rt.Fatal(err)
		}
		if got := plan.UserTemplate(dep); !plan.SameTemplate(want, got) {
			rt.Fatalf("the template came back otherwise (-want +got):\n%s", cmp.Diff(want, got))
		}
		for k, v := range plan.VersionLabels("micro-api", "v7") {
			if dep.Spec.Template.Labels[k] != v || dep.Spec.Selector.MatchLabels[k] != v {
				rt.Fatalf("label %s is %q on the pods and %q in the selector; want %q", k, dep.Spec.Template.Labels[k], dep.Spec.Selector.MatchLabels[k], v)
			}
		}
	})
}

func TestMakingNeverChangesWhatItIsMadeFrom(t *testing.T) {
	s := load(t, "testdata/replaced-labels.in.yaml")
	scope := s.scope(t)
	template, service, record := scope.Template.DeepCopy(), scope.Service.DeepCopy(), scope.Records["v1"].DeepCopy()
	zero := int32(0)
	d := shift.Desired{
		Record: "v2", Scales: []shift.Scale{{Version: "v1", Replicas: 3}}, Mesh: true, Subsets: []string{"v1"}, Template: &zero, Held: true,
		Routes: []shift.Route{{Version: "v1", Weight: v1alpha1.Whole}}, Verdicts: map[string]string{"v1": v1alpha1.ReasonAborted},
	}
	if _, err := plan.For(scope, d); err != nil {
		t.Fatal(err)
	}
	for name, diff := range map[string]string{
		"Deployment": cmp.Diff(template, scope.Template), "Service": cmp.Diff(service, scope.Service), "record": cmp.Diff(record, scope.Records["v1"]),
	} {
		if diff != "" {
			t.Errorf("planning changed the %s that it read (-before +after):\n%s", name, diff)
		}
	}
}

func TestAVerdictIsWrittenOnceAndKeepsTheRest(t *testing.T) {
	s := load(t, "testdata/rest.in.yaml")
	scope := s.scope(t)
	scope.Records["v1"].Annotations[v1alpha1.AnnotationChangeCause] = "first release"
	d := shift.Desired{Verdicts: map[string]string{"v1": v1alpha1.ReasonErrorRate, "v9": v1alpha1.ReasonPromoted}}
	p, err := plan.For(scope, d)
	if err != nil {
		t.Fatal(err)
	}
	records := written[*appsv1.ControllerRevision](p)
	if len(records) != 1 {
		t.Fatalf("%d records are written; want that of v1 alone, because v9 has none", len(records))
	}
	want := map[string]string{
		v1alpha1.AnnotationVerdict: v1alpha1.ReasonErrorRate, v1alpha1.AnnotationChangedBy: "kubectl", v1alpha1.AnnotationChangeCause: "first release",
	}
	if diff := cmp.Diff(want, records[0].Annotations); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
	scope.Records["v1"] = records[0]
	if p, err = plan.For(scope, d); err != nil || len(p) != 0 {
		t.Errorf("the same verdict again plans %v, %v; want nothing", p, err)
	}
}

// A record that cannot be read must stop the pass: a plan without a version's Deployment would look whole.
func TestAnUnreadableRecordStopsThePlan(t *testing.T) {
	s := load(t, "testdata/rest.in.yaml")
	scope := s.scope(t)
	scope.Records["v1"].Data = runtime.RawExtension{Raw: []byte(`{"spec": 7}`)}
	p, err := plan.For(scope, s.Desired)
	if err == nil || p != nil || !strings.Contains(err.Error(), "shop/micro-api-v1") {
		t.Errorf("plan %v, error %v; want no plan, and an error that names the record", p, err)
	}
}

func TestAnEmptyDecisionWritesNothing(t *testing.T) {
	s := load(t, "testdata/own-gateway.in.yaml")
	if p, err := plan.For(s.scope(t), shift.Desired{}); err != nil || len(p) != 0 {
		t.Errorf("plan %v, %v; want nothing", p, err)
	}
}

// A Service whose ports say nothing any more while it is shifted must not break the pass: its routes stay as they are, and preflight says why.
func TestAServiceWithoutProtocolsKeepsItsRoutes(t *testing.T) {
	for _, unroute := range []bool{false, true} {
		p := planned(t, func(s *scenario) {
			s.Service.Spec.Ports = []corev1.ServicePort{{Name: "db", Port: 5432}}
			s.Desired.Unroute = unroute
		})
		for _, vs := range written[*networkingv1.VirtualService](p) {
			t.Errorf("unroute %t: %s is written with %v", unroute, vs.Name, vs.Spec.GetHttp())
		}
	}
}

// Connections have no place at a gateway: hosts of a service without HTTP are not written, and nothing of theirs is.
func TestHostsNeedHTTP(t *testing.T) {
	p := planned(t, func(s *scenario) {
		s.Service.Spec.Ports = []corev1.ServicePort{{Name: "tcp-db", Port: 5432}}
		s.Spec.Hosts = []string{"shop.example.com"}
	})
	if gateways := written[*networkingv1.Gateway](p); len(gateways) > 0 {
		t.Errorf("a Gateway is written: %v", gateways)
	}
	for _, vs := range written[*networkingv1.VirtualService](p) {
		if vs.Name != "micro-api" || len(vs.Spec.GetTcp()) != 1 {
			t.Errorf("%s is written with %v", vs.Name, &vs.Spec)
		}
	}
}

func TestMakeServiceUsesWhatIsNamedForHTTP(t *testing.T) {
	port := func(name string, n int32) corev1.ContainerPort {
		return corev1.ContainerPort{Name: name, ContainerPort: n}
	}
	tests := map[string]struct {
		ports []corev1.ContainerPort
		want  []string
	}{
		"NamedForHTTP":    {[]corev1.ContainerPort{port("http", 8080), port("metrics", 9090)}, []string{"http"}},
		"Several":         {[]corev1.ContainerPort{port("http", 8080), port("grpc", 7070)}, []string{"http", "grpc"}},
		"OnlyAndNameless": {[]corev1.ContainerPort{port("", 8080)}, []string{"http"}},
		"OnlyAndOther":    {[]corev1.ContainerPort{port("tcp-db", 5432)}, nil},
		"TwoAndNameless":  {[]corev1.ContainerPort{port("", 8080), port("", 9090)}, nil},
		"None":            {nil, nil},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			s := load(t, "testdata/rest.in.yaml")
			s.Deployment.Spec.Template.Spec.Containers[0].Ports = tc.ports
			svc := s.scope(t).MakeService()
			var got []string
			if svc != nil {
				for _, p := range svc.Spec.Ports {
					got = append(got, p.Name)
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("ports (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEverythingMadeIsMarkedAndOwned(t *testing.T) {
	s := load(t, "testdata/leaving.in.yaml")
	p, err := plan.For(s.scope(t), s.Desired)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range p {
		for _, step := range g.Steps {
			if step.Verb == plan.Hold {
				continue // the user's own
			}
			if ref := metav1.GetControllerOf(step.Object); ref == nil || ref.UID != s.Deployment.UID {
				t.Errorf("%s is controlled by %v; want the annotated Deployment", step, ref)
			}
			if got := step.Object.GetLabels(); got[v1alpha1.LabelManagedBy] != v1alpha1.ManagedBy || got[v1alpha1.LabelShift] != "micro-api" {
				t.Errorf("%s carries %v", step, got)
			}
		}
	}
}

// A new template must not move the Service's ports before its version is promoted: the pods that users are on would get no request.
func TestAServiceMadeFollowsTheVersionThatUsersAreOn(t *testing.T) {
	s := load(t, "testdata/service-made.in.yaml")
	scope := s.scope(t)
	scope.Shift.Status.State.Stable = "v1"
	scope.Template = scope.Template.DeepCopy()
	scope.Template.Spec.Template.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "http", ContainerPort: 9999}}
	if got := scope.MakeService().Spec.Ports[0].Port; got != 8080 {
		t.Errorf("with v1 on port 8080 and a template on 9999 the Service is on %d", got)
	}
	scope.Shift.Status.State.Stable = ""
	if got := scope.MakeService().Spec.Ports[0].Port; got != 9999 {
		t.Errorf("before there is a version the Service is on %d; want the template's 9999", got)
	}
}
