package main

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/zapr"
	"go.uber.org/zap"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/shiftpolicy"
	"github.com/sluice-dev/sluice/controllers/shim"
	"github.com/sluice-dev/sluice/controllers/trafficshift"
	"github.com/sluice-dev/sluice/metrics/exporter"
	"github.com/sluice-dev/sluice/metrics/webhook"
)

// run starts the controller and returns when the context ends, after what was under way has been finished.
func (o *options) run(ctx context.Context) error {
	log, err := logger(o.logLevel)
	if err != nil {
		return err
	}
	ctrl.SetLogger(log)
	klog.SetLogger(log)
	out, err := exporter.New(metrics.Registry, exporter.Build{Version: version, GoVersion: runtime.Version()})
	if err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}
	given, err := o.settings(out)
	if err != nil {
		return err
	}
	rest, err := restConfig(o.kubeconfig)
	if err != nil {
		return err
	}
	mgr, err := ctrl.NewManager(rest, o.manager())
	if err != nil {
		return fmt.Errorf("reaching the cluster at %s: %w", rest.Host, err)
	}
	if err := wire(mgr, given, out); err != nil {
		return err
	}
	log.Info("starting", "version", version)
	if err := mgr.Start(ctx); err != nil {
		return fmt.Errorf("running: %w", err)
	}
	return nil
}

// manager are the manager's options. The lease is given back on a clean stop, so that the next leader need not wait it out; the
// process ends right after, as that asks for.
func (o *options) manager() ctrl.Options {
	grace := 20 * time.Second
	renew, retry := o.lease*2/3, o.lease*2/15 // client-go's own proportions: 15s, 10s, 2s
	return ctrl.Options{
		Scheme: scheme(), Cache: cache.Options{ByObject: trafficshift.CacheByObject()},
		Metrics: server.Options{BindAddress: o.metricsAddr}, HealthProbeBindAddress: o.healthAddr,
		LeaderElection: o.leaderElect, LeaderElectionID: "sluice.sluice.dev", LeaderElectionNamespace: o.leaderNamespace,
		LeaseDuration: &o.lease, RenewDeadline: &renew, RetryPeriod: &retry,
		LeaderElectionReleaseOnCancel: true, GracefulShutdownTimeout: &grace,
	}
}

// wire puts the controllers together.
func wire(mgr ctrl.Manager, given settings, out *exporter.Exporter) error {
	mgr.GetLogger().Info("evidence comes from Prometheus", "connections", given.evidence.Addresses())
	given.webhooks.Log = mgr.GetLogger().WithName("webhooks")
	caller := webhook.NewCaller(given.webhooks)
	recorder := mgr.GetEventRecorder("sluice")
	shifts := &trafficshift.Reconciler{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Recorder: recorder, Exporter: out,
		Evidence: given.evidence, Webhooks: caller, Config: given.config, Now: time.Now,
	}
	annotations := &shim.Reconciler{Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Recorder: recorder}
	policies := &shiftpolicy.Reconciler{Client: mgr.GetClient(), Now: time.Now}
	for name, err := range map[string]error{
		"the evidence collector":      mgr.Add(given.evidence),
		"the webhook caller":          mgr.Add(caller),
		"the TrafficShift controller": shifts.SetupWithManager(mgr),
		"the annotation controller":   annotations.SetupWithManager(mgr),
		"the ShiftPolicy controller":  policies.SetupWithManager(mgr),
		"healthz":                     mgr.AddHealthzCheck("ping", healthz.Ping),
		"readyz":                      mgr.AddReadyzCheck("caches", cachesSynced(mgr)),
	} {
		if err != nil {
			return fmt.Errorf("setting up %s: %w", name, err)
		}
	}
	return nil
}

func scheme() *apiruntime.Scheme {
	s := apiruntime.NewScheme()
	for _, add := range []func(*apiruntime.Scheme) error{clientgoscheme.AddToScheme, networkingv1.AddToScheme, gatewayv1.Install, v1alpha1.AddToScheme} {
		if err := add(s); err != nil { // the types are compiled in
			panic(err)
		}
	}
	return s
}

func restConfig(kubeconfig string) (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("no cluster to talk to: %w; set --kubeconfig, or run in a pod", err)
	}
	config.UserAgent = "sluice/" + version
	config.QPS = -1 // the API server's own priority and fairness limits us; a client-side limit would delay a rollback
	return config, nil
}

// logger logs JSON through zap.
func logger(level string) (logr.Logger, error) {
	config := zap.NewProductionConfig()
	if err := config.Level.UnmarshalText([]byte(level)); err != nil {
		return logr.Logger{}, fmt.Errorf("--log-level=%q: accepted are debug, info, warn and error", level)
	}
	config.Sampling = nil
	z, err := config.Build()
	if err != nil {
		return logr.Logger{}, fmt.Errorf("starting the log: %w", err)
	}
	return zapr.NewLogger(z), nil
}
