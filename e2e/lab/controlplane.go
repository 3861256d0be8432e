package lab

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/e2e/lab/ports"
	"github.com/sluice-dev/sluice/e2e/lab/process"
)

// Etcd and the API server are started here and not by controller-runtime's envtest, which cannot make them die with the
// lab when the lab is killed, and does not keep what they log.

// component makes a component whose end stops with the lab and whose unasked end fails it.
func (l *Lab) component(name, path string, args, env []string, ready func(context.Context) error) *component {
	return &component{
		spec: process.Spec{
			Name: name, Path: path, Args: args, Env: env, Dir: l.Dir, Log: filepath.Join(l.LogDir, name+".log"),
		},
		ready: ready, limit: 2 * time.Minute, grace: 5 * time.Second, died: l.fail,
	}
}

// launch starts a component and says how long it took.
func (l *Lab) launch(ctx context.Context, c *component) error {
	began := time.Now()
	l.onStop(c.stop)
	if err := c.start(ctx); err != nil {
		return err
	}
	l.say("%s is ready after %s", c.spec.Name, since(began))
	return nil
}

func (l *Lab) startControlPlane(ctx context.Context) error {
	port, err := l.freePorts(3)
	if err != nil {
		return err
	}
	etcd, peer, api := "http://"+ports.Loopback(port[0]), "http://"+ports.Loopback(port[1]), "https://"+ports.Loopback(port[2])
	err = l.launch(ctx, l.component("etcd", l.Binaries.Etcd, []string{
		"--name=lab", "--data-dir=" + filepath.Join(l.Dir, "etcd"), "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls=" + etcd, "--advertise-client-urls=" + etcd,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=lab=" + peer,
	}, nil, answers(http.DefaultClient, etcd+"/health")))
	if err != nil {
		return err
	}
	pki := filepath.Join(l.Dir, "pki")
	if err := l.makeCredentials(pki, api); err != nil {
		return fmt.Errorf("make credentials: %w", err)
	}
	admin, err := rest.HTTPClientFor(l.REST)
	if err != nil {
		return fmt.Errorf("make credentials: %w", err)
	}
	return l.launch(ctx, l.component("kube-apiserver", l.Binaries.APIServer, []string{
		"--etcd-servers=" + etcd, "--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", port[2]),
		"--endpoint-reconciler-type=none", // it would publish a loopback address, which the API refuses
		"--tls-cert-file=" + filepath.Join(pki, "tls.crt"), "--tls-private-key-file=" + filepath.Join(pki, "tls.key"),
		"--token-auth-file=" + filepath.Join(pki, "tokens.csv"), "--authorization-mode=RBAC",
		"--service-account-issuer=" + api, "--service-account-key-file=" + filepath.Join(pki, "accounts.key"),
		"--service-account-signing-key-file=" + filepath.Join(pki, "accounts.key"),
		"--service-cluster-ip-range=10.96.0.0/16", "--allow-privileged=true", "--profiling=false",
	}, nil, answers(admin, api+"/readyz")))
}

// makeCredentials makes the API server's certificate, the key that signs ServiceAccount tokens, and the administrator.
func (l *Lab) makeCredentials(dir, api string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	crt, key, err := cert.GenerateSelfSignedCertKey("127.0.0.1", []net.IP{net.IPv4(127, 0, 0, 1)}, []string{"localhost"})
	if err != nil {
		return err
	}
	accounts, err := keyutil.MakeEllipticPrivateKeyPEM()
	if err != nil {
		return err
	}
	token := rand.Text()
	for name, text := range map[string][]byte{
		"tls.crt": crt, "tls.key": key, "accounts.key": accounts,
		"tokens.csv": []byte(token + ",lab-admin,lab-admin,system:masters\n"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			return err
		}
	}
	l.Kubeconfig = filepath.Join(l.Dir, "kubeconfig")
	config := clientcmdapi.NewConfig()
	config.Clusters["lab"] = &clientcmdapi.Cluster{Server: api, CertificateAuthorityData: crt}
	config.AuthInfos["admin"] = &clientcmdapi.AuthInfo{Token: token}
	config.Contexts["lab"] = &clientcmdapi.Context{Cluster: "lab", AuthInfo: "admin"}
	config.CurrentContext = "lab"
	if err := clientcmd.WriteToFile(*config, l.Kubeconfig); err != nil {
		return err
	}
	l.REST = &rest.Config{Host: api, BearerToken: token, TLSClientConfig: rest.TLSClientConfig{CAData: crt}, QPS: 200, Burst: 400}
	return nil
}

// controllers are the ones that the product, its chart or a user's objects depend on. There is no node to watch over and no
// volume to bind.
const controllers = "deployment-controller,replicaset-controller,endpointslice-controller,garbage-collector-controller," +
	"namespace-controller,horizontal-pod-autoscaler-controller,serviceaccount-controller,disruption-controller," +
	"resourcequota-controller,job-controller,cronjob-controller,statefulset-controller,ttl-after-finished-controller," +
	"root-ca-certificate-publisher-controller,clusterrole-aggregation-controller,validatingadmissionpolicy-status-controller"

// startControllers counts the controllers as ready when they have given a namespace its ServiceAccount, without which no pod
// can be made: with no secure port they have no page that says so.
func (l *Lab) startControllers(ctx context.Context) error {
	return l.launch(ctx, l.component("kube-controller-manager", l.Binaries.ControllerManager, []string{
		"--kubeconfig=" + l.Kubeconfig, "--controllers=" + controllers, "--leader-elect=false", "--secure-port=0",
		"--root-ca-file=" + filepath.Join(l.Dir, "pki", "tls.crt"), "--kube-api-qps=200", "--kube-api-burst=400",
		"--horizontal-pod-autoscaler-sync-period=2s", "--horizontal-pod-autoscaler-downscale-stabilization=5s",
	}, nil, func(ctx context.Context) error {
		var account corev1.ServiceAccount
		return l.Client.Get(ctx, client.ObjectKey{Namespace: istioSystem, Name: "default"}, &account)
	}))
}

func (l *Lab) freePorts(n int) ([]int, error) {
	free := make([]int, n)
	for i := range free {
		p, err := l.ports.Next()
		if err != nil {
			return nil, err
		}
		free[i] = p
	}
	return free, nil
}
