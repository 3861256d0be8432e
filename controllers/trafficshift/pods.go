package trafficshift

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// longestWhy bounds what another component's words may take of a message.
const longestWhy = 300

// noteBare notes a pod without a sidecar, and what a sidecar is like where there is one. A pod that is going says nothing.
func (w *world) noteBare(version string, pod *corev1.Pod) {
	if !pod.DeletionTimestamp.IsZero() {
		return
	}
	if !hasProxy(&pod.Spec) {
		if w.bare == nil {
			w.bare = map[string]string{}
		}
		if was := w.bare[version]; was == "" || pod.Name < was {
			w.bare[version] = pod.Name
		}
		return
	}
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		if c.Name == containerOfProxy {
			w.proxy = c.DeepCopy()
		}
	}
}

// unscheduled says why no node takes a pod: "Unschedulable: 0/3 nodes are available: ...".
func unscheduled(pod *corev1.Pod) string {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Message != "" {
			return clipTo(fmt.Sprintf("%s: %s", cmp.Or(c.Reason, corev1.PodReasonUnschedulable), c.Message), longestWhy)
		}
	}
	return ""
}

// unmade says why pods of a Deployment cannot be made at all: a quota, a limit range or an admission webhook refuses them.
func unmade(d *appsv1.Deployment) string {
	if d == nil {
		return ""
	}
	for _, c := range d.Status.Conditions {
		if c.Type == appsv1.DeploymentReplicaFailure && c.Status == corev1.ConditionTrue {
			return clipTo(fmt.Sprintf("%s: %s", c.Reason, withoutPodName(c.Message)), longestWhy)
		}
	}
	return ""
}

var podName = regexp.MustCompile(`(?i)^(pods? )"[^"]*" `)

// withoutPodName takes out the name that the next attempt will not have: what is said stays the same while nothing changes.
func withoutPodName(message string) string { return podName.ReplaceAllString(message, "${1}") }

func clipTo(text string, limit int) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) <= limit {
		return text
	}
	return strings.ToValidUTF8(text[:limit], "") + "..."
}
