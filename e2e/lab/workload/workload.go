// Package workload names a pod the way Istio's telemetry does.
package workload

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Identity is what a proxy knows of the workload it serves: the source of every source_* and destination_* label.
type Identity struct {
	Pod, Namespace, IP, ServiceAccount string
	// Workload is the owning Deployment's name, or the label service.istio.io/workload-name.
	Workload string
	// App and Version are the pod labels app and version.
	App, Version string
	// CanonicalService and CanonicalRevision follow Istio's precedence (pkg/kube/labels in Istio 1.31).
	CanonicalService, CanonicalRevision string
	Labels                              map[string]string
}

// FromPod reads a pod's identity.
func FromPod(pod *corev1.Pod) Identity {
	l := pod.Labels
	workload := first(l["service.istio.io/workload-name"], owner(pod), pod.Name)
	return Identity{
		Pod: pod.Name, Namespace: pod.Namespace, IP: pod.Status.PodIP, ServiceAccount: first(pod.Spec.ServiceAccountName, "default"),
		Workload: workload, App: l["app"], Version: l["version"],
		CanonicalService:  first(l["service.istio.io/canonical-name"], l["app.kubernetes.io/name"], l["app"], workload),
		CanonicalRevision: first(l["service.istio.io/canonical-revision"], l["app.kubernetes.io/version"], l["version"], "latest"),
		Labels:            l,
	}
}

// owner is the Deployment behind the pod's ReplicaSet: Istio cuts the pod-template-hash off, it does not look it up.
func owner(pod *corev1.Pod) string {
	ref := metav1.GetControllerOf(pod)
	if ref == nil {
		return ""
	}
	if hash := pod.Labels["pod-template-hash"]; ref.Kind == "ReplicaSet" && hash != "" {
		return strings.TrimSuffix(ref.Name, "-"+hash)
	}
	return ref.Name
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
