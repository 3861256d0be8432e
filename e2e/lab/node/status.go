package node

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// status is what the pod reports, with what others wrote into the object's status kept. The caller holds p.mu.
func (p *pod) status(object *corev1.Pod) corev1.PodStatus {
	s := *object.Status.DeepCopy()
	s.Phase = p.phase(object)
	s.HostIP, s.HostIPs = hostIP, []corev1.HostIP{{IP: hostIP}}
	s.PodIP, s.PodIPs = p.ip, []corev1.PodIP{{IP: p.ip}}
	s.StartTime, s.ObservedGeneration = &p.born, object.Generation
	s.InitContainerStatuses, s.ContainerStatuses = nil, nil
	for _, c := range p.containers {
		if c.init {
			s.InitContainerStatuses = append(s.InitContainerStatuses, c.status())
		} else {
			s.ContainerStatuses = append(s.ContainerStatuses, c.status())
		}
	}
	ready := p.containersReady(s.Phase)
	setCondition(&s, corev1.PodReadyToStartContainers, "", "")
	setCondition(&s, corev1.PodInitialized, "", "")
	setCondition(&s, corev1.ContainersReady, ready.reason, ready.message)
	if ready.reason == "" {
		ready = gatesReady(object)
	}
	setCondition(&s, corev1.PodReady, ready.reason, ready.message)
	setCondition(&s, corev1.PodScheduled, "", "")
	return s
}

func (c *container) status() corev1.ContainerStatus {
	return corev1.ContainerStatus{
		Name: c.spec.Name, Image: c.spec.Image, ImageID: c.imageID(), ContainerID: fmt.Sprintf("lab://%s/%s/%d", c.pod.uid, c.spec.Name, c.restarts),
		State: c.state, LastTerminationState: c.last, RestartCount: c.restarts, Ready: c.ready, Started: ptr.To(c.started),
	}
}

func (c *container) imageID() string {
	if c.state.Waiting != nil && c.last.Terminated == nil {
		return ""
	}
	return c.spec.Image
}

// phase follows the kubelet: waiting for a first start is Pending, a restart is not.
func (p *pod) phase(object *corev1.Pod) corev1.PodPhase {
	var pending, alive, failed int
	for _, c := range p.containers {
		switch {
		case c.sidecar() || c.init:
		case c.state.Waiting != nil && c.last.Terminated == nil:
			pending++
		case c.state.Terminated == nil || object.Spec.RestartPolicy == corev1.RestartPolicyAlways && !p.terminating:
			alive++
		case c.state.Terminated.ExitCode != 0:
			failed++
			if object.Spec.RestartPolicy != corev1.RestartPolicyNever && !p.terminating {
				alive++
			}
		}
	}
	switch {
	case pending > 0:
		return corev1.PodPending
	case alive > 0:
		return corev1.PodRunning
	case failed > 0:
		return corev1.PodFailed
	default:
		return corev1.PodSucceeded
	}
}

// refusal says why a condition is not true; its zero value says that it is.
type refusal struct{ reason, message string }

func (p *pod) containersReady(phase corev1.PodPhase) refusal {
	if p.terminating {
		return refusal{"PodTerminating", "the pod is being deleted"}
	}
	if phase == corev1.PodSucceeded {
		return refusal{"PodCompleted", ""}
	}
	if phase == corev1.PodFailed {
		return refusal{"PodFailed", ""}
	}
	var unready []string
	for _, c := range p.containers {
		if !c.ready {
			unready = append(unready, c.spec.Name)
		}
	}
	if len(unready) > 0 {
		return refusal{"ContainersNotReady", fmt.Sprintf("containers with unready status: [%s]", strings.Join(unready, " "))}
	}
	return refusal{}
}

// gatesReady asks the conditions that others write for the pod's readiness gates.
func gatesReady(object *corev1.Pod) refusal {
	for _, gate := range object.Spec.ReadinessGates {
		met := slices.ContainsFunc(object.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == gate.ConditionType && c.Status == corev1.ConditionTrue
		})
		if !met {
			return refusal{"ReadinessGatesNotReady", fmt.Sprintf("corresponding condition of pod readiness gate %q is not true", gate.ConditionType)}
		}
	}
	return refusal{}
}

// setCondition makes a condition true, or false for a reason.
func setCondition(s *corev1.PodStatus, kind corev1.PodConditionType, reason, message string) {
	next := corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue, Reason: reason, Message: message}
	if reason != "" {
		next.Status = corev1.ConditionFalse
	}
	i := slices.IndexFunc(s.Conditions, func(c corev1.PodCondition) bool { return c.Type == kind })
	if i < 0 {
		next.LastTransitionTime = metav1.Now()
		s.Conditions = append(s.Conditions, next)
		return
	}
	have := s.Conditions[i]
	next.LastTransitionTime, next.LastProbeTime, next.ObservedGeneration = have.LastTransitionTime, have.LastProbeTime, have.ObservedGeneration
	if have.Status != next.Status {
		next.LastTransitionTime = metav1.Now()
	}
	s.Conditions[i] = next
}
