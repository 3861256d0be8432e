package main

import (
	"fmt"
	"maps"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/sluice-dev/sluice/controllers/shift"
	"github.com/sluice-dev/sluice/controllers/trafficshift"
	"github.com/sluice-dev/sluice/metrics/exporter"
	"github.com/sluice-dev/sluice/metrics/query"
	"github.com/sluice-dev/sluice/metrics/webhook"
)

// options are the flags.
type options struct {
	kubeconfig, logLevel string

	prometheus, prometheusConfig  string
	scrape, settle, drain         time.Duration
	rootNamespace, clusterDomain  string
	gatewaySelector               string
	allowedHosts, allowedGateways []string

	webhookHosts      []string
	webhookSigningKey string
	configTracking    bool

	// given says whether a flag was written.
	given func(name string) bool

	leaderElect             bool
	leaderNamespace         string
	lease                   time.Duration
	metricsAddr, healthAddr string
}

func defaults() *options {
	return &options{
		logLevel: "info", prometheus: "http://prometheus.istio-system:9090",
		scrape: 15 * time.Second, settle: 5 * time.Second, drain: 30 * time.Second,
		rootNamespace: "istio-system", clusterDomain: "cluster.local", gatewaySelector: "istio=ingressgateway",
		metricsAddr: ":8080", healthAddr: ":8081", lease: 15 * time.Second,
	}
}

func (o *options) bind(f *pflag.FlagSet) {
	o.given = f.Changed
	f.StringVar(&o.prometheus, "prometheus-address", o.prometheus, "URL of the Prometheus that scrapes the mesh: the connection that shifts use which name none")
	f.StringVar(&o.prometheusConfig, "prometheus-config", "", "file of connections to Prometheus, with their credentials and the namespaces that may use them")
	f.DurationVar(&o.scrape, "scrape-interval", o.scrape, "its scrape interval: evidence never comes faster")
	f.DurationVar(&o.settle, "settle", o.settle, "how long a written route or subset takes to reach every proxy")
	f.DurationVar(&o.drain, "drain", o.drain, "how long requests in flight may take to end once a version's weight is 0")
	f.StringVar(&o.rootNamespace, "root-namespace", o.rootNamespace, "Istio's root namespace, whose DestinationRules apply everywhere")
	f.StringVar(&o.clusterDomain, "cluster-domain", o.clusterDomain, "domain that ends every Service's name")
	f.StringVar(&o.gatewaySelector, "gateway-selector", o.gatewaySelector, "labels of the ingress gateway's pods, for Gateways that Sluice makes")
	f.StringSliceVar(&o.allowedHosts, "allowed-hosts", nil, "hosts granted to namespaces that do not say (such as *.example.com)")
	f.StringSliceVar(&o.allowedGateways, "allowed-gateways", nil, "gateways granted to namespaces that do not say (such as istio-system/*)")
	f.StringSliceVar(&o.webhookHosts, "webhook-allowed-hosts", nil, "hosts that webhooks of gates may be at beside Services of the shift's own namespace (such as *.example.com); "+
		"loopback, link-local and metadata addresses only where a host is named without *")
	f.StringVar(&o.webhookSigningKey, "webhook-signing-key-file", "", "file with the key that requests to webhooks are signed with; empty signs none")
	f.BoolVar(&o.configTracking, "config-tracking", o.configTracking, "let TrafficShifts track ConfigMaps and Secrets, which the controller must be allowed to read")
	f.BoolVar(&o.leaderElect, "leader-elect", o.leaderElect, "let only one of several replicas act")
	f.StringVar(&o.leaderNamespace, "leader-election-namespace", "", "namespace of the leader's lease; empty is the pod's own")
	f.DurationVar(&o.lease, "leader-election-lease", o.lease, "how long a leader that was killed is waited for")
	f.StringVar(&o.metricsAddr, "metrics-bind-address", o.metricsAddr, "address of /metrics; 0 serves none")
	f.StringVar(&o.healthAddr, "health-probe-bind-address", o.healthAddr, "address of /healthz and /readyz")
}

// settings are what the flags, and the files that they name, say.
type settings struct {
	config   trafficshift.Config
	evidence *query.Connections
	webhooks webhook.Options
}

