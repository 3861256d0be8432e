package lab_test

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/e2e/lab"
	"github.com/sluice-dev/sluice/e2e/lab/images"
	"github.com/sluice-dev/sluice/e2e/lab/workload"
)

// role makes this test binary play another program: a lab that gets killed, or a controller in a pod.
const role = "LAB_TEST_ROLE"

var (
	sharedOnce sync.Once
	shared     *lab.Lab
	sharedErr  error
	ctrlC      context.Context
)

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "controller":
		os.Exit(controller())
	case "lab":
		os.Exit(doomed())
	}
	lab.Quiet()
	var stop context.CancelFunc
	ctrlC, stop = signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := m.Run()
	if shared != nil {
		shared.Stop()
	}
	stop()
	os.Exit(code)
}

// start returns the lab that most tests share.
func start(t *testing.T) *lab.Lab {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a lab")
	}
	sharedOnce.Do(func() {
		shared, sharedErr = lab.Start(ctrlC, lab.Options{
			ControllerBinary: os.Args[0],
			DataPlane:        func(context.Context, *lab.Lab) (lab.DataPlane, error) { return lab.DataPlane{Inbound: mark}, nil },
			Progress:         func(line string) { fmt.Fprintln(os.Stderr, line) },
		})
	})
	if sharedErr != nil {
		t.Fatal(sharedErr)
	}
	t.Cleanup(func() {
		if err := shared.Err(); err != nil {
			t.Error(err)
		}
	})
	return shared
}

// inboundHeader is how the tests' proxy marks what went through it.
const inboundHeader = "X-Inbound"

// probesInbound counts the probes that went through the proxy, which none should.
var probesInbound atomic.Int64

// mark is a proxy that says in a header whom it serves.
func mark(id workload.Identity, app http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.UserAgent(), images.ProbeAgent) {
			probesInbound.Add(1)
		}
		w.Header().Set(inboundHeader, id.Workload+" "+id.IP)
		app.ServeHTTP(w, r)
	})
}

// namespace makes a namespace of the test's own.
func namespace(t *testing.T, l *lab.Lab, labels map[string]string) string {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-", Labels: labels}}
	create(t, l, ns)
	t.Cleanup(func() {
		if err := l.Client.Delete(context.Background(), ns); l == shared && err != nil {
			t.Error(err)
		}
	})
	eventually(t, "the default ServiceAccount", func(ctx context.Context) error {
		return l.Client.Get(ctx, client.ObjectKey{Namespace: ns.Name, Name: "default"}, &corev1.ServiceAccount{})
	})
	return ns.Name
}

func create(t *testing.T, l *lab.Lab, object client.Object) {
	t.Helper()
	if err := l.Client.Create(t.Context(), object); err != nil {
		t.Fatal(err)
	}
}

// eventually polls until check is content, or fails the test with its last complaint.
func eventually(t *testing.T, what string, check func(context.Context) error) {
	t.Helper()
	var last error
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		last = check(ctx)
		return last == nil, nil
	})
	if err != nil {
		t.Fatalf("%s: %v: %v", what, err, last)
	}
}

// pods waits until n pods of the app satisfy want, and returns them.
func pods(t *testing.T, l *lab.Lab, ns, app string, n int, want func(*corev1.Pod) error) []corev1.Pod {
	t.Helper()
	var list corev1.PodList
	eventually(t, fmt.Sprintf("%d pods of %s/%s", n, ns, app), func(ctx context.Context) error {
		if err := l.Client.List(ctx, &list, client.InNamespace(ns), client.MatchingLabels{"app": app}); err != nil {
			return err
		}
		if len(list.Items) != n {
			return fmt.Errorf("there are %d", len(list.Items))
		}
		for i := range list.Items {
			if err := want(&list.Items[i]); err != nil {
				return fmt.Errorf("%s: %w; status %+v", list.Items[i].Name, err, list.Items[i].Status)
			}
		}
		return nil
	})
	return list.Items
}

func condition(p *corev1.Pod, kind corev1.PodConditionType) corev1.PodCondition {
	for _, c := range p.Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return corev1.PodCondition{}
}

func isReady(p *corev1.Pod) error {
	if condition(p, corev1.PodReady).Status != corev1.ConditionTrue {
		return fmt.Errorf("not ready")
	}
	return nil
}

// controller is the program that plays the controller: it serves metrics and health where its flags say, and answers on
// /may what its ServiceAccount may read.
func controller() int {
	flags := flag.NewFlagSet("controller", flag.ContinueOnError)
	metrics := flags.String("metrics-bind-address", ":8080", "")
	health := flags.String("health-probe-bind-address", ":8081", "")
	kubeconfig := flags.String("kubeconfig", "", "")
	greeting := flags.String("greeting", "", "")
	if flags.Parse(os.Args[1:]) != nil {
		return 2
	}
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	api := kubernetes.NewForConfigOrDie(config)
	mux := http.NewServeMux()
	mux.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "test_controller_up 1") })
	mux.HandleFunc("/greeting", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, *greeting) })
	mux.HandleFunc("/healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/may", func(w http.ResponseWriter, r *http.Request) {
		ns := os.Getenv("POD_NAMESPACE")
		_, maps := api.CoreV1().ConfigMaps(ns).List(r.Context(), metav1.ListOptions{})
		_, secrets := api.CoreV1().Secrets(ns).List(r.Context(), metav1.ListOptions{})
		fmt.Fprintf(w, "configmaps=%t secrets-forbidden=%t", maps == nil, apierrors.IsForbidden(secrets))
	})
	go func() { _ = http.ListenAndServe(*health, mux) }()
	fmt.Fprintln(os.Stderr, http.ListenAndServe(*metrics, mux))
	return 1
}

// doomed is the program that starts a lab and waits to be killed.
func doomed() int {
	if _, err := lab.Start(context.Background(), lab.Options{Dir: os.Getenv("LAB_TEST_DIR")}); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("up")
	select {}
}
