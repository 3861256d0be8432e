package lab

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"github.com/sluice-dev/sluice/e2e/lab/ports"
)

const istioSystem = "istio-system"

// meshConfig is Istio's default but for where istiod is.
const meshConfig = `rootNamespace: istio-system
trustDomain: cluster.local
defaultConfig:
  discoveryAddress: %q
`

func (l *Lab) startIstiod(ctx context.Context) error {
	port, err := l.freePorts(3)
	if err != nil {
		return err
	}
	l.XDSAddress, l.IstiodHTTP = ports.Loopback(port[0]), "http://"+ports.Loopback(port[1])
	mesh := filepath.Join(l.Dir, "mesh.yaml")
	if err := os.WriteFile(mesh, fmt.Appendf(nil, meshConfig, l.XDSAddress), 0o644); err != nil {
		return fmt.Errorf("write the mesh configuration: %w", err)
	}
	l.istiod = l.component("istiod", l.Binaries.Istiod, []string{
		"discovery", "--kubeconfig", l.Kubeconfig, "--meshConfig", mesh, "--registries", "Kubernetes",
		"--grpcAddr", l.XDSAddress, "--httpAddr", ports.Loopback(port[1]), "--monitoringAddr", ports.Loopback(port[2]),
		"--httpsAddr", "", "--secureGRPCAddr", "", "--ctrlz_port", "0",
	}, []string{
		"POD_NAME=istiod", "POD_NAMESPACE=" + istioSystem, "REVISION=default", "XDS_AUTH=false",
		"VALIDATION_WEBHOOK_CONFIG_NAME=", "INJECTION_WEBHOOK_CONFIG_NAME=",
		// Waypoints get their configuration; nothing makes their Deployments, and no ztunnel asks for any.
		"PILOT_ENABLE_AMBIENT=true", "PILOT_ENABLE_GATEWAY_API_DEPLOYMENT_CONTROLLER=false",
		// Short enough to wait for, long enough for a wrong order of writes to reach the proxies as it was written.
		"PILOT_DEBOUNCE_AFTER=50ms",
	}, answers(http.DefaultClient, l.IstiodHTTP+"/ready"))
	return l.launch(ctx, l.istiod)
}

// StopIstiod kills istiod. Proxies keep what they have.
func (l *Lab) StopIstiod() { l.istiod.kill() }

// StartIstiod starts istiod again where it was.
func (l *Lab) StartIstiod(ctx context.Context) error { return l.istiod.start(ctx) }
