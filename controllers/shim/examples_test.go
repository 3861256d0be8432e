package shim

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	sluice "github.com/sluice-dev/sluice/api/v1alpha1"
)

// examples returns the objects of each folder of examples/ in the order in which kubectl apply -f takes them.
func examples(t *testing.T) map[string][]*unstructured.Unstructured {
	t.Helper()
	files, err := filepath.Glob("../../examples/*/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	all := map[string][]*unstructured.Unstructured{}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, doc := range strings.Split(string(raw), "\n---\n") {
			u := &unstructured.Unstructured{}
			if err := yaml.UnmarshalStrict([]byte(doc), &u.Object); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			name := filepath.Base(filepath.Dir(file))
			all[name] = append(all[name], u)
		}
	}
	return all
}

func TestExamplesAreAccepted(t *testing.T) {
	for name, objects := range examples(t) {
		shifts := 0
		for i, u := range objects {
			if (u.GetKind() == "Namespace") != (i == 0) {
				t.Errorf("%s: the Namespace comes first, or kubectl apply -f fails for what is in it", name)
			}
			if u.GetKind() == "TrafficShift" {
				checkSpec(t, name, u)
			}
			if u.GetKind() != "Deployment" {
				continue
			}
			if fields, errs := Translate(u.GetAnnotations()); len(errs) > 0 || fields == nil {
				t.Errorf("%s: %v", name, errs)
			}
			shifts++
		}
		if shifts == 0 {
			t.Errorf("%s has no annotated Deployment", name)
		}
	}
}

// TestExamplesShareTheirNamespace holds what makes it harmless to apply one folder after another: none takes away a grant or a label that
// another needs.
func TestExamplesShareTheirNamespace(t *testing.T) {
	shared, first := map[string]*unstructured.Unstructured{}, map[string]string{}
	for folder, objects := range examples(t) {
		ns := objects[0]
		if was, found := shared[ns.GetName()]; found && !reflect.DeepEqual(was, ns) {
			t.Errorf("%s and %s have two Namespaces %s that differ: copy one of them", folder, first[ns.GetName()], ns.GetName())
		}
		shared[ns.GetName()], first[ns.GetName()] = ns, folder
	}
	if len(shared) == 0 || len(shared) == len(examples(t)) {
		t.Errorf("the examples have %d namespaces; want one that several share", len(shared))
	}
}

// TestExamplesHaveNamesOfTheirOwn holds that no folder writes over a service of another's.
func TestExamplesHaveNamesOfTheirOwn(t *testing.T) {
	owner := map[string]string{}
	for folder, objects := range examples(t) {
		for _, u := range objects {
			if u.GetKind() != "Deployment" {
				continue
			}
			if other, taken := owner[u.GetName()]; taken {
				t.Errorf("%s and %s both have a service %s: name one otherwise", folder, other, u.GetName())
			}
			owner[u.GetName()] = folder
		}
	}
	if len(owner) < len(examples(t)) {
		t.Errorf("%d services in %d folders", len(owner), len(examples(t)))
	}
}

// TestExamplesAreListed holds the table of examples/README.md to the folders and the services that there are.
func TestExamplesAreListed(t *testing.T) {
	text, err := os.ReadFile("../../examples/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for folder, objects := range examples(t) {
		_, row, _ := strings.Cut(string(text), "\n| ["+folder+"]("+folder+"/README.md) | ")
		row, _, _ = strings.Cut(row, "\n")
		for _, u := range objects {
			if name := u.GetName(); u.GetKind() == "Deployment" && !strings.HasPrefix(row, "`"+name+"`") {
				t.Errorf("examples/README.md has no row of %s with the service %s", folder, name)
			}
		}
	}
	if rows := strings.Count(string(text), "/README.md) | `"); rows != len(examples(t)) {
		t.Errorf("examples/README.md has %d rows for %d folders", rows, len(examples(t)))
	}
}

// TestExamplesAreGrantedTheirHosts holds each folder's Namespace to the hosts that its services ask for.
func TestExamplesAreGrantedTheirHosts(t *testing.T) {
	asked := 0
	for folder, objects := range examples(t) {
		grant, ok := strings.CutPrefix(objects[0].GetAnnotations()[sluice.AnnotationAllowedHosts], "*")
		for _, u := range objects {
			for _, key := range []string{sluice.AnnotationHosts, sluice.AnnotationPreview} {
				host := u.GetAnnotations()[key]
				if !strings.Contains(host, ".") {
					continue // none, or a preview without a host
				}
				asked++
				if !ok || !strings.HasSuffix(host, grant) {
					t.Errorf("%s: %s asks for %s, which the Namespace does not grant", folder, u.GetName(), host)
				}
			}
		}
	}
	if asked == 0 {
		t.Error("no example asks for a host")
	}
}

// checkSpec holds a TrafficShift to the API's own rules: the fields that are written, and no others.
func checkSpec(t *testing.T, name string, u *unstructured.Unstructured) {
	t.Helper()
	raw, err := yaml.Marshal(u.Object["spec"])
	if err != nil {
		t.Fatal(err)
	}
	spec := &sluice.TrafficShiftSpec{}
	if err := yaml.UnmarshalStrict(raw, spec); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	spec.Default()
	if errs := spec.Validate(nil); len(errs) > 0 {
		t.Errorf("%s: %v", name, errs)
	}
}

