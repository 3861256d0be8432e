package lab_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/e2e/lab"
	"github.com/sluice-dev/sluice/e2e/lab/images"
)

var injected = map[string]string{"istio-injection": "enabled"}

// deployment is a user's: one container, one port, nothing unusual.
func deployment(ns, app, image string, replicas int32, edit func(*corev1.PodSpec)) *appsv1.Deployment {
	labels := map[string]string{"app": app}
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: app, Labels: labels},
		Spec: appsv1.DeploymentSpec{
			Replicas: ptr.To(replicas), Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{
					Name: "app", Image: image, Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}},
				}}},
			},
		},
	}
	if edit != nil {
		edit(&d.Spec.Template.Spec)
	}
	return d
}

func service(ns, app string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: app},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": app},
			Ports:    []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromString("http")}},
		},
	}
}

// probe is a readiness probe of a second's period.
func probe(period int32) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/", Port: intstr.FromString("http")}},
		PeriodSeconds: period, FailureThreshold: 1,
	}
}

// endpoints are the ready addresses of a Service.
func endpoints(ctx context.Context, l *lab.Lab, ns, app string) ([]string, error) {
	var slicesOf discoveryv1.EndpointSliceList
	if err := l.Client.List(ctx, &slicesOf, client.InNamespace(ns), client.MatchingLabels{discoveryv1.LabelServiceName: app}); err != nil {
		return nil, err
	}
	var ready []string
	for _, s := range slicesOf.Items {
		for _, e := range s.Endpoints {
			if ptr.Deref(e.Conditions.Ready, false) {
				ready = append(ready, net.JoinHostPort(e.Addresses[0], strconv.Itoa(int(*s.Ports[0].Port))))
			}
		}
	}
	slices.Sort(ready)
	return ready, nil
}

// get asks a pod over the pod network, without keep-alive.
func get(ctx context.Context, l *lab.Lab, url string) (int, http.Header, string, error) {
	c := &http.Client{Transport: &http.Transport{DialContext: l.Network.DialContext, DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, nil, "", err
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, nil, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, string(body), err
}

func names(containers []corev1.Container) []string {
	var names []string
	for _, c := range containers {
		names = append(names, c.Name)
	}
	return names
}

func TestInjectedDeploymentServes(t *testing.T) {
	l := start(t)
	ns := namespace(t, l, injected)
	create(t, l, deployment(ns, "shop", "docker.io/luksa/kubia:v2", 2, func(s *corev1.PodSpec) { s.Containers[0].ReadinessProbe = probe(1) }))
	create(t, l, service(ns, "shop"))
	running := pods(t, l, ns, "shop", 2, isReady)

	var want []string
	for _, p := range running {
		if diff := cmp.Diff([]string{"app", "istio-proxy"}, names(p.Spec.Containers)); diff != "" {
			t.Errorf("containers of %s: -want +got:\n%s", p.Name, diff)
		}
		want = append(want, net.JoinHostPort(p.Status.PodIP, "8080"))
		status, header, body, err := get(t.Context(), l, "http://"+net.JoinHostPort(p.Status.PodIP, "8080")+"/")
		if err != nil || status != http.StatusOK || header.Get(images.VersionHeader) != "v2" {
			t.Errorf("GET %s: status %d, version %q, err %v", p.Name, status, header.Get(images.VersionHeader), err)
		}
		if diff := cmp.Diff("shop "+p.Status.PodIP, header.Get(inboundHeader)); diff != "" {
			t.Errorf("the proxy's mark: -want +got:\n%s", diff)
		}
		if text := "This is v2 running in pod " + p.Name + "\n"; body != text {
			t.Errorf("GET %s: %q, want %q", p.Name, body, text)
		}
	}
	slices.Sort(want)
	eventually(t, "the EndpointSlices", func(ctx context.Context) error {
		got, err := endpoints(ctx, l, ns, "shop")
		if diff := cmp.Diff(want, got); err == nil && diff != "" {
			err = errors.New(diff)
		}
		return err
	})
	checkGRPC(t, l, want[0])
	if n := probesInbound.Load(); n != 0 {
		t.Errorf("%d probes went through the proxy", n)
	}
}

// checkGRPC proves that a pod speaks gRPC on the port on which it speaks HTTP.
func checkGRPC(t *testing.T, l *lab.Lab, address string) {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			return l.Network.DialContext(ctx, "tcp", addr)
		}))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var header metadata.MD
	_, err = grpc_health_v1.NewHealthClient(conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{}, grpc.Header(&header))
	if err != nil || !slices.Equal(header.Get(images.VersionHeader), []string{"v2"}) {
		t.Errorf("gRPC: header %v, err %v", header, err)
	}
}

