package v1alpha1

import apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

// Routing is how requests are routed, beyond the weights.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.virtualService) && has(self.virtualServices))",message="virtualServices are several, virtualService is one: write all of them in virtualServices, and leave out virtualService"
// +kubebuilder:validation:XValidation:rule="!((has(self.virtualService) || has(self.virtualServices)) && has(self.delegate) && self.delegate)",message="virtualService attaches to routes that stand already, delegate makes some for a root of yours: choose one"
// +kubebuilder:validation:XValidation:rule="!((has(self.virtualService) || has(self.virtualServices)) && has(self.http))",message="the routes are those of your own virtualService: write timeout, retries and the like there, and leave out http"
// +kubebuilder:validation:XValidation:rule="!has(self.api) || self.api != 'gateway' || !(has(self.virtualService) || has(self.virtualServices) || has(self.http) || (has(self.delegate) && self.delegate))",message="virtualService, delegate and http are for VirtualServices: with api gateway there are none; leave them out, or choose api: istio"
type Routing struct {
	// api is what the routes are written in: istio (a VirtualService and a DestinationRule) or gateway (HTTPRoutes and GRPCRoutes of the
	// Gateway API, and a Service for each version). Where it is not given, a service behind a waypoint of an ambient mesh has gateway,
	// and every other one istio. It is chosen when the service is taken over, and stays.
	// +optional
	API RoutingAPI `json:"api,omitempty"`
	// virtualService is a VirtualService of yours: Sluice writes the weights of its routes and nothing else of it.
	// +optional
	VirtualService *AttachedVirtualService `json:"virtualService,omitempty"`
	// virtualServices are several of yours, in place of virtualService: all of them carry the same weights, and a weight counts once every
	// one of them was read back with it.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	// +listType=map
	// +listMapKey=namespace
	// +listMapKey=name
	// +optional
	VirtualServices []AttachedVirtualService `json:"virtualServices,omitempty"`
	// delegate makes the VirtualService a delegate, without hosts and gateways, for a root VirtualService of yours to name.
	// +optional
	Delegate bool `json:"delegate,omitempty"`
	// http is Istio's own HTTPRoute without match, route, redirect, directResponse, delegate and mirrors: timeout, retries, headers,
	// corsPolicy, rewrite and fault, carried over as written into every HTTP route that Sluice makes.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Type=object
	// +optional
	HTTP *apiextensionsv1.JSON `json:"http,omitempty"`
}

// AttachedVirtualService names a VirtualService of the user's.
type AttachedVirtualService struct {
	// name is its name.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	Name string `json:"name"`
	// namespace is where it is; the shift's own where none is given. One of another namespace must let the shift's write its weights, by its
	// annotation sluice.dev/allowed-namespaces.
	// +kubebuilder:default=""
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$`
	// +optional
	Namespace string `json:"namespace,omitempty"`
	// routes are the names of the HTTP routes whose weights are written. Where neither routes, nor tcp, nor tls is given, every route of the
	// service is written, whatever it is for.
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	// +listType=set
	// +optional
	Routes []string `json:"routes,omitempty"`
	// tcp are the TCP routes whose weights are written, which have no names, by a port that they match.
	// +kubebuilder:validation:MaxItems=16
	// +listType=map
	// +listMapKey=port
	// +optional
	TCP []AttachedTCPRoute `json:"tcp,omitempty"`
	// tls are the TLS routes whose weights are written, by what they match: a port, names that clients ask for, or both.
	// +kubebuilder:validation:MaxItems=16
	// +listType=atomic
	// +optional
	TLS []AttachedTLSRoute `json:"tls,omitempty"`
}

// AttachedTCPRoute tells a TCP route of a VirtualService of the user's by what it matches.
type AttachedTCPRoute struct {
	// port is one that it matches.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port"`
}

// AttachedTLSRoute tells a TLS route of a VirtualService of the user's by what it matches.
//
// +kubebuilder:validation:XValidation:rule="has(self.port) || has(self.sniHosts)",message="a TLS route is told by what it matches: write its port, its sniHosts, or both"
type AttachedTLSRoute struct {
	// port is one that it matches; any where none is given.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +optional
	Port int32 `json:"port,omitempty"`
	// sniHosts are names that it matches, all of them together; any where none are given.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	// +listType=set
	// +optional
	SNIHosts []string `json:"sniHosts,omitempty"`
}

// Attached are the VirtualServices of the user's that carry the weights, however many and in whichever field; none where Sluice makes its own.
func (r *Routing) Attached() []AttachedVirtualService {
	switch {
	case r == nil:
		return nil
	case r.VirtualService != nil:
		return append([]AttachedVirtualService{*r.VirtualService}, r.VirtualServices...)
	}
	return r.VirtualServices
}

// RoutingAPI is what routes are written in.
//
// +kubebuilder:validation:Enum=istio;gateway
type RoutingAPI string

// The APIs.
const (
	// RoutingIstio is Istio's own: VirtualService and DestinationRule.
	RoutingIstio RoutingAPI = "istio"
	// RoutingGateway is the Gateway API: HTTPRoute and GRPCRoute, with a Service for each version.
	RoutingGateway RoutingAPI = "gateway"
)
