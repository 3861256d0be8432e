package lab

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/go-logr/logr"
	istionetworking "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/util/yaml"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

//go:embed injection.yaml
var injection []byte

// installCRDs installs Istio's resources, the Gateway API's and the caller's.
func (l *Lab) installCRDs(ctx context.Context) error {
	began := time.Now()
	paths, err := meshCRDs(ctx, filepath.Join(l.root, "e2e"))
	if err != nil {
		return err
	}
	crds, err := envtest.InstallCRDs(l.REST, envtest.CRDInstallOptions{
		Paths: append(paths, l.opts.CRDPaths...), ErrorIfPathMissing: true,
		MaxTime: time.Minute, PollInterval: 50 * time.Millisecond,
	})
	if err != nil {
		return fmt.Errorf("install custom resources: %w", err)
	}
	l.say("%d custom resources are installed after %s", len(crds), since(began))
	return nil
}

// meshCRDs are the files of Istio's resources, and of those of the Gateway API that Istio knows how to route by, in the modules that the
// lab is built with.
func meshCRDs(ctx context.Context, module string) ([]string, error) {
	istio, err := moduleDir(ctx, module, "istio.io/api")
	if err != nil {
		return nil, err
	}
	gateway, err := moduleDir(ctx, module, "sigs.k8s.io/gateway-api")
	if err != nil {
		return nil, err
	}
	paths := []string{filepath.Join(istio, "kubernetes", "customresourcedefinitions.gen.yaml")}
	for _, kind := range []string{"gatewayclasses", "gateways", "httproutes", "grpcroutes", "referencegrants"} {
		paths = append(paths, filepath.Join(gateway, "config", "crd", "standard", "gateway.networking.k8s.io_"+kind+".yaml"))
	}
	return paths, nil
}

// moduleDir finds the sources of a module that another one is built with.
func moduleDir(ctx context.Context, module, name string) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "mod", "download", "-C", module, "-json", name).Output()
	if err != nil {
		return "", fmt.Errorf("find the module %s: %w: %s", name, err, out)
	}
	var found struct{ Dir string }
	if err := json.Unmarshal(out, &found); err != nil {
		return "", fmt.Errorf("find the module %s: %w", name, err)
	}
	return found.Dir, nil
}

// Quiet silences the libraries through which this process talks to the API server: what matters of it comes back as an error.
// It belongs at the beginning of a program or a TestMain, because loggers are the whole program's.
func Quiet() {
	klog.SetLogger(logr.Discard())
	log.SetLogger(logr.Discard())
}

// makeClient makes Lab.Client.
func (l *Lab) makeClient() error {
	scheme := runtime.NewScheme()
	for _, add := range append([]func(*runtime.Scheme) error{
		clientgoscheme.AddToScheme, istionetworking.AddToScheme, apiextensionsv1.AddToScheme,
	}, l.opts.AddToScheme...) {
		if err := add(scheme); err != nil {
			return fmt.Errorf("make the client's scheme: %w", err)
		}
	}
	c, err := client.NewWithWatch(l.REST, client.Options{Scheme: scheme})
	if err != nil {
		return fmt.Errorf("make the client: %w", err)
	}
	l.Client = c
	return nil
}

// prepare makes what every mesh has before its users come.
func (l *Lab) prepare(ctx context.Context) error {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: istioSystem}}
	if err := create(ctx, l.Client, namespace); err != nil {
		return err
	}
	return l.createAll(ctx, injection)
}

// createAll creates the objects of a YAML stream.
func (l *Lab) createAll(ctx context.Context, text []byte) error {
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	for {
		var object unstructured.Unstructured
		if err := decoder.Decode(&object); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("decode the lab's policies: %w", err)
		}
		if err := create(ctx, l.Client, &object); err != nil {
			return err
		}
	}
}

func create(ctx context.Context, c client.Client, object client.Object) error {
	if err := c.Create(ctx, object); err != nil {
		return fmt.Errorf("create %T %q: %w", object, object.GetName(), err)
	}
	return nil
}

// awaitInjection waits until the API server, which loads policies in the background, gives a pod its proxy.
func (l *Lab) awaitInjection(ctx context.Context) error {
	began := time.Now()
	var last error
	err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Name: "injection-check", Namespace: istioSystem, Labels: map[string]string{"sidecar.istio.io/inject": "true"},
			},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "lab/app:1"}}},
		}
		last = l.Client.Create(ctx, pod, client.DryRunAll)
		return last == nil && len(pod.Spec.Containers) == 2, nil
	})
	if err != nil {
		return fmt.Errorf("sidecar injection does not work: %w", errors.Join(err, last))
	}
	l.say("sidecar injection works after %s", since(began))
	return nil
}
