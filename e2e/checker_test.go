package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/e2e/lab/grpcclient"
	"github.com/sluice-dev/sluice/e2e/scene"
)

// Whatever Sluice writes, at every moment of a service's life, Istio's own validation and analyzers find nothing wrong with it: not
// with an object, and not with the objects together.
func TestIstioFindsNothingWrong(t *testing.T) {
	t.Parallel()
	s := stage(t)
	const name = "checked"
	c := watchOver(t, s, name)
	service(t, s, name, "steps=5,12.5,50,100") // 12.5 is written in thousandths
	gateway, err := s.Through(t.Context(), name+".example.com", 80)
	if err != nil {
		t.Fatal(err)
	}
	defer gateway.Stop()

	release(t, s, name, "v2")
	await(t, s, name, "to promote v2", scene.Stable("v2"))
	c.await(t, "Stable")
	release(t, s, name, "v3", "ERROR_RATE=0.5")
	await(t, s, name, "to take v3 back", scene.Rejected("v3"))
	c.await(t, "Failed")
	release(t, s, name, "v2")
	await(t, s, name, "to be at rest", scene.Stable("v2"))
	handBack(t, s, name)

	// RollingBack, Adopting Recording, Starting and Holding, Progressing Preparing, and Detaching Returning and Unpinning may last for less than a look does
	// where others look, too. What is written in the first is still there in what follows, Failed with a version retiring; the routes without subsets of the last are those
	// that a service is taken over with, and in the others the mesh is told nothing.
	c.end(t, []string{
		"Adopting Pinning", "Stable",
		"Progressing Exposing", "Progressing Stepping 5%", "Progressing Stepping 12.5%",
		"Progressing Stepping 50%", "Progressing Baking 100%",
		"Stable, v1 retiring", "Failed, v3 retiring", "Failed",
		"Detaching Removing", "handed back",
	})
}

// A check that nothing fails proves nothing.
func TestCheckerFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	s := stage(t)
	for what, broken := range map[string]struct{ code, object string }{
		"a route to a subset that does not exist": {"IST0101", `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: broken, namespace: shop}
spec:
  hosts: [checked.example.com]
  http: [{route: [{destination: {host: broken.shop.svc.cluster.local, subset: v9, port: {number: 80}}}]}]
`},
		"a subset without pods": {"IST0173", `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: broken, namespace: shop}
spec: {host: broken.shop.svc.cluster.local, subsets: [{name: v1, labels: {version: v1}}]}
`},
		"weights that Istio's webhook refuses": {"IST0106", `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: broken, namespace: shop}
spec:
  hosts: [broken.shop.svc.cluster.local]
  http:
  - route:
    - {destination: {host: broken.shop.svc.cluster.local, port: {number: 80}}, weight: -1}
    - {destination: {host: broken.shop.svc.cluster.local, port: {number: 80}}, weight: 101}
`},
	} {
		t.Run(what, func(t *testing.T) {
			const service = `
apiVersion: v1
kind: Service
metadata: {name: broken, namespace: shop}
spec: {selector: {app: broken}, ports: [{name: http, port: 80}]}
---`
			findings, err := meshcheck(t.Context(), s, []byte(shop+"---"+service+broken.object))
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(findings, func(f finding) bool { return f.Code == broken.code && f.serious() }) {
				t.Errorf("found %v, want %s", findings, broken.code)
			}
		})
	}
}

