// Package dataplane joins the mesh's stand-ins to a lab: an ingress gateway, a stand-in for the sidecar of every injected pod,
// and one scrape target for all of them.
//
//	plane := dataplane.New()
//	l, err := lab.Start(ctx, lab.Options{DataPlane: plane.Start})
//	addr, err := plane.Gateway.WaitAddr(ctx, 80)   // once a Gateway asks for port 80
//	client, err := plane.Client(ctx, "client", "shop") // a pod in the mesh that only calls
package dataplane

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/sluice-dev/sluice/e2e/lab"
	"github.com/sluice-dev/sluice/e2e/lab/mesh"
	"github.com/sluice-dev/sluice/e2e/lab/workload"
)

// Plane is a lab's data plane.
type Plane struct {
	Telemetry *mesh.Telemetry
	// Gateway is the ingress gateway, from Start on.
	Gateway *mesh.Gateway
	// Metrics is the loopback address of what Prometheus scrapes, from Start on.
	Metrics string
	// Listen fixes the loopback address of a Gateway's port, for people who want to type it.
	Listen map[uint32]string

	lab      *lab.Lab
	services corelisters.ServiceLister

	mu      sync.Mutex
	cleanup []func()
}

// New returns a data plane for one lab.
func New() *Plane { return &Plane{Telemetry: mesh.NewTelemetry()} }

// Start is for lab.Options.DataPlane.
func (p *Plane) Start(ctx context.Context, l *lab.Lab) (lab.DataPlane, error) {
	p.lab = l
	plane := lab.DataPlane{Inbound: p.Telemetry.Inbound, InboundConnections: p.Telemetry.InboundConnections, Stop: p.stop}
	if err := p.serveMetrics(ctx); err != nil {
		return plane, err
	}
	if err := p.watch(ctx); err != nil {
		return plane, err
	}
	gateway, err := mesh.StartGateway(ctx, mesh.GatewayConfig{
		Discovery: l.XDSAddress, Network: l.Network, Telemetry: p.Telemetry, Listen: p.Listen,
	})
	if err != nil {
		return plane, err
	}
	p.Gateway = gateway
	p.onStop(gateway.Stop)
	if err := p.showGateway(ctx); err != nil {
		return plane, err
	}
	plane.Endpoints = []lab.Endpoint{{Name: "proxy metrics", Value: "http://" + p.Metrics + "/metrics"}}
	for port, address := range p.Listen {
		plane.Endpoints = append(plane.Endpoints, lab.Endpoint{Name: fmt.Sprintf("gateway port %d", port), Value: "http://" + address})
	}
	return plane, nil
}

// showGateway makes the Pod that stands for the gateway, for those who look whether a Gateway's selector matches one. It is bound to a node
// that is not there, so that nothing runs it.
func (p *Plane) showGateway(ctx context.Context) error {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "istio-system", Name: "istio-ingressgateway-0", Labels: map[string]string{"app": "istio-ingressgateway", "istio": "ingressgateway"},
	}}
	pod.Spec.NodeName = "elsewhere"
	pod.Spec.Containers = []corev1.Container{{Name: "istio-proxy", Image: "docker.io/istio/proxyv2:1.31.1"}}
	if err := p.lab.Client.Create(ctx, pod); err != nil {
		return fmt.Errorf("show the gateway's pod: %w", err)
	}
	return nil
}

// Client starts a sidecar for a pod that only calls others. It needs no Pod object; it stops with the lab, or before.
func (p *Plane) Client(ctx context.Context, name, namespace string) (*mesh.Sidecar, error) {
	sidecar, err := mesh.StartSidecar(ctx, mesh.SidecarConfig{
		Discovery: p.lab.XDSAddress, Network: p.lab.Network, Telemetry: p.Telemetry,
		Pod: workload.Identity{
			Pod: name + "-0", Namespace: namespace, ServiceAccount: "default", Workload: name, App: name, Version: "v1",
			CanonicalService: name, CanonicalRevision: "v1", Labels: map[string]string{"app": name, "version": "v1"},
		},
		Resolve: func(host string) (netip.Addr, bool) { return p.resolve(namespace, host) },
	})
	if err != nil {
		return nil, err
	}
	p.onStop(sidecar.Stop)
	return sidecar, nil
}