func TestInjectionFollowsItsLabels(t *testing.T) {
	l := start(t)
	on, off := namespace(t, l, injected), namespace(t, l, nil)
	for name, tc := range map[string]struct {
		ns                  string
		labels, annotations map[string]string
		containers, init    []string
	}{
		"namespace":     {ns: on, containers: []string{"app", "istio-proxy"}},
		"pod-refuses":   {ns: on, labels: map[string]string{"sidecar.istio.io/inject": "false"}, containers: []string{"app"}},
		"nobody-asks":   {ns: off, containers: []string{"app"}},
		"pod-asks":      {ns: off, labels: map[string]string{"sidecar.istio.io/inject": "true"}, containers: []string{"app", "istio-proxy"}},
		"native":        {ns: on, annotations: map[string]string{"sidecar.istio.io/nativeSidecar": "true"}, containers: []string{"app"}, init: []string{"istio-proxy"}},
		"other-sidecar": {ns: on, annotations: map[string]string{"other": "true"}, containers: []string{"app", "istio-proxy"}},
	} {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: tc.ns, Name: name, Labels: tc.labels, Annotations: tc.annotations},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "lab/app:1"}}},
		}
		create(t, l, pod)
		if diff := cmp.Diff([][]string{tc.containers, tc.init}, [][]string{names(pod.Spec.Containers), names(pod.Spec.InitContainers)}); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
		eventually(t, name+" is ready", func(ctx context.Context) error {
			if err := l.Client.Get(ctx, client.ObjectKeyFromObject(pod), pod); err != nil {
				return err
			}
			return isReady(pod)
		})
	}
}

// Probes and users spend the same four good answers of kubia v3: its probes alone make it unready.
func TestProbesWearOutKubiaV3(t *testing.T) {
	l := start(t)
	ns := namespace(t, l, nil)
	create(t, l, deployment(ns, "kubia", "luksa/kubia:v3", 1, func(s *corev1.PodSpec) { s.Containers[0].ReadinessProbe = probe(1) }))
	pods(t, l, ns, "kubia", 1, isReady)
	lost := pods(t, l, ns, "kubia", 1, func(p *corev1.Pod) error {
		if condition(p, corev1.PodReady).Status != corev1.ConditionFalse {
			return errors.New("still ready")
		}
		return nil
	})
	got := condition(&lost[0], corev1.PodReady)
	if got.Reason != "ContainersNotReady" || !strings.Contains(got.Message, "app") {
		t.Errorf("condition %+v", got)
	}
	if lost[0].Status.ContainerStatuses[0].RestartCount != 0 {
		t.Error("a readiness probe restarted its container")
	}
}

func TestLivenessRestarts(t *testing.T) {
	l := start(t)
	ns := namespace(t, l, nil)
	create(t, l, deployment(ns, "kubia", "luksa/kubia:v3", 1, func(s *corev1.PodSpec) { s.Containers[0].LivenessProbe = probe(1) }))
	pods(t, l, ns, "kubia", 1, func(p *corev1.Pod) error {
		if len(p.Status.ContainerStatuses) == 0 || p.Status.ContainerStatuses[0].RestartCount < 1 {
			return errors.New("not restarted")
		}
		return isReady(p)
	})
}

func waitingFor(reason string) func(*corev1.Pod) error {
	return func(p *corev1.Pod) error {
		for _, s := range p.Status.ContainerStatuses {
			if s.State.Waiting != nil && s.State.Waiting.Reason == reason {
				return nil
			}
		}
		return errors.New("not waiting for " + reason)
	}
}

func TestImageNobodyHas(t *testing.T) {
	l := start(t)
	ns := namespace(t, l, nil)
	create(t, l, deployment(ns, "typo", "luksa/kubia:v22", 1, nil))
	pods(t, l, ns, "typo", 1, waitingFor("ErrImagePull"))
	stuck := pods(t, l, ns, "typo", 1, waitingFor("ImagePullBackOff"))
	if stuck[0].Status.Phase != corev1.PodPending || isReady(&stuck[0]) == nil {
		t.Errorf("phase %s, conditions %+v", stuck[0].Status.Phase, stuck[0].Status.Conditions)
	}
}