// settings checks all of them before the cluster is asked for anything. The observer hears of every question to Prometheus and webhooks.
func (o *options) settings(observer *exporter.Exporter) (s settings, err error) {
	if s.config, err = o.config(); err != nil {
		return settings{}, err
	}
	named, err := o.connections()
	if err != nil {
		return settings{}, err
	}
	s.evidence, err = query.NewConnections(named, query.Options{
		Interval: min(o.scrape, 5*time.Second), MaxAge: 4 * o.scrape, Scrape: o.scrape, Observer: observer,
	})
	if err != nil {
		return settings{}, fmt.Errorf("connecting to Prometheus: %w", err)
	}
	s.webhooks, err = o.webhooks()
	s.webhooks.Observer, s.webhooks.ClusterDomain = observer, s.config.ClusterDomain
	return s, err
}

// config checks the flags and returns what the reconciler needs of them. An error names the flag, its value and what is accepted.
func (o *options) config() (trafficshift.Config, error) {
	if u, err := url.Parse(o.prometheus); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return trafficshift.Config{}, fmt.Errorf("--prometheus-address=%q: accepted is a URL such as http://prometheus.istio-system:9090", withoutPassword(o.prometheus))
	}
	for flag, d := range map[string]time.Duration{"scrape-interval": o.scrape, "settle": o.settle, "leader-election-lease": o.lease} {
		if d <= 0 {
			return trafficshift.Config{}, fmt.Errorf("--%s=%s: accepted is a duration above 0, such as 5s", flag, d)
		}
	}
	if o.drain < 0 {
		return trafficshift.Config{}, fmt.Errorf("--drain=%s: accepted is a duration of 0 or more, such as 30s", o.drain)
	}
	selector, err := labels.ConvertSelectorToLabelsMap(o.gatewaySelector)
	if err != nil || len(selector) == 0 {
		return trafficshift.Config{}, fmt.Errorf("--gateway-selector=%q: accepted are labels such as istio=ingressgateway", o.gatewaySelector)
	}
	return trafficshift.Config{
		Timing:        shift.Timing{Settle: o.settle, Drain: o.drain, Scrape: o.scrape},
		ClusterDomain: strings.TrimSuffix(o.clusterDomain, "."), RootNamespace: o.rootNamespace, GatewaySelector: selector,
		AllowedHosts: o.allowedHosts, AllowedGateways: o.allowedGateways,
		ConfigTracking: o.configTracking,
	}, nil
}

// webhooks checks the flags about webhooks. The key is read once here, so that a mistake shows when the pod starts and not in the middle
// of a release.
func (o *options) webhooks() (webhook.Options, error) {
	hosts, err := webhook.ParseHosts(o.webhookHosts)
	if err != nil {
		return webhook.Options{}, fmt.Errorf("--webhook-allowed-hosts=%q: %w", strings.Join(o.webhookHosts, ","), err)
	}
	options := webhook.Options{Hosts: hosts}
	if o.webhookSigningKey == "" {
		return options, nil
	}
	options.SigningKey = webhook.KeyFile(o.webhookSigningKey)
	if _, err := options.SigningKey(); err != nil {
		return webhook.Options{}, fmt.Errorf("--webhook-signing-key-file=%q: accepted is a file with a key, such as 32 random bytes in base64: %w", o.webhookSigningKey, err)
	}
	return options, nil
}

// withoutPassword hides what may be a password in an address that cannot be read.
func withoutPassword(address string) string {
	if strings.Contains(address, "@") {
		return "..." + address[strings.LastIndex(address, "@"):]
	}
	return address
}

// connections are those of the file, and the one at --prometheus-address where the file has no default.
func (o *options) connections() (map[string]query.Connection, error) {
	all := map[string]query.Connection{}
	if o.prometheusConfig != "" {
		read, err := query.ReadConnections(o.prometheusConfig)
		if err != nil {
			return nil, fmt.Errorf("--prometheus-config=%q: %w", o.prometheusConfig, err)
		}
		maps.Copy(all, read)
	}
	_, has := all[query.DefaultConnection]
	switch {
	case has && o.given("prometheus-address"):
		return nil, fmt.Errorf("--prometheus-address: accepted is no address, since the connection %q is in --prometheus-config=%q", query.DefaultConnection, o.prometheusConfig)
	case !has:
		all[query.DefaultConnection] = query.ConnectionTo(o.prometheus)
	}
	return all, nil
}
