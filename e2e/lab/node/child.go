package node

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/utils/ptr"

	"github.com/sluice-dev/sluice/e2e/lab/ports"
	"github.com/sluice-dev/sluice/e2e/lab/process"
)

// controllerImage is the image whose containers run Config.ControllerBinary.
const controllerImage = "sluice"

// metricsPort is the container port whose address Config.OnMetrics is told.
const metricsPort = "metrics"

// portFlags are the controller's flags that say where to listen, by the name of the container port they serve. All pods of
// the lab share one loopback, so each process must be given ports of its own.
var portFlags = map[string]string{metricsPort: "--metrics-bind-address", "health": "--health-probe-bind-address"}

// child is a container that runs as a process.
type child struct {
	*process.Process
	over      chan struct{}
	addresses map[int32]string
}

func (c child) ended() <-chan struct{}    { return c.over }
func (c child) exitCode() int             { return c.ExitCode() }
func (c child) stop(grace time.Duration)  { c.Stop(grace); <-c.over }
func (c child) kill()                     { c.Kill(); <-c.over }
func (c child) pid() int                  { return c.Pid() }
func (c child) address(port int32) string { return c.addresses[port] }

// startChild runs the controller with the container's arguments and environment, as the pod's ServiceAccount.
func (c *container) startChild(ctx context.Context, env map[string]string) (instance, error) {
	var args []string
	if len(c.spec.Command) > 1 {
		args = append(args, c.spec.Command[1:]...) // the first word names the program, which is Config.ControllerBinary
	}
	args = append(args, c.spec.Args...)
	for i, a := range args {
		args[i] = expand(a, env)
	}
	args, err := c.mounted(ctx, args)
	if err != nil {
		return nil, err
	}
	run := child{over: make(chan struct{}), addresses: map[int32]string{}}
	names := map[string]string{}
	for _, p := range c.spec.Ports {
		flag, ok := portFlags[p.Name]
		if !ok {
			continue
		}
		port, err := c.pod.agent.cfg.Port()
		if err != nil {
			return nil, err
		}
		run.addresses[p.ContainerPort], names[p.Name] = ports.Loopback(port), ports.Loopback(port)
		args = append(args, flag+"="+ports.Loopback(port)) // the last of several equal flags holds
	}
	kubeconfig, err := c.kubeconfig(ctx)
	if err != nil {
		return nil, err
	}
	if kubeconfig != "" {
		args = append(args, "--kubeconfig="+kubeconfig)
	}
	if run.Process, err = process.Start(c.child(args, env)); err != nil {
		return nil, err
	}
	c.expose(run, names[metricsPort])
	return run, nil
}

func (c *container) child(args []string, env map[string]string) process.Spec {
	name := c.pod.name.Namespace + "_" + c.pod.name.Name + "_" + c.spec.Name
	spec := process.Spec{
		Name: "container " + c.spec.Name + " of pod " + c.pod.name.String(), Path: c.pod.agent.cfg.ControllerBinary, Args: args,
		Dir: c.pod.agent.cfg.Dir, Log: filepath.Join(c.pod.agent.cfg.LogDir, name+".log"),
	}
	for _, k := range slices.Sorted(maps.Keys(env)) {
		spec.Env = append(spec.Env, k+"="+env[k])
	}
	return spec
}

// expose makes the process reachable for as long as it runs.
func (c *container) expose(run child, metrics string) {
	var detach []func()
	for port, real := range run.addresses {
		detach = append(detach, c.attach(port, real))
	}
	told := c.pod.agent.cfg.OnMetrics
	if told == nil || metrics == "" {
		told = func(types.NamespacedName, string, bool) {}
	}
	told(c.pod.name, metrics, true)
	c.pod.agent.work.Go(func() {
		<-run.Done()
		told(c.pod.name, metrics, false)
		for _, f := range detach {
			f()
		}
		close(run.over)
	})
}

// kubeconfig writes a kubeconfig with a token of the pod's ServiceAccount, or returns nothing if the pod mounts none: what
// the pod may do is then really decided by its roles.
func (c *container) kubeconfig(ctx context.Context) (string, error) {
	object, a := c.pod.latest(), c.pod.agent
	if !mountsToken(object) {
		return "", nil
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: ptr.To(int64((24 * time.Hour).Seconds())),
		BoundObjectRef:    &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: object.Name, UID: object.UID},
	}}
	account := object.Spec.ServiceAccountName
	token, err := a.client.CoreV1().ServiceAccounts(object.Namespace).CreateToken(ctx, account, request, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("token of ServiceAccount %s/%s: %w", object.Namespace, account, err)
	}
	config := clientcmdapi.NewConfig()
	config.Clusters["lab"] = &clientcmdapi.Cluster{Server: a.cfg.REST.Host, CertificateAuthorityData: a.cfg.REST.CAData}
	config.AuthInfos["pod"] = &clientcmdapi.AuthInfo{Token: token.Status.Token}
	config.Contexts["lab"] = &clientcmdapi.Context{Cluster: "lab", AuthInfo: "pod", Namespace: object.Namespace}
	config.CurrentContext = "lab"
	path := filepath.Join(a.cfg.Dir, string(object.UID)+"-"+c.spec.Name+".kubeconfig")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		return "", fmt.Errorf("kubeconfig of pod %s: %w", c.pod.name, err)
	}
	return path, nil
}

// mountsToken asks what admission made of automountServiceAccountToken.
func mountsToken(object *corev1.Pod) bool {
	return slices.ContainsFunc(object.Spec.Volumes, func(v corev1.Volume) bool {
		return v.Projected != nil && slices.ContainsFunc(v.Projected.Sources, func(s corev1.VolumeProjection) bool {
			return s.ServiceAccountToken != nil
		})
	})
}
