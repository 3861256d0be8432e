package plan

import (
	"google.golang.org/protobuf/proto"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
)

// delegate makes a VirtualService one that a root of the user's names: without hosts and gateways, which a delegate must not have,
// and without a match on the port. What is matched is the root's to say; a port would be the Service's in the mesh and the gateway's
// at a gateway, and Istio drops a route whose port is not the root's (rule V5).
func (s Scope) delegate(vs *networkingv1.VirtualService) {
	if !s.Delegate {
		return
	}
	vs.Spec.Hosts, vs.Spec.Gateways = nil, nil
	for _, route := range vs.Spec.GetHttp() {
		everything := false
		for _, m := range route.GetMatch() {
			m.Port = 0
			everything = everything || proto.Size(m) == 0
		}
		if everything {
			route.Match = nil
		}
	}
}
