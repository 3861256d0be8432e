package plan

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Protocol is what Istio takes a Service's port for: what its appProtocol or the prefix of its name says. NoProtocol says nothing, and
// Istio would guess from what clients send first.
type Protocol string

// NoProtocol is that of a port that says nothing, or something that Istio does not know.
const NoProtocol Protocol = ""

// What Istio calls its protocols, by how it routes them.
var (
	httpProtocols = []Protocol{"http", "http2", "grpc", "grpc-web"}
	tcpProtocols  = []Protocol{"tcp", "mongo", "mysql", "redis"}
	tlsProtocols  = []Protocol{"tls", "https"}
)

// ProtocolOf reads a port as Istio does (rule P1).
func ProtocolOf(p corev1.ServicePort) Protocol {
	if p.Protocol == corev1.ProtocolUDP || p.Protocol == corev1.ProtocolSCTP {
		return Protocol(strings.ToLower(string(p.Protocol)))
	}
	said := p.Name
	if p.AppProtocol != nil {
		switch said = *p.AppProtocol; said {
		case "kubernetes.io/h2c":
			said = "http2"
		case "kubernetes.io/ws":
			said = "http"
		case "kubernetes.io/wss":
			said = "https"
		}
	}
	said = strings.ToLower(said)
	if strings.HasPrefix(said, "grpc-web") {
		return "grpc-web"
	}
	said, _, _ = strings.Cut(said, "-")
	if protocol := Protocol(said); slices.Contains(slices.Concat(httpProtocols, tcpProtocols, tlsProtocols), protocol) {
		return protocol
	}
	return NoProtocol
}

// IsHTTP reports whether Istio treats a port as HTTP in the clear.
func IsHTTP(p corev1.ServicePort) bool { return slices.Contains(httpProtocols, ProtocolOf(p)) }

// IsTCP reports whether Istio routes a port's connections without looking into them.
func IsTCP(p corev1.ServicePort) bool { return slices.Contains(tcpProtocols, ProtocolOf(p)) }

// IsTLS reports whether Istio routes a port's connections by the name that clients ask for when they begin TLS.
func IsTLS(p corev1.ServicePort) bool { return slices.Contains(tlsProtocols, ProtocolOf(p)) }

// HTTPPorts are the ports that Istio routes HTTP on.
func HTTPPorts(service *corev1.Service) []corev1.ServicePort { return portsThat(service, IsHTTP) }

// TCPPorts are the ports that Istio routes connections on.
func TCPPorts(service *corev1.Service) []corev1.ServicePort { return portsThat(service, IsTCP) }

// TLSPorts are the ports that Istio routes connections on by their SNI.
func TLSPorts(service *corev1.Service) []corev1.ServicePort { return portsThat(service, IsTLS) }

// RoutedPorts are the ports that Istio routes by what they say they are.
func RoutedPorts(service *corev1.Service) []corev1.ServicePort {
	return portsThat(service, func(p corev1.ServicePort) bool { return IsHTTP(p) || IsTCP(p) || IsTLS(p) })
}

func portsThat(service *corev1.Service, is func(corev1.ServicePort) bool) []corev1.ServicePort {
	if service == nil {
		return nil
	}
	var ports []corev1.ServicePort
	for _, p := range service.Spec.Ports {
		if is(p) {
			ports = append(ports, p)
		}
	}
	return ports
}
