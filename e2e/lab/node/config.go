package node

import (
	"context"
	"net"
	"net/http"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/sluice-dev/sluice/e2e/lab/network"
	"github.com/sluice-dev/sluice/e2e/lab/workload"
)

// Inbound is the proxy in front of a pod: it wraps what the pod's application serves.
type Inbound func(workload.Identity, http.Handler) http.Handler

// InboundConnections is the proxy in front of a pod's port that is not HTTP: it answers connections by way of those that dial makes to the
// application.
type InboundConnections func(id workload.Identity, dial func(context.Context) (net.Conn, error)) func(net.Conn)

// Config is what a node agent needs.
type Config struct {
	// Name of the Node object.
	Name string
	// REST reaches the API server as an administrator.
	REST *rest.Config
	// Network gives pods their addresses and makes them reachable.
	Network *network.Network
	// Inbound stands in front of pods that have an istio-proxy container; nil means nothing does.
	Inbound Inbound
	// InboundConnections does the same for what is not HTTP.
	InboundConnections InboundConnections
	// ControllerBinary runs in containers of an image called "sluice"; empty means that it cannot be pulled.
	ControllerBinary string
	// Port hands out a free loopback port for a child process.
	Port func() (int, error)
	// Dir holds the kubeconfigs of child processes, LogDir their output.
	Dir, LogDir string
	// OnMetrics is told the loopback address of a child's metrics when it starts (up) and when it ends. It may be nil.
	OnMetrics func(pod types.NamespacedName, address string, up bool)
}
