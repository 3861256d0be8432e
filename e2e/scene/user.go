package scene

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/e2e/lab/load"
)

// user is the field manager of everything that the scene does as a user would.
const user = client.FieldOwner("kubectl")

// Apply applies every manifest of a folder of the repository, as kubectl apply --server-side -f does, in the order of the files'
// names.
func (s *Scene) Apply(ctx context.Context, folder string) error {
	files, err := filepath.Glob(filepath.Join(s.Repo, folder, "*.yaml"))
	if err != nil || len(files) == 0 {
		return fmt.Errorf("no manifests in %s: %w", folder, errors.Join(err, os.ErrNotExist))
	}
	slices.Sort(files)
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("reading manifests: %w", err)
		}
		if err := s.ApplyYAML(ctx, raw); err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(file), err)
		}
	}
	return nil
}

// ApplyYAML applies the documents of one file.
func (s *Scene) ApplyYAML(ctx context.Context, raw []byte) error {
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(raw), 4096)
	for {
		u := &unstructured.Unstructured{}
		if err := decoder.Decode(&u.Object); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("reading a manifest: %w", err)
		}
		if len(u.Object) == 0 {
			continue
		}
		if err := s.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(u), user, client.ForceOwnership); err != nil {
			return fmt.Errorf("%s %s/%s: %w", u.GetKind(), u.GetNamespace(), u.GetName(), err)
		}
	}
}

// SetImage changes the image of a Deployment's first container, as kubectl set image does.
func (s *Scene) SetImage(ctx context.Context, name, image string) error {
	d := &appsv1.Deployment{}
	key := types.NamespacedName{Namespace: Shop, Name: name}
	if err := s.Client.Get(ctx, key, d); err != nil {
		return fmt.Errorf("set image: %w", err)
	}
	patch := fmt.Sprintf(`{"spec":{"template":{"spec":{"containers":[{"name":%q,"image":%q}]}}}}`, d.Spec.Template.Spec.Containers[0].Name, image)
	if err := s.Client.Patch(ctx, d, client.RawPatch(types.StrategicMergePatchType, []byte(patch)), user); err != nil {
		return fmt.Errorf("set image: %w", err)
	}
	return nil
}

// Annotate sets annotations on an object, or removes those whose value is empty.
func (s *Scene) Annotate(ctx context.Context, o client.Object, annotations map[string]string) error {
	if err := s.Client.Get(ctx, client.ObjectKeyFromObject(o), o); err != nil {
		return fmt.Errorf("annotate: %w", err)
	}
	was, ok := o.DeepCopyObject().(client.Object)
	if !ok {
		return fmt.Errorf("annotate: %T is no object", o)
	}
	now := o.GetAnnotations()
	if now == nil {
		now = map[string]string{}
	}
	for k, v := range annotations {
		if v == "" {
			delete(now, k)
			continue
		}
		now[k] = v
	}
	o.SetAnnotations(now)
	if err := s.Client.Patch(ctx, o, client.MergeFrom(was), user); err != nil {
		return fmt.Errorf("annotate: %w", err)
	}
	return nil
}

// Shift reads a TrafficShift of the shop; nil where there is none yet.
func (s *Scene) Shift(ctx context.Context, name string) (*v1alpha1.TrafficShift, error) {
	ts := &v1alpha1.TrafficShift{}
	err := s.Client.Get(ctx, types.NamespacedName{Namespace: Shop, Name: name}, ts)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return ts, err
}

// Await waits for a TrafficShift to be as cond wants it.
func (s *Scene) Await(ctx context.Context, limit time.Duration, name, what string, cond func(*v1alpha1.TrafficShift) bool) (*v1alpha1.TrafficShift, error) {
	var ts *v1alpha1.TrafficShift
	err := await(ctx, limit, name+" "+what, func(ctx context.Context) (bool, string, error) {
		select {
		case <-s.Failed():
			return false, "", s.Err()
		default:
		}
		read, err := s.Shift(ctx, name)
		if err != nil {
			return false, err.Error(), nil // an API server that is busy for a moment ends nothing
		}
		if read == nil {
			return false, "no TrafficShift", nil
		}
		ts = read
		return cond(ts), fmt.Sprintf("%s %s weight %q: %s", ts.Status.Phase, ts.Status.State.Stage, ts.Status.Weight, ts.Status.Message), nil
	})
	return ts, err
}

// Stable is a condition for Await: version has all the traffic, and what it replaced has left.
func Stable(version string) func(*v1alpha1.TrafficShift) bool {
	return func(ts *v1alpha1.TrafficShift) bool {
		return ts.Status.Phase == v1alpha1.PhaseStable && ts.Status.Stable == version && len(ts.Status.State.Retiring) == 0
	}
}

// Rejected is a condition for Await: version was refused.
func Rejected(version string) func(*v1alpha1.TrafficShift) bool {
	return func(ts *v1alpha1.TrafficShift) bool {
		return ts.Status.Phase == v1alpha1.PhaseFailed && ts.Status.Rejected == version
	}
}

// Through loads a host through the ingress gateway.
func (s *Scene) Through(ctx context.Context, host string, rate float64) (*load.Source, error) {
	addr, err := s.Plane.Gateway.WaitAddr(ctx, 80)
	if err != nil {
		return nil, fmt.Errorf("waiting for the gateway to listen: %w", err)
	}
	return load.Start(ctx, load.Config{URL: "http://" + addr + "/", Host: host, Rate: rate, For: time.Hour})
}

// Within loads a service from a client pod inside the mesh.
func (s *Scene) Within(ctx context.Context, client, url string, rate float64) (*load.Source, error) {
	sidecar, err := s.Plane.Client(ctx, client, Shop)
	if err != nil {
		return nil, fmt.Errorf("starting the sidecar of %s: %w", client, err)
	}
	if err := answers(ctx, sidecar, url); err != nil {
		return nil, err
	}
	return load.Start(ctx, load.Config{URL: url, Transport: sidecar, Rate: rate, For: time.Hour})
}

// answers waits until a client's mesh has heard of the service: before that there is nothing to lose a request of.
func answers(ctx context.Context, transport http.RoundTripper, url string) error {
	return await(ctx, time.Minute, url+" to answer", func(ctx context.Context) (bool, string, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return false, "", err
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			return false, err.Error(), nil
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK, resp.Status, nil
	})
}

// Gone waits for an object to be gone.
func (s *Scene) Gone(ctx context.Context, limit time.Duration, o client.Object) error {
	return await(ctx, limit, fmt.Sprintf("%T %s to be gone", o, o.GetName()), func(ctx context.Context) (bool, string, error) {
		err := s.Client.Get(ctx, client.ObjectKeyFromObject(o), o)
		if apierrors.IsNotFound(err) {
			return true, "", nil
		}
		state := "it is still there"
		if ts, ok := o.(*v1alpha1.TrafficShift); ok {
			state = string(ts.Status.State.Stage) + ": " + ts.Status.Message
		}
		return false, state, err
	})
}