// A client that Sluice and its lab did not write, grpc-go's own xDS client, sees each step's share.
func TestGRPCSeesEveryShare(t *testing.T) {
	t.Parallel()
	s := stage(t)
	const name = "grpc-seen"
	service(t, s, name, "steps=10@10s,50@10s,100")
	gateway, err := s.Through(t.Context(), name+".example.com", 40)
	if err != nil {
		t.Fatal(err)
	}
	defer gateway.Stop()
	caller := dial(t, s, name)

	const calls = 800
	shares := func(stage string, want float64) {
		t.Helper()
		got, err := caller.Shares(t.Context(), calls)
		if err != nil {
			t.Errorf("%s: %v", stage, err)
		}
		share := float64(got["v2"]) / calls
		// All but one in a hundred thousand fair draws are within.
		if margin := 4.4 * math.Sqrt(want*(1-want)/calls); math.Abs(share-want) > margin {
			t.Errorf("%s: share %.3f of %d calls, want %.3f±%.3f", stage, share, calls, want, margin)
		}
		t.Logf("%s: %v", stage, got)
	}
	shares("before the release", 0)
	release(t, s, name, "v2")
	for _, weight := range []v1alpha1.Permille{100, 500} {
		await(t, s, name, "to prove "+weight.String(), proven(weight))
		halt(t, s, name, weight)
		shares(weight.String(), float64(weight)/float64(v1alpha1.Whole))
		require(t, s, name, v1alpha1.AnnotationPaused, "")
	}
	await(t, s, name, "to prove 100%", proven(v1alpha1.Whole))
	eventually(t, "this client to have heard of it", func(ctx context.Context) error {
		got, err := caller.Shares(ctx, 20)
		if err == nil && got["v2"] < 20 {
			err = fmt.Errorf("it goes to %v", got)
		}
		return err
	})
	shares("with all of them", 1)
	await(t, s, name, "to promote v2", scene.Stable("v2"))
	shares("after the promotion", 1)
	release(t, s, name, "v3", "ERROR_RATE=0.5")
	putAway(t, s, name, "v3")
	shares("after the rollback", 1)
}

