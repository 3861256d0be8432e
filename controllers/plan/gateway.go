package plan

import (
	"slices"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/shift"
)

var serviceType = metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}

// entry is how clients reach the service: a Service where none selects the pods, and a Gateway where hosts are asked for and no
// gateway is named. An internal service is never exposed by default.
func (s Scope) entry(d shift.Desired) []Step {
	var steps []Step
	if s.Made && d.Mesh && !d.Bare {
		steps = append(steps, Step{Apply, s.Service})
	}
	switch own := s.hosted() && len(s.Entry.Gateways) == 0; {
	case !d.Mesh:
	case own:
		steps = append(steps, Step{Apply, s.MakeGateway(d)})
	case s.Leave:
		steps = append(steps, s.deleteHosts(), s.deleteGateway())
	case len(s.Entry.Gateways) > 0:
		steps = append(steps, s.deleteGateway()) // one that was made before another was named
	}
	return steps
}

// deleteHosts and deleteGateway remove what was made for external hosts.
func (s Scope) deleteHosts() Step {
	return Step{Delete, &networkingv1.VirtualService{TypeMeta: virtualServiceType, ObjectMeta: s.meta(HostsName(s.Template.Name))}}
}

func (s Scope) deleteGateway() Step { return Step{Delete, s.MakeGateway(shift.Desired{})} }

// MakeGateway makes a gateway for the hosts that were asked for and for nothing else.
func (s Scope) MakeGateway(d shift.Desired) *networkingv1.Gateway {
	gw := &networkingv1.Gateway{TypeMeta: gatewayType, ObjectMeta: s.meta(s.Template.Name)}
	gw.Spec.Selector = s.GatewaySelector
	gw.Spec.Servers = s.servers("", s.Entry.served())
	if hosts := s.GatewayPreviews(d); len(hosts) > 0 {
		gw.Spec.Servers = append(gw.Spec.Servers, s.servers("-preview", hosts)...)
	}
	return gw
}

// served are the hosts that clients may ask a gateway for. The hosts of versions have servers of their own: they come and go, and with TLS
// a server whose hosts change closes its connections.
func (e Entry) served() []string {
	if e.Preview == "" || v1alpha1.PreviewsEach(e.Preview) {
		return e.Hosts
	}
	return append(slices.Clone(e.Hosts), e.Preview)
}

// MakeService makes a Service for the pods of every version, from the container ports that are named for HTTP, or from the only
// port there is. It returns nil where the template has neither.
func (s Scope) MakeService() *corev1.Service {
	svc := &corev1.Service{TypeMeta: serviceType, ObjectMeta: s.meta(s.Template.Name)}
	svc.Spec.Selector = merge(s.Template.Spec.Selector.MatchLabels)
	delete(svc.Spec.Selector, v1alpha1.LabelIstioVersion)
	all := containerPorts(s.served())
	for _, p := range all {
		port := corev1.ServicePort{Name: p.Name, Port: p.ContainerPort, TargetPort: intstr.FromInt32(p.ContainerPort), Protocol: corev1.ProtocolTCP}
		if len(all) == 1 && port.Name == "" {
			port.Name = "http"
		}
		if IsHTTP(port) {
			svc.Spec.Ports = append(svc.Spec.Ports, port)
		}
	}
	if len(svc.Spec.Ports) == 0 {
		return nil
	}
	return svc
}

// served is the pod that users are on: a Service that followed a template which is still to be proven would send them to ports that
// nobody listens on.
func (s Scope) served() corev1.PodSpec {
	if record, ok := s.Records[s.Shift.Status.State.Stable]; ok {
		if template, err := RecordedTemplate(record); err == nil {
			return template.Spec
		}
	}
	return s.Template.Spec.Template.Spec
}

func containerPorts(pod corev1.PodSpec) []corev1.ContainerPort {
	var ports []corev1.ContainerPort
	for _, c := range pod.Containers {
		for _, p := range c.Ports {
			if p.Protocol == "" || p.Protocol == corev1.ProtocolTCP {
				ports = append(ports, p)
			}
		}
	}
	return ports
}
