package node

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func TestExpand(t *testing.T) {
	env := map[string]string{"A": "1", "B.c-d": "2"}
	for text, want := range map[string]string{
		"plain": "plain", "$(A)": "1", "x$(A)y$(B.c-d)": "x1y2", "$(NOBODY)": "$(NOBODY)", "$$(A)": "$(A)", "$A": "$A", "$()": "$()", "$": "$",
	} {
		if got := expand(text, env); got != want {
			t.Errorf("expand(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestPhase(t *testing.T) {
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	good, bad := terminated(0, metav1.Now()), terminated(1, metav1.Now())
	type state struct {
		name      string
		now, last corev1.ContainerState
	}
	for name, tc := range map[string]struct {
		reason string
		policy corev1.RestartPolicy
		states []state
		want   corev1.PodPhase
	}{
		"Creating": {
			reason: "one container has yet to start", policy: corev1.RestartPolicyAlways,
			states: []state{{name: "a", now: running}, {name: "b", now: waiting("ContainerCreating", "")}}, want: corev1.PodPending,
		},
		"Running": {reason: "all run", policy: corev1.RestartPolicyAlways, states: []state{{name: "a", now: running}}, want: corev1.PodRunning},
		"CrashLoop": {
			reason: "it ran before and will run again", policy: corev1.RestartPolicyAlways,
			states: []state{{name: "a", now: waiting("CrashLoopBackOff", ""), last: bad}}, want: corev1.PodRunning,
		},
		"Retrying": {
			reason: "a failure is retried", policy: corev1.RestartPolicyOnFailure, states: []state{{name: "a", now: bad}}, want: corev1.PodRunning,
		},
		"Failed": {
			reason: "a failure is final, whatever the proxy does", policy: corev1.RestartPolicyNever,
			states: []state{{name: "a", now: bad}, {name: proxyName, now: running}}, want: corev1.PodFailed,
		},
		"Succeeded": {
			reason: "the work is done, whatever the proxy does", policy: corev1.RestartPolicyOnFailure,
			states: []state{{name: "a", now: good}, {name: proxyName, now: running}}, want: corev1.PodSucceeded,
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := &pod{}
			for _, s := range tc.states {
				c := newContainer(p, corev1.Container{Name: s.name}, false)
				c.state, c.last = s.now, s.last
				p.containers = append(p.containers, c)
			}
			if got := p.phase(&corev1.Pod{Spec: corev1.PodSpec{RestartPolicy: tc.policy}}); got != tc.want {
				t.Errorf("%s: %s, want %s", tc.reason, got, tc.want)
			}
		})
	}
}

func TestSetConditionKeepsItsTime(t *testing.T) {
	long := metav1.Unix(1000, 0)
	s := corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: long}}}
	setCondition(&s, corev1.PodReady, "", "")
	if got := s.Conditions[0].LastTransitionTime; !got.Equal(&long) {
		t.Errorf("unchanged condition moved to %v", got)
	}
	setCondition(&s, corev1.PodReady, "ContainersNotReady", "app")
	if got := s.Conditions[0]; got.LastTransitionTime.Equal(&long) || got.Status != corev1.ConditionFalse || got.Reason != "ContainersNotReady" {
		t.Errorf("changed condition is %+v", got)
	}
}

func TestPorts(t *testing.T) {
	get := func(port intstr.IntOrString) *corev1.Probe {
		return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Port: port}}}
	}
	for name, tc := range map[string]struct {
		reason string
		spec   corev1.Container
		want   []int32
	}{
		"Declared": {
			reason: "declared ports are all of them",
			spec: corev1.Container{
				Ports: []corev1.ContainerPort{{ContainerPort: 80}, {ContainerPort: 81}}, ReadinessProbe: get(intstr.FromInt32(80)),
			},
			want: []int32{80, 81},
		},
		"Probed":  {reason: "a probe knows where", spec: corev1.Container{LivenessProbe: get(intstr.FromInt32(8081))}, want: []int32{8081}},
		"Nothing": {reason: "the image knows where", spec: corev1.Container{ReadinessProbe: get(intstr.FromString("http"))}, want: []int32{9090}},
	} {
		c := &container{spec: tc.spec}
		if diff := cmp.Diff(tc.want, c.ports(9090)); diff != "" {
			t.Errorf("%s: %s: -want +got:\n%s", name, tc.reason, diff)
		}
	}
}