// dial makes a gRPC client of a service, configured by the lab's istiod.
func dial(t *testing.T, s *scene.Scene, name string) *grpcclient.Client {
	t.Helper()
	ip, err := s.Network.Allocate()
	if err != nil {
		t.Fatal(err)
	}
	c, err := grpcclient.Dial(grpcclient.Config{
		Discovery: s.XDSAddress, Target: fmt.Sprintf("%s.%s.svc.cluster.local:7070", name, scene.Shop),
		Name: "caller", Namespace: scene.Shop, IP: ip, Dial: s.Network.DialContext,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // the test is over
	return c
}

// handBack removes every annotation of ours, as a user does who wants the Deployment back, and waits until nothing is Sluice's.
func handBack(t *testing.T, s *scene.Scene, name string) {
	t.Helper()
	d := deployment(name)
	if err := s.Client.Get(t.Context(), inShop(name), d); err != nil {
		t.Fatal(err)
	}
	gone := map[string]string{}
	for key := range d.Annotations {
		if strings.HasPrefix(key, v1alpha1.Prefix) {
			gone[key] = ""
		}
	}
	if err := s.Annotate(t.Context(), d, gone); err != nil {
		t.Fatal(err)
	}
	eventually(t, name+" to be handed back", func(ctx context.Context) error {
		ts, err := s.Shift(ctx, name)
		if err == nil && ts != nil {
			err = fmt.Errorf("%s %s: %s", ts.Status.Phase, ts.Status.State.Stage, ts.Status.Message)
		}
		return err
	})
}

// checker puts all objects of a service to Istio's analyzers, whenever any of them or the shift's position changed.
type checker struct {
	scene  *scene.Scene
	name   string
	beside []unstructured.Unstructured
	stop   context.CancelFunc
	done   chan struct{}

	// known are the codes of findings that are none: each test that has some says why.
	known   []string
	checked map[string]bool
	checks  sync.WaitGroup

	mu        sync.Mutex
	positions []string // in the order in which they were first seen
	problems  []string
}

// watchOver begins to check; end ends it.
func watchOver(t *testing.T, s *scene.Scene, name string, known ...string) *checker {
	return watched(t, &checker{scene: s, name: name, known: known})
}

// watchBeside is watchOver where the service's objects name others that were there before.
func watchBeside(t *testing.T, s *scene.Scene, name string, beside ...unstructured.Unstructured) *checker {
	return watched(t, &checker{scene: s, name: name, beside: beside})
}

func watched(t *testing.T, c *checker) *checker {
	ctx, stop := context.WithCancel(t.Context())
	c.stop, c.done, c.checked = stop, make(chan struct{}), map[string]bool{}
	t.Cleanup(stop)
	go func() {
		defer close(c.done)
		ticker := time.NewTicker(25 * time.Millisecond) // of the mirror, which costs nobody anything
		defer ticker.Stop()
		for failed := 0; ctx.Err() == nil; {
			err := c.glance(ctx)
			if failed++; err == nil {
				failed = 0
			}
			if failed == 100 && ctx.Err() == nil { // an API server that is busy for a moment is no finding
				c.problem("%v", err)
			}
			select {
			case <-ctx.Done():
			case <-ticker.C:
			}
		}
	}()
	return c
}

// end fails the test for everything that was found, and for every position at which nothing was checked.
func (c *checker) end(t *testing.T, wanted []string) {
	t.Helper()
	c.stop()
	<-c.done
	if err := c.look(t.Context()); err != nil { // once more, now that all is over
		t.Error(err)
	}
	c.checks.Wait()
	for _, p := range c.problems {
		t.Error(p)
	}
	for _, w := range wanted {
		if !slices.Contains(c.positions, w) {
			t.Errorf("nothing was checked at %q, only at %q", w, c.positions)
		}
	}
	t.Logf("%d states checked: %s", len(c.checked), strings.Join(c.positions, "; "))
}

// await waits until a position was looked at that the test would otherwise leave at once.
func (c *checker) await(t *testing.T, position string) {
	t.Helper()
	eventually(t, "a look at "+position, func(context.Context) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if !slices.Contains(c.positions, position) {
			return fmt.Errorf("looked at %q", c.positions)
		}
		return nil
	})
}

func (c *checker) at(position string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Contains(c.positions, position) {
		c.positions = append(c.positions, position)
	}
}

func (c *checker) problem(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := fmt.Sprintf(format, args...); !slices.Contains(c.problems, p) {
		c.problems = append(c.problems, p)
	}
}

// analyzing is who has Istio's analyzers run: one at a time, so that looking does not starve what is looked at.
var analyzing = make(chan struct{}, 1)

// glance looks only where the mirror shows something new.
func (c *checker) glance(ctx context.Context) error {
	seen, err := c.state(ctx, shared.mirror)
	if err != nil || seen == nil || c.checked[seen.key] {
		return err
	}
	return c.look(ctx)
}

// look has the present state checked, unless it was before. The check itself goes on while the next look is taken.
func (c *checker) look(ctx context.Context) error {
	now, err := c.state(ctx, c.scene.Client)
	if err != nil || now == nil || c.checked[now.key] {
		return err
	}
	c.checked[now.key] = true
	c.at(now.position)
	namespace := unstructured.Unstructured{}
	namespace.SetGroupVersionKind(schema.GroupVersionKind{Version: "v1", Kind: "Namespace"})
	if err := c.scene.Client.Get(ctx, client.ObjectKey{Name: scene.Shop}, &namespace); err != nil {
		return err
	}
	text, err := stream(slices.Concat(now.objects, c.beside, []unstructured.Unstructured{namespace}))
	if err != nil {
		return err
	}
	c.checks.Go(func() {
		analyzing <- struct{}{}
		defer func() { <-analyzing }()
		// The last looks are checked to their end, although nobody looks any more.
		findings, err := meshcheck(context.WithoutCancel(ctx), c.scene, text)
		if err != nil {
			c.problem("at %s: %v", now.position, err)
		}
		for _, f := range findings {
			if f.serious() && !slices.Contains(c.known, f.Code) {
				c.problem("at %s: %s", now.position, f)
			}
		}
	})
	return nil
}

// position names where a shift stands.
func position(ts *v1alpha1.TrafficShift) string {
	if ts == nil {
		return "no TrafficShift"
	}
	if ts.Status.State.Phase == "" {
		return "a TrafficShift without status"
	}
	words := []string{string(ts.Status.State.Phase), string(ts.Status.State.Stage)}
	if w := ts.Status.State.Weight; w > 0 {
		words = append(words, w.String())
	}
	at := strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" }), " ")
	for _, r := range ts.Status.State.Retiring {
		at += ", " + r.Version + " retiring"
	}
	return at
}

// The kinds that are checked. Those of the mesh are read twice, around the others: see state.
var (
	meshKinds = []schema.GroupVersionKind{
		{Group: "networking.istio.io", Version: "v1", Kind: "VirtualService"},
		{Group: "networking.istio.io", Version: "v1", Kind: "DestinationRule"},
		{Group: "networking.istio.io", Version: "v1", Kind: "Gateway"},
	}
	kubeKinds = []schema.GroupVersionKind{
		{Version: "v1", Kind: "Pod"}, {Version: "v1", Kind: "Service"}, {Group: "apps", Version: "v1", Kind: "Deployment"},
	}
)

// state is everything of a service at one moment.
type state struct {
	position string
	objects  []unstructured.Unstructured
	key      string // changes with the position, with what the mesh is told, and with the pods that are there
}

// state reads the present one. An API server has no view of several kinds at once: where the mesh's objects changed while the others
// were read there is no state, and another look is due. There is none either before the service and after it.
func (c *checker) state(ctx context.Context, from client.Reader) (*state, error) {
	mesh, told, err := c.list(ctx, from, meshKinds)
	if err != nil {
		return nil, err
	}
	ts := &v1alpha1.TrafficShift{}
	if err := from.Get(ctx, inShop(c.name), ts); apierrors.IsNotFound(err) {
		ts = nil
	} else if err != nil {
		return nil, err
	}
	kube, _, err := c.list(ctx, from, kubeKinds)
	if err != nil || len(kube) == 0 {
		return nil, err
	}
	if _, again, err := c.list(ctx, from, meshKinds); err != nil || again != told {
		return nil, err
	}
	now := &state{position: position(ts), objects: append(mesh, kube...)}
	if ts == nil && len(mesh) > 0 {
		now.position = "handed back" // the hosts keep a Gateway and a route
	}
	now.key = now.position + told
	for _, o := range kube {
		now.key += " " + o.GetKind() + "/" + o.GetName()
	}
	return now, nil
}

// list reads the service's own objects of some kinds: those of its name and those whose names begin with it. They may be shared: nobody writes
// to them.
func (c *checker) list(ctx context.Context, from client.Reader, kinds []schema.GroupVersionKind) (objects []unstructured.Unstructured, told string, err error) {
	for _, kind := range kinds {
		var list unstructured.UnstructuredList
		list.SetGroupVersionKind(kind)
		if err := from.List(ctx, &list, client.InNamespace(scene.Shop), client.UnsafeDisableDeepCopy); err != nil {
			return nil, "", err
		}
		for _, o := range list.Items {
			if o.GetName() == c.name || strings.HasPrefix(o.GetName(), c.name+"-") {
				objects = append(objects, o)
				told += fmt.Sprintf(" %s/%s=%s", o.GetKind(), o.GetName(), o.GetResourceVersion())
			}
		}
	}
	return objects, told, nil
}

// stream writes objects as YAML documents.
func stream(objects []unstructured.Unstructured) ([]byte, error) {
	var text bytes.Buffer
	for _, o := range objects {
		o.SetManagedFields(nil)
		document, err := yaml.Marshal(o.Object)
		if err != nil {
			return nil, err
		}
		text.WriteString("---\n")
		text.Write(document)
	}
	return text.Bytes(), nil
}

// finding is a line of meshcheck's output.
type finding struct{ Code, Level, Resource, Message string }

func (f finding) serious() bool { return f.Level != "Info" }

func (f finding) String() string {
	return fmt.Sprintf("%s %s: %s: %s", f.Level, f.Code, f.Resource, f.Message)
}

// meshcheck asks Istio about objects. That it found something is no error; that it could not read them is one.
func meshcheck(ctx context.Context, s *scene.Scene, objects []byte) ([]finding, error) {
	cmd := exec.CommandContext(ctx, s.Binaries.MeshCheck)
	cmd.Stdin = bytes.NewReader(objects)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		return nil, fmt.Errorf("meshcheck: %w: %s", err, strings.TrimSpace(stderr.String()))
	}
	var findings []finding
	for line := range bytes.Lines(out) {
		var f finding
		if err := json.Unmarshal(line, &f); err != nil {
			return nil, fmt.Errorf("meshcheck said %q: %w", line, err)
		}
		findings = append(findings, f)
	}
	return findings, nil
}