// TestExamplesMakeTheirTrafficShift applies each folder, forwards and backwards, and expects one TrafficShift with what the
// annotations say and what the folder's own TrafficShift adds.
func TestExamplesMakeTheirTrafficShift(t *testing.T) {
	for name, objects := range examples(t) {
		for _, order := range []string{"forwards", "backwards"} {
			t.Run(name+" "+order, func(t *testing.T) {
				c := start(t)
				for i := range objects {
					if order == "backwards" {
						i = len(objects) - 1 - i
					}
					c.applyExample(objects[i].DeepCopy())
				}
				c.checkExample(objects)
			})
		}
	}
}

func (c *cluster) applyExample(u *unstructured.Unstructured) {
	c.Helper()
	if kind := u.GetKind(); kind == "Namespace" || kind == "ShiftPolicy" || u.GroupVersionKind().Group == "networking.istio.io" || u.GroupVersionKind().Group == "keda.sh" {
		return // the test has its own, a policy is the cluster's, and its API server has no mesh and no KEDA
	}
	if u.GroupVersionKind().Group == "gateway.networking.k8s.io" {
		return // nor the Gateway API
	}
	u.SetNamespace(c.ns)
	if err := c.Apply(c.Context(), client.ApplyConfigurationFromUnstructured(u), client.FieldOwner("kubectl")); err != nil {
		c.Fatal(err)
	}
}

func (c *cluster) checkExample(objects []*unstructured.Unstructured) {
	c.Helper()
	hosts, policy, gates := false, false, 0
	replicas, wish := "1", "" // where a Deployment leaves them open, and nobody has a wish
	key := client.ObjectKey{Namespace: c.ns}
	for _, u := range objects {
		switch u.GetKind() {
		case "Deployment":
			key.Name = u.GetName()
			if n, ok, _ := unstructured.NestedFieldNoCopy(u.Object, "spec", "replicas"); ok {
				replicas, wish = fmt.Sprint(n), fmt.Sprint(n) // 3 or 3.0, as the reader of YAML likes
			}
			hosts = u.GetAnnotations()[sluice.AnnotationHosts] != ""
		case "TrafficShift":
			_, policy, _ = unstructured.NestedMap(u.Object, "spec", "trafficPolicy")
			list, _, _ := unstructured.NestedSlice(u.Object, "spec", "gates")
			gates = len(list)
		}
	}
	c.want(fmt.Sprintf("owned true, hosts %t, replicas true, policy %t, gates %d", hosts, policy, gates), func() string {
		s, err := get(c.Context(), c, key)
		if err != nil || s == nil {
			return "none"
		}
		return fmt.Sprintf("owned %t, hosts %t, replicas %t, policy %t, gates %d",
			metav1.GetControllerOf(s) != nil, len(s.Spec.Hosts) == 1,
			s.Spec.Replicas != nil && fmt.Sprint(*s.Spec.Replicas) == replicas && s.Annotations[sluice.AnnotationLastWish] == wish,
			s.Spec.TrafficPolicy != nil, len(s.Spec.Gates))
	})
	c.stays("", c.reasons)
}

// commands are the blocks of commands of a page, each with its lines.
func commands(page string) [][]string {
	var blocks [][]string
	open := false
	for line := range strings.Lines(page) {
		command, ok := strings.CutPrefix(strings.TrimRight(line, "\n"), "    ")
		switch {
		case !ok:
		case open:
			blocks[len(blocks)-1] = append(blocks[len(blocks)-1], command)
		default:
			blocks = append(blocks, []string{command})
		}
		open = ok
	}
	return blocks
}

// TestExamplesCanBePasted holds what makes the commands of a folder's README work for who pastes them block by block: the service is taken over
// before its template changes, because "A change before that is still the Deployment's own rollout"; what runs until Ctrl-C keeps no
// command of its block from running; and one kind is watched at a time.
func TestExamplesCanBePasted(t *testing.T) {
	for folder, objects := range examples(t) {
		page, err := os.ReadFile("../../examples/" + folder + "/README.md")
		if err != nil {
			t.Fatal(err)
		}
		waited := ""
		for _, block := range commands(string(page)) {
			for i, line := range block {
				switch endless := strings.HasSuffix(line, " --watch") || strings.Contains(line, "while ") && !strings.HasSuffix(line, "&"); {
				case endless && i < len(block)-1:
					t.Errorf("%s: %q runs until Ctrl-C, and %q after it never does", folder, line, block[i+1])
				case strings.HasSuffix(line, " --watch") && strings.Contains(line, ","):
					t.Errorf("%s: kubectl refuses %q: it watches one kind", folder, line)
				case strings.Contains(line, " wait "):
					waited += line + "\n"
				case strings.Contains(line, " set image ") || strings.Contains(line, " set env "):
					if !strings.Contains(string(page), "A change before that is still the Deployment's own rollout.") {
						t.Errorf("%s does not say what is waited for", folder)
					}
					checkWaited(t, folder, waited, objects)
				}
			}
		}
	}
}

// checkWaited holds that a service is there and taken over before it is released.
func checkWaited(t *testing.T, folder, waited string, objects []*unstructured.Unstructured) {
	t.Helper()
	for _, u := range objects {
		if u.GetKind() != "Deployment" {
			continue
		}
		wait := fmt.Sprintf("kubectl -n %s wait tshift/%s ", u.GetNamespace(), u.GetName())
		want := wait + "--for=create --timeout=1m\n" + wait + "--for=condition=Ready --timeout=10m\n"
		if !strings.Contains(waited, want) {
			t.Errorf("%s releases %s before it is taken over; want before that\n%s", folder, u.GetName(), want)
		}
	}
}
