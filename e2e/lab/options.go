package lab

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/sluice-dev/sluice/e2e/lab/node"
)

// Options say what a lab is made of. The zero value starts a lab without a data plane and without a controller image.
type Options struct {
	// Dir holds everything the lab writes. Empty means a new temporary directory, removed by Stop unless Keep is set. A
	// directory that the caller names is never removed.
	Dir string
	// Keep leaves the temporary directory behind, for reading logs.
	Keep bool
	// ControllerBinary is what runs in containers of an image called "sluice". Without it that image cannot be pulled.
	ControllerBinary string
	// CRDPaths are files or directories of CustomResourceDefinitions installed beside Istio's and the Gateway API's.
	CRDPaths []string
	// AddToScheme extends the scheme of Lab.Client.
	AddToScheme []func(*runtime.Scheme) error
	// DataPlane builds the sidecars and the gateway. It is called when the API server and istiod answer and before any pod
	// runs. Nil means that pods are reached without a proxy.
	DataPlane func(ctx context.Context, l *Lab) (DataPlane, error)
	// Progress is told what the lab is doing, a line at a time. Nil means silence. It may be called from several
	// goroutines, one at a time.
	Progress func(line string)
}

// DataPlane is what Options.DataPlane hands back to the lab.
type DataPlane struct {
	// Inbound is the proxy in front of a pod that has an istio-proxy container. Nil means none.
	Inbound node.Inbound
	// InboundConnections is the same for ports that are not HTTP.
	InboundConnections node.InboundConnections
	// Stop ends the data plane, after the pods are gone and before istiod is. It may be nil.
	Stop func()
	// Endpoints are added to Lab.Endpoints, such as the gateway's address.
	Endpoints []Endpoint
}

// Endpoint is one line of what "lab up" prints.
type Endpoint struct{ Name, Value string }
