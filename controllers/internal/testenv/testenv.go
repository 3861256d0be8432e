// Package testenv is an API server for tests that hold wiring against the real thing: etcd and kube-apiserver with the CRDs of Sluice,
// of Istio and of the Gateway API, and nothing that acts on them. What a controller of Kubernetes would do, the test does.
package testenv

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/go-logr/logr"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/log"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

var environment = &envtest.Environment{ErrorIfCRDPathMissing: true}

// start is the one API server of a test binary, made by the first test that needs it.
var start = sync.OnceValues(func() (*rest.Config, error) {
	log.SetLogger(logr.Discard())
	paths, err := crdPaths()
	if err != nil {
		return nil, err
	}
	environment.CRDDirectoryPaths = paths
	environment.ControlPlane.GetAPIServer().Configure().Set("service-cluster-ip-range", "10.0.0.0/16") // every test has Services; the default range is full at 254
	config, err := environment.Start()
	if config != nil {
		config.QPS = -1 // a test's own API server needs no protection from it
	}
	return config, err
})

// Main runs the tests and stops the API server, if any of them has started it. It belongs in TestMain.
func Main(m *testing.M) {
	code := m.Run()
	if environment.Config != nil {
		if err := environment.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stopping the API server:", err)
		}
	}
	os.Exit(code)
}

// Namespace returns a client and the name of a namespace of the mesh that the test has for itself. It skips the test where there is nothing to
// start an API server from.
func Namespace(t *testing.T) (client.WithWatch, string) {
	t.Helper()
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		t.Skip("KUBEBUILDER_ASSETS is not set: it names the folder with etcd and kube-apiserver (make test sets it)")
	}
	config, err := start()
	if err != nil {
		t.Fatalf("starting the API server: %v", err)
	}
	c, err := client.NewWithWatch(config, client.Options{Scheme: Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "shop-", Labels: map[string]string{"istio-injection": "enabled"}}}
	if err := c.Create(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	return c, ns.Name
}

// Scheme knows every type that Sluice reads or writes.
func Scheme() *apiruntime.Scheme {
	s := apiruntime.NewScheme()
	for _, add := range []func(*apiruntime.Scheme) error{clientgoscheme.AddToScheme, networkingv1.AddToScheme, gatewayv1.Install, v1alpha1.AddToScheme} {
		if err := add(s); err != nil { // the types are compiled in
			panic(err)
		}
	}
	return s
}

// crdPaths are Sluice's CRDs in this repository, and Istio's and the Gateway API's in the modules that this one is built with.
func crdPaths() ([]string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/sluice-dev/sluice", "istio.io/api", "sigs.k8s.io/gateway-api").Output()
	if err != nil {
		return nil, fmt.Errorf("finding the modules whose CRDs are installed: %w", err)
	}
	dirs := strings.Fields(string(out))
	if len(dirs) != 3 {
		return nil, fmt.Errorf("finding the modules whose CRDs are installed: got %q", dirs)
	}
	return []string{
		filepath.Join(dirs[0], "manifests", "crd"),
		filepath.Join(dirs[1], "kubernetes", "customresourcedefinitions.gen.yaml"),
		filepath.Join(dirs[2], "config", "crd", "standard", "gateway.networking.k8s.io_gateways.yaml"),
		filepath.Join(dirs[2], "config", "crd", "standard", "gateway.networking.k8s.io_httproutes.yaml"),
		filepath.Join(dirs[2], "config", "crd", "standard", "gateway.networking.k8s.io_grpcroutes.yaml"),
	}, nil
}
