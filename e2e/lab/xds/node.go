package xds

import (
	"fmt"
	"maps"
	"net/netip"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"
)

// The kinds of proxy that istiod tells apart by their node id.
const (
	Router   = "router"
	Sidecar  = "sidecar"
	Waypoint = "waypoint"
)

// istioVersion is what the node says it runs: istiod adapts what it sends to older proxies.
const istioVersion = "1.31.0"

// Node is who a proxy says it is.
type Node struct {
	// Type is Router, Sidecar or Waypoint.
	Type string
	// IP, Name and Namespace are the pod's.
	IP, Name, Namespace string
	// ServiceAccount is the pod's, "default" if empty.
	ServiceAccount string
	// Labels are the pod's: istiod takes them from here where it does not know the pod.
	Labels map[string]string
	// Workload is the owner's name, for istiod's debug pages.
	Workload string
	// Metadata is added to the node's, such as GENERATOR: grpc.
	Metadata map[string]any
}

// ID is the node id that istiod parses.
func (n Node) ID() string {
	return fmt.Sprintf("%s~%s~%s.%s~%s.svc.cluster.local", n.Type, n.IP, n.Name, n.Namespace, n.Namespace)
}

// Attributes is the node's metadata as istiod expects it.
func (n Node) Attributes() map[string]any {
	labels := make(map[string]any, len(n.Labels))
	for k, v := range n.Labels {
		labels[k] = v
	}
	account := n.ServiceAccount
	if account == "" {
		account = "default"
	}
	m := map[string]any{
		"NAME": n.Name, "NAMESPACE": n.Namespace, "SERVICE_ACCOUNT": account, "WORKLOAD_NAME": n.Workload,
		"CLUSTER_ID": "Kubernetes", "MESH_ID": "cluster.local", "ISTIO_VERSION": istioVersion,
		"INSTANCE_IPS": n.IP, "LABELS": labels,
	}
	maps.Copy(m, n.Metadata)
	return m
}

// Proto is the node as it stands in the first request of a stream.
func (n Node) Proto() (*corev3.Node, error) {
	if n.Type != Router && n.Type != Sidecar && n.Type != Waypoint {
		return nil, fmt.Errorf("node %q: type %q is none of %q, %q and %q", n.Name, n.Type, Router, Sidecar, Waypoint)
	}
	if _, err := netip.ParseAddr(n.IP); err != nil {
		return nil, fmt.Errorf("node %q: address: %w", n.Name, err)
	}
	if n.Name == "" || n.Namespace == "" {
		return nil, fmt.Errorf("node %q: name and namespace are needed, got %q and %q", n.ID(), n.Name, n.Namespace)
	}
	metadata, err := structpb.NewStruct(n.Attributes())
	if err != nil {
		return nil, fmt.Errorf("node %q: metadata: %w", n.Name, err)
	}
	return &corev3.Node{Id: n.ID(), Cluster: n.Workload + "." + n.Namespace, Metadata: metadata}, nil
}
