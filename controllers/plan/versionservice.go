package plan

import (
	corev1 "k8s.io/api/core/v1"
)

// MakeVersionService makes the Service of one version alone: its pods, behind the ports of the shift's own Service. No user's traffic
// comes to it unless a route sends it there.
func (s Scope) MakeVersionService(version string) *corev1.Service {
	svc := &corev1.Service{TypeMeta: serviceType, ObjectMeta: s.meta(VersionName(s.Template.Name, version))}
	svc.Spec.Selector = merge(s.Service.Spec.Selector, VersionLabels(s.Template.Name, version))
	for _, p := range s.Service.Spec.Ports {
		p.NodePort = 0
		svc.Spec.Ports = append(svc.Spec.Ports, p)
	}
	return svc
}
