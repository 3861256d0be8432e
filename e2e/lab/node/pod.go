package node

import (
	"context"
	"errors"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/sluice-dev/sluice/e2e/lab/workload"
)

// drainTime is Istio's terminationDrainDuration: for so long a pod that is being deleted answers as before.
const drainTime = 5 * time.Second

// proxyName is the container that stands for the sidecar.
const proxyName = "istio-proxy"

// pod is the life of one pod on this node.
type pod struct {
	agent *Agent
	name  types.NamespacedName
	uid   types.UID
	ip    string
	born  metav1.Time
	// identity is what the proxy in front of it knows; nil where there is no proxy.
	identity *workload.Identity

	ctx    context.Context // ends with the object or the agent
	cancel context.CancelFunc
	wake   chan struct{} // something changed that status may show

	mu          sync.Mutex
	object      *corev1.Pod // as last seen
	containers  []*container
	terminating bool
}

func newPod(a *Agent, object *corev1.Pod) (*pod, error) {
	ip, err := a.cfg.Network.Allocate()
	if err != nil {
		return nil, err
	}
	p := &pod{
		agent: a, name: types.NamespacedName{Namespace: object.Namespace, Name: object.Name}, uid: object.UID, ip: ip.String(),
		born: metav1.Now(), wake: make(chan struct{}, 1), object: object,
	}
	p.ctx, p.cancel = context.WithCancel(a.ctx)
	for _, spec := range object.Spec.InitContainers {
		p.containers = append(p.containers, newContainer(p, spec, true))
	}
	for _, spec := range object.Spec.Containers {
		p.containers = append(p.containers, newContainer(p, spec, false))
	}
	for _, c := range p.containers {
		if c.spec.Name == proxyName && a.cfg.Inbound != nil {
			seen := object.DeepCopy()
			seen.Status.PodIP = p.ip
			p.identity = ptr.To(workload.FromPod(seen))
		}
	}
	return p, nil
}

// observe takes in a newer version of the object.
func (p *pod) observe(object *corev1.Pod) {
	p.mu.Lock()
	p.object = object
	p.mu.Unlock()
	p.changed()
}

// changed makes the pod look at its state again.
func (p *pod) changed() {
	select {
	case p.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// run runs the pod until its object is gone or the agent stops.
func (p *pod) run() {
	defer p.cancel()
	if done(p.latest()) { // it ended before this agent began
		return
	}
	stop := make(chan time.Duration)
	var life sync.WaitGroup
	for _, c := range p.containers {
		life.Go(func() { c.live(p.ctx, stop) })
	}
	ended := make(chan struct{})
	go func() { life.Wait(); close(ended) }()
	p.changed()

	var deleted sync.Once
	for alive := ended; ; {
		select {
		case <-p.wake:
			p.report()
			if o := p.latest(); o.DeletionTimestamp != nil {
				deleted.Do(func() { p.agent.work.Go(func() { p.terminate(o, stop, ended) }) })
			}
		case <-alive:
			alive = nil // containers that are done for good; the object may stay, as a Job's pod does
			p.report()
		case <-p.ctx.Done():
			<-ended
			return
		}
	}
}

// terminate ends a pod the way a kubelet and Istio end it together: not ready at once, still serving while callers learn
// that, then closed, then gone.
func (p *pod) terminate(object *corev1.Pod, stop chan<- time.Duration, ended <-chan struct{}) {
	grace := time.Duration(ptr.Deref(object.DeletionGracePeriodSeconds, 0)) * time.Second
	p.agent.events.Event(object, corev1.EventTypeNormal, "Killing", "Stopping the pod's containers")
	p.mu.Lock()
	p.terminating = true
	p.mu.Unlock()
	p.changed()

	for {
		select {
		case stop <- grace: // one for every container that lives
			continue
		case <-p.ctx.Done():
			return
		case <-ended:
		}
		break
	}
	p.report()
	p.agent.insist("delete pod", object, func(ctx context.Context) error {
		return p.agent.client.CoreV1().Pods(p.name.Namespace).Delete(ctx, p.name.Name, metav1.DeleteOptions{
			GracePeriodSeconds: ptr.To[int64](0), Preconditions: metav1.NewUIDPreconditions(string(p.uid)),
		})
	})
}

// report writes the pod's status if it differs from what the API server has.
func (p *pod) report() {
	for {
		p.mu.Lock()
		object := p.object
		status := p.status(object)
		p.mu.Unlock()
		if equality.Semantic.DeepEqual(object.Status, status) {
			return
		}
		next := object.DeepCopy()
		next.Status = status
		written, err := p.agent.client.CoreV1().Pods(next.Namespace).UpdateStatus(p.ctx, next, metav1.UpdateOptions{})
		switch {
		case err == nil:
			p.keep(written)
			return
		case apierrors.IsConflict(err):
			fresh, err := p.agent.client.CoreV1().Pods(next.Namespace).Get(p.ctx, next.Name, metav1.GetOptions{})
			if err != nil || fresh.UID != p.uid {
				return // gone; the watch will say so
			}
			p.keep(fresh)
		case apierrors.IsNotFound(err) || errors.Is(err, context.Canceled):
			return
		default:
			p.agent.log.Warn("cannot write status", "pod", p.name, "err", err)
			time.AfterFunc(200*time.Millisecond, p.changed)
			return
		}
	}
}

// keep remembers an object got from the API server directly. The watch may bring an older one later; the write that
// follows from it then meets a conflict and is put right.
func (p *pod) keep(object *corev1.Pod) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.object = object
}

func (p *pod) latest() *corev1.Pod {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.object
}

// running lists what runs in the pod's containers, the proxy left out.
func (p *pod) running() []instance {
	p.mu.Lock()
	defer p.mu.Unlock()
	var running []instance
	for _, c := range p.containers {
		if c.instance != nil && c.spec.Name != proxyName {
			running = append(running, c.instance)
		}
	}
	return running
}

// done says that a pod has run to its end.
func done(object *corev1.Pod) bool {
	return object.Status.Phase == corev1.PodSucceeded || object.Status.Phase == corev1.PodFailed
}
