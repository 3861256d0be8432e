// Package node is the lab's kubelet and scheduler in one: it binds pods to itself and runs their containers the way their
// images say (see package images), as listeners in this process or, for the controller's image, as child processes.
//
// It keeps to the kubelet where a release depends on it: probes, restarts and their back-off, images that cannot be pulled,
// and the order in which a pod ends. Plain init containers count as done at once, volumes are not mounted.
package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
)

// Agent is a running node.
type Agent struct {
	cfg    Config
	client kubernetes.Interface
	events record.EventRecorder
	log    *slog.Logger

	ctx    context.Context
	cancel context.CancelFunc
	end    []func()
	work   sync.WaitGroup // pods and bindings

	mu   sync.Mutex
	pods map[types.UID]*pod
	// bound are the pods whose binding is under way or done.
	bound map[types.UID]bool
}

// Start makes the Node object and returns when pods are being watched. The agent lives until Stop.
func Start(ctx context.Context, cfg Config) (*Agent, error) {
	client, err := kubernetes.NewForConfig(cfg.REST)
	if err != nil {
		return nil, fmt.Errorf("node %q: %w", cfg.Name, err)
	}
	for _, dir := range []string{cfg.Dir, cfg.LogDir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("node %q: %w", cfg.Name, err)
		}
	}
	if err := register(ctx, client, cfg.Name); err != nil {
		return nil, err
	}
	a := &Agent{cfg: cfg, client: client, pods: map[types.UID]*pod{}, bound: map[types.UID]bool{}}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	if err := a.openLog(); err != nil {
		return nil, err
	}
	a.recordEvents()
	if err := a.watch(ctx); err != nil {
		a.Stop()
		return nil, err
	}
	return a, nil
}

func (a *Agent) openLog() error {
	f, err := os.OpenFile(filepath.Join(a.cfg.LogDir, "node.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("node %q: %w", a.cfg.Name, err)
	}
	a.log = slog.New(slog.NewTextHandler(io.Writer(f), nil))
	a.end = append(a.end, func() { _ = f.Close() })
	return nil
}

func (a *Agent) recordEvents() {
	broadcaster := record.NewBroadcaster(record.WithContext(a.ctx))
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: a.client.CoreV1().Events("")})
	a.events = broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "kubelet", Host: a.cfg.Name})
	a.end = append(a.end, broadcaster.Shutdown)
}

func (a *Agent) watch(ctx context.Context) error {
	factory := informers.NewSharedInformerFactory(a.client, 0)
	informer := factory.Core().V1().Pods().Informer()
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { a.observe(o.(*corev1.Pod)) },
		UpdateFunc: func(_, o any) { a.observe(o.(*corev1.Pod)) },
		DeleteFunc: a.forget,
	})
	if err != nil {
		return fmt.Errorf("node %q: watch pods: %w", a.cfg.Name, err)
	}
	factory.Start(a.ctx.Done())
	a.end = append(a.end, factory.Shutdown)
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		return fmt.Errorf("node %q: watch pods: %w", a.cfg.Name, context.Cause(ctx))
	}
	return nil
}

// Stop ends every pod's containers, leaving their objects alone, and returns when they are gone.
func (a *Agent) Stop() {
	a.cancel()
	a.work.Wait()
	for i := len(a.end) - 1; i >= 0; i-- {
		a.end[i]()
	}
}

// observe takes in what the API server says of a pod.
func (a *Agent) observe(object *corev1.Pod) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ctx.Err() != nil {
		return
	}
	if object.Spec.NodeName == "" {
		if !a.bound[object.UID] && object.DeletionTimestamp == nil && len(object.Spec.SchedulingGates) == 0 {
			a.bound[object.UID] = true
			a.work.Go(func() { a.bind(object) })
		}
		return
	}
	if object.Spec.NodeName != a.cfg.Name {
		return
	}
	if p, ok := a.pods[object.UID]; ok {
		p.observe(object)
		return
	}
	p, err := newPod(a, object)
	if err != nil {
		a.log.Error("cannot run pod", "pod", types.NamespacedName{Namespace: object.Namespace, Name: object.Name}, "err", err)
		return
	}
	a.pods[object.UID] = p
	a.work.Go(p.run)
}

// forget ends a pod whose object is gone.
func (a *Agent) forget(object any) {
	if tombstone, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = tombstone.Obj
	}
	gone, ok := object.(*corev1.Pod)
	if !ok {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.bound, gone.UID)
	if p, ok := a.pods[gone.UID]; ok {
		delete(a.pods, gone.UID)
		p.cancel()
	}
}

// bind does the scheduler's part: there is one node and it takes everything.
func (a *Agent) bind(pod *corev1.Pod) {
	binding := &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: a.cfg.Name},
	}
	a.insist("bind pod", pod, func(ctx context.Context) error {
		return a.client.CoreV1().Pods(pod.Namespace).Bind(ctx, binding, metav1.CreateOptions{})
	})
}

// insist repeats a write until it works, until it has nothing left to act on, or until the agent ends.
func (a *Agent) insist(what string, pod *corev1.Pod, write func(context.Context) error) {
	backoff := wait.Backoff{Duration: 50 * time.Millisecond, Factor: 2, Steps: 8, Cap: 2 * time.Second}
	_ = backoff.DelayFunc().Until(a.ctx, true, true, func(ctx context.Context) (bool, error) {
		err := write(ctx)
		if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) || errors.Is(err, context.Canceled) {
			return true, nil
		}
		a.log.Warn("cannot "+what, "pod", types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}, "err", err)
		return false, nil
	})
}

// Kill ends a pod's containers as SIGKILL does; they are then restarted as a kubelet restarts them.
func (a *Agent) Kill(name types.NamespacedName) error {
	p, err := a.find(name)
	if err != nil {
		return err
	}
	running := p.running()
	if len(running) == 0 {
		return fmt.Errorf("kill pod %s: no container runs", name)
	}
	for _, i := range running {
		i.kill()
	}
	return nil
}

// Process returns the process id of a pod that runs as a child process.
func (a *Agent) Process(name types.NamespacedName) (int, error) {
	p, err := a.find(name)
	if err != nil {
		return 0, err
	}
	for _, i := range p.running() {
		if pid := i.pid(); pid != 0 {
			return pid, nil
		}
	}
	return 0, fmt.Errorf("pod %s has no process of its own", name)
}

func (a *Agent) find(name types.NamespacedName) (*pod, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.pods {
		if p.name == name {
			return p, nil
		}
	}
	return nil, fmt.Errorf("pod %s does not run here", name)
}