func TestCrashLoop(t *testing.T) {
	l := start(t)
	ns := namespace(t, l, nil)
	create(t, l, deployment(ns, "crash", "lab/crash-loop:1", 1, func(s *corev1.PodSpec) {
		s.Containers[0].Env = []corev1.EnvVar{{Name: "CRASH_AFTER", Value: "100ms"}}
	}))
	looping := pods(t, l, ns, "crash", 1, func(p *corev1.Pod) error {
		if err := waitingFor("CrashLoopBackOff")(p); err != nil {
			return err
		}
		if p.Status.ContainerStatuses[0].RestartCount < 2 {
			return errors.New("restarted too seldom")
		}
		return nil
	})
	last := looping[0].Status.ContainerStatuses[0].LastTerminationState.Terminated
	if last == nil || last.ExitCode != 1 || last.Reason != "Error" || looping[0].Status.Phase != corev1.PodRunning {
		t.Errorf("last %+v, phase %s", last, looping[0].Status.Phase)
	}
}

// A pod that is being deleted leaves the endpoints first, answers on while its callers learn that, and only then goes.
func TestDeletionDrains(t *testing.T) {
	l := start(t)
	ns := namespace(t, l, injected)
	create(t, l, deployment(ns, "shop", "luksa/kubia:v2", 1, func(s *corev1.PodSpec) { s.TerminationGracePeriodSeconds = ptr.To[int64](10) }))
	create(t, l, service(ns, "shop"))
	pod := pods(t, l, ns, "shop", 1, isReady)[0]
	address := net.JoinHostPort(pod.Status.PodIP, "8080")

	if err := l.Client.Delete(t.Context(), &pod); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	eventually(t, "the endpoint to go", func(ctx context.Context) error {
		got, err := endpoints(ctx, l, ns, "shop")
		if err == nil && slices.Contains(got, address) {
			err = fmt.Errorf("endpoints %v", got)
		}
		return err
	})
	if status, _, _, err := get(t.Context(), l, "http://"+address); err != nil || status != http.StatusOK {
		t.Errorf("while draining, %v after the deletion: status %d, %v", time.Since(began), status, err)
	}
	eventually(t, "the pod to go", func(ctx context.Context) error {
		err := l.Client.Get(ctx, client.ObjectKeyFromObject(&pod), &pod)
		if err == nil {
			return errors.New("it is there")
		}
		return client.IgnoreNotFound(err)
	})
	if took := time.Since(began); took < 1500*time.Millisecond {
		t.Errorf("gone after %v, want it to drain", took)
	}
	if _, _, _, err := get(t.Context(), l, "http://"+address); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("after deletion: %v, want connection refused", err)
	}
}

func TestKillRestarts(t *testing.T) {
	l := start(t)
	ns := namespace(t, l, nil)
	create(t, l, deployment(ns, "shop", "luksa/kubia:v2", 1, nil))
	pod := pods(t, l, ns, "shop", 1, isReady)[0]
	if err := l.Agent.Kill(types.NamespacedName{Namespace: ns, Name: pod.Name}); err != nil {
		t.Fatal(err)
	}
	back := pods(t, l, ns, "shop", 1, func(p *corev1.Pod) error {
		if p.Status.ContainerStatuses[0].RestartCount != 1 {
			return errors.New("not restarted")
		}
		return isReady(p)
	})
	if last := back[0].Status.ContainerStatuses[0].LastTerminationState.Terminated; last == nil || last.ExitCode != 137 {
		t.Errorf("last %+v, want exit code 137", last)
	}
	status, header, _, err := get(t.Context(), l, "http://"+net.JoinHostPort(pod.Status.PodIP, "8080"))
	if err != nil || status != http.StatusOK || header.Get(inboundHeader) != "" {
		t.Errorf("after the restart: status %d, %v, headers %v; want 200 without a proxy", status, err, header)
	}
}

// A Job's pod ends when its work ends, its sidecar notwithstanding.
func TestJobFails(t *testing.T) {
	l := start(t)
	ns := namespace(t, l, injected)
	create(t, l, &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "once"},
		Spec: batchv1.JobSpec{BackoffLimit: ptr.To[int32](0), Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "once"}},
			Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{
				Name: "app", Image: "lab/crash-loop:1", Env: []corev1.EnvVar{{Name: "CRASH_AFTER", Value: "10ms"}},
			}}},
		}},
	})
	eventually(t, "the Job to fail", func(ctx context.Context) error {
		var job batchv1.Job
		if err := l.Client.Get(ctx, client.ObjectKey{Namespace: ns, Name: "once"}, &job); err != nil {
			return err
		}
		if job.Status.Failed != 1 {
			return fmt.Errorf("status %+v", job.Status)
		}
		return nil
	})
}
