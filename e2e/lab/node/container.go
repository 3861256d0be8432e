package node

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sluice-dev/sluice/e2e/lab/images"
)

// Back-off of restarts and of image pulls: a kubelet's, made short, so that tests need not wait for minutes.
const (
	firstBackoff = 2 * time.Second
	mostBackoff  = 8 * time.Second
	// healthyAfter is how long a container must run for its crashes to be forgotten.
	healthyAfter = time.Minute
	// pullTime is how long a failing pull shows as ErrImagePull before it shows as ImagePullBackOff.
	pullTime = time.Second
)

// container is the life of one container: pulled, started, watched, restarted.
type container struct {
	pod  *pod
	spec corev1.Container
	init bool

	// The rest is guarded by pod.mu.

	state    corev1.ContainerState
	last     corev1.ContainerState
	restarts int32
	started  bool // the startup probe, if any, has passed
	ready    bool
	instance instance // nil while nothing runs
}

// instance is one start of a container.
type instance interface {
	// ended is closed when it runs no more.
	ended() <-chan struct{}
	// exitCode may be read once ended is closed.
	exitCode() int
	// stop ends it politely, within grace. Both return when it is over.
	stop(grace time.Duration)
	kill()
	// pid is 0 for what runs in this process.
	pid() int
	// address is where a container port really listens, for probes, past any proxy. Empty while it does not listen.
	address(port int32) string
}

func newContainer(p *pod, spec corev1.Container, init bool) *container {
	return &container{pod: p, spec: spec, init: init, state: waiting("ContainerCreating", "")}
}

func waiting(reason, message string) corev1.ContainerState {
	return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
}

// sidecar says whether the container runs beside the pod's real work: the pod is done without it.
func (c *container) sidecar() bool {
	return c.spec.Name == proxyName || c.init && ptr.Deref(c.spec.RestartPolicy, "") == corev1.ContainerRestartPolicyAlways
}

// live runs the container until it is done for good, until ctx ends, or until stop says how much time it has left.
func (c *container) live(ctx context.Context, stop <-chan time.Duration) {
	if c.init && !c.sidecar() {
		c.set(func() { c.state = terminated(0, metav1.Now()); c.ready = true })
		return
	}
	var backoff time.Duration
	for {
		run, err := c.launch(ctx)
		if err != nil {
			if !c.sleepAfterFailure(ctx, stop, err, &backoff) {
				return
			}
			continue
		}
		began := time.Now()
		if !c.watch(ctx, stop, run) {
			return
		}
		if !c.restartable(run.exitCode()) {
			return
		}
		if time.Since(began) > healthyAfter {
			backoff = 0
		}
		if backoff > 0 {
			c.set(func() {
				c.state = waiting("CrashLoopBackOff", "back-off "+backoff.String()+" restarting failed container "+c.spec.Name)
			})
			c.event(corev1.EventTypeWarning, "BackOff", "Back-off restarting failed container "+c.spec.Name)
			if !sleep(ctx, stop, backoff) {
				return
			}
		}
		backoff = min(max(2*backoff, firstBackoff), mostBackoff)
		c.set(func() { c.restarts++ })
	}
}

// launch starts the container's image.
func (c *container) launch(ctx context.Context) (instance, error) {
	if c.spec.Name == proxyName {
		return newProxy(), nil
	}
	env, err := c.environment(ctx)
	if err != nil {
		return nil, err
	}
	if name, _ := images.Split(c.spec.Image); name == controllerImage && c.pod.agent.cfg.ControllerBinary != "" {
		return c.startChild(ctx, env)
	}
	app, err := images.Start(images.Container{Image: c.spec.Image, Pod: c.pod.name.Name, Env: env})
	if err != nil {
		return nil, err
	}
	return c.serve(app), nil
}

// sleepAfterFailure shows why the container does not start and waits for the next try. It returns false if there is none.
func (c *container) sleepAfterFailure(ctx context.Context, stop <-chan time.Duration, err error, backoff *time.Duration) bool {
	c.pod.agent.log.Warn("cannot start container", "pod", c.pod.name, "container", c.spec.Name, "err", err)
	reason, pause := "CreateContainerConfigError", firstBackoff
	if errors.Is(err, images.ErrUnknown) {
		c.set(func() { c.state = waiting("ErrImagePull", err.Error()) })
		c.event(corev1.EventTypeWarning, "Failed", "Failed to pull image: "+err.Error())
		if !sleep(ctx, stop, pullTime) {
			return false
		}
		*backoff = min(max(2*(*backoff), firstBackoff), mostBackoff)
		reason, pause = "ImagePullBackOff", *backoff
		c.event(corev1.EventTypeNormal, "BackOff", "Back-off pulling image \""+c.spec.Image+"\"")
	}
	c.set(func() { c.state = waiting(reason, err.Error()) })
	return sleep(ctx, stop, pause)
}

// watch sees a started container through to its end and shows it. It returns false if the container is not to come back.
func (c *container) watch(ctx context.Context, stop <-chan time.Duration, run instance) bool {
	began := metav1.Now()
	c.set(func() {
		c.instance, c.started = run, c.spec.StartupProbe == nil
		c.ready = c.started && c.spec.ReadinessProbe == nil
		c.state = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: began}}
	})
	probing, quit := context.WithCancel(ctx)
	defer quit()
	unhealthy := c.probe(probing, run)
	again := true
	select {
	case <-run.ended():
	case <-unhealthy:
		run.stop(c.grace())
	case grace := <-stop:
		c.drain(ctx, run, grace)
		again = false
	case <-ctx.Done(): // the object was deleted by force, or the lab ends: nobody waits for a long goodbye
		run.stop(3 * time.Second)
		again = false
	}
	c.set(func() {
		c.state = terminated(run.exitCode(), began)
		c.last, c.instance, c.ready, c.started = c.state, nil, false, false
	})
	return again
}

// drain ends a container of a deleted pod. What runs in this process answers as before for a while, as an app behind a
// draining proxy does; a child process is told to end at once, as every real process is.
func (c *container) drain(ctx context.Context, run instance, grace time.Duration) {
	if run.pid() == 0 {
		wait := min(grace, drainTime)
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-run.ended():
		case <-ctx.Done():
		}
		grace -= wait
	}
	run.stop(grace)
}

// restartable says whether the pod's restart policy brings the container back.
func (c *container) restartable(code int) bool {
	switch {
	case c.sidecar():
		return true
	case c.pod.latest().Spec.RestartPolicy == corev1.RestartPolicyNever:
		return false
	case c.pod.latest().Spec.RestartPolicy == corev1.RestartPolicyOnFailure:
		return code != 0
	default:
		return true
	}
}

func (c *container) grace() time.Duration {
	return time.Duration(ptr.Deref(c.pod.latest().Spec.TerminationGracePeriodSeconds, 30)) * time.Second
}

// set changes the container's state and lets the pod report it.
func (c *container) set(change func()) {
	c.pod.mu.Lock()
	change()
	c.pod.mu.Unlock()
	c.pod.changed()
}

func (c *container) event(kind, reason, message string) {
	c.pod.agent.events.Event(c.pod.latest(), kind, reason, message)
}

func terminated(code int, began metav1.Time) corev1.ContainerState {
	reason := "Completed"
	if code != 0 {
		reason = "Error"
	}
	return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
		ExitCode: int32(code), Reason: reason, StartedAt: began, FinishedAt: metav1.Now(),
	}}
}

// sleep waits and returns true, or false if the container is to end first.
func sleep(ctx context.Context, stop <-chan time.Duration, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-stop:
	case <-ctx.Done():
	}
	return false
}