func (p *Plane) onStop(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cleanup = append(p.cleanup, f)
}

func (p *Plane) stop() {
	p.mu.Lock()
	cleanup := p.cleanup
	p.cleanup = nil
	p.mu.Unlock()
	for _, f := range slices.Backward(cleanup) {
		f()
	}
}

// serveMetrics gives all proxies one scrape target: their series say themselves whose they are.
func (p *Plane) serveMetrics(ctx context.Context) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("serve the proxies' metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", p.Telemetry.Handler())
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l) // it ends when the server is closed
	}()
	p.onStop(func() {
		_ = server.Close() // nobody waits for a last scrape
		<-done
	})
	p.Metrics = l.Addr().String()
	return p.lab.AddScrapeTarget("data-plane", p.Metrics, "/metrics", nil)
}

// watch follows Services, of which sidecars know which they serve, and Pods, whose series end with them.
func (p *Plane) watch(ctx context.Context) error {
	clients, err := kubernetes.NewForConfig(p.lab.REST)
	if err != nil {
		return fmt.Errorf("follow services and pods: %w", err)
	}
	factory := informers.NewSharedInformerFactory(clients, 0)
	p.services = factory.Core().V1().Services().Lister()
	services, pods := factory.Core().V1().Services().Informer(), factory.Core().V1().Pods().Informer()
	if _, err := pods.AddEventHandler(cache.ResourceEventHandlerFuncs{DeleteFunc: p.forget}); err != nil {
		return fmt.Errorf("follow pods: %w", err)
	}
	following, end := context.WithCancel(context.Background())
	factory.Start(following.Done())
	p.onStop(func() {
		end()
		factory.Shutdown()
	})
	if !cache.WaitForCacheSync(ctx.Done(), services.HasSynced, pods.HasSynced) {
		return fmt.Errorf("follow services and pods: %w", context.Cause(ctx))
	}
	p.Telemetry.NameServices(p.serviceOf)
	return nil
}

func (p *Plane) forget(obj any) {
	if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = gone.Obj
	}
	if pod, ok := obj.(*corev1.Pod); ok {
		p.Telemetry.Forget(pod.Namespace, pod.Name)
	}
}

// serviceOf is the oldest Service that selects the pod: Istio's inbound clusters name that one first.
func (p *Plane) serviceOf(id workload.Identity) string {
	all, err := p.services.Services(id.Namespace).List(labels.Everything())
	if err != nil {
		return "" // a cache does not fail
	}
	var oldest *corev1.Service
	for _, s := range all {
		if len(s.Spec.Selector) > 0 && labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(id.Labels)) &&
			(oldest == nil || older(s, oldest)) {
			oldest = s
		}
	}
	if oldest == nil {
		return ""
	}
	return oldest.Name + "." + oldest.Namespace + ".svc.cluster.local"
}

// resolve is the resolver of a pod in a namespace: a Service's name, with as much of its domain as the client writes.
func (p *Plane) resolve(namespace, host string) (netip.Addr, bool) {
	host = strings.TrimSuffix(strings.TrimSuffix(host, ".cluster.local"), ".svc")
	name, in, ok := strings.Cut(host, ".")
	if !ok {
		in = namespace
	}
	s, err := p.services.Services(in).Get(name)
	if err != nil {
		return netip.Addr{}, false
	}
	ip, err := netip.ParseAddr(s.Spec.ClusterIP)
	return ip, err == nil
}

func older(a, b *corev1.Service) bool {
	if a.CreationTimestamp.Equal(&b.CreationTimestamp) {
		return strings.Compare(a.Name, b.Name) < 0
	}
	return a.CreationTimestamp.Before(&b.CreationTimestamp)
}
