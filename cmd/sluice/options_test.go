package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/sluice-dev/sluice/controllers/shift"
	"github.com/sluice-dev/sluice/controllers/trafficshift"
	"github.com/sluice-dev/sluice/metrics/query"
)

func parsed(t *testing.T, args ...string) *options {
	t.Helper()
	o := defaults()
	f := pflag.NewFlagSet("sluice", pflag.ContinueOnError)
	o.bind(f)
	if err := f.Parse(args); err != nil {
		t.Fatal(err)
	}
	return o
}

func TestAWrongFlagIsNamedWithItsValueAndWhatIsAccepted(t *testing.T) {
	tests := map[string]string{ // argument to what is accepted in its place
		"--prometheus-address=prometheus:9090":     "a URL such as http://",
		"--prometheus-address=":                    "a URL such as http://",
		"--prometheus-address=ftp://prometheus":    "a URL such as http://",
		"--prometheus-address=http://":             "a URL such as http://",
		"--scrape-interval=0s":                     "a duration above 0",
		"--scrape-interval=-1s":                    "a duration above 0",
		"--settle=0s":                              "a duration above 0",
		"--drain=-1s":                              "a duration of 0 or more",
		"--gateway-selector=":                      "labels such as istio=ingressgateway",
		"--gateway-selector=istio in (a, b)":       "labels such as istio=ingressgateway",
		"--gateway-selector=istio=ingressgateway,": "labels such as istio=ingressgateway",
	}
	for arg, accepted := range tests {
		t.Run(arg, func(t *testing.T) {
			_, err := parsed(t, arg).config()
			if err == nil {
				t.Fatal("no error")
			}
			flag, value, _ := strings.Cut(arg, "=")
			for _, want := range []string{flag + "=", value, accepted} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
		})
	}
}

func TestFlagsReachTheReconciler(t *testing.T) {
	got, err := parsed(t, "--settle=3s", "--drain=0s", "--scrape-interval=10s", "--cluster-domain=example.org.", "--root-namespace=mesh",
		"--gateway-selector=app=edge,tier=public", "--allowed-hosts=*.example.com,shop.example.org", "--allowed-gateways=istio-system/*").config()
	if err != nil {
		t.Fatal(err)
	}
	want := trafficshift.Config{
		Timing:        shift.Timing{Settle: 3 * time.Second, Scrape: 10 * time.Second},
		ClusterDomain: "example.org", RootNamespace: "mesh", GatewaySelector: map[string]string{"app": "edge", "tier": "public"},
		AllowedHosts: []string{"*.example.com", "shop.example.org"}, AllowedGateways: []string{"istio-system/*"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
}

func TestWebhookFlags(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("first\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := parsed(t, "--webhook-allowed-hosts=*.example.com,desk.shop.svc", "--webhook-signing-key-file="+key).webhooks()
	if err != nil {
		t.Fatal(err)
	}
	if got := o.Hosts.String(); got != "*.example.com, desk.shop.svc" {
		t.Errorf("hosts %s", got)
	}
	if err := os.WriteFile(key, []byte("second\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := o.SigningKey(); err != nil || string(got) != "second" {
		t.Errorf("after the Secret has changed the key is %q, %v", got, err)
	}
	if o, err := parsed(t).webhooks(); err != nil || o.Hosts.String() != "none" || o.SigningKey != nil {
		t.Errorf("by default: %v, %v, signed %t", o.Hosts, err, o.SigningKey != nil)
	}
	if o, err := parsed(t, "--webhook-allowed-hosts=").webhooks(); err != nil || o.Hosts.String() != "none" {
		t.Errorf("none: %v, %v", o.Hosts, err)
	}
	for arg, want := range map[string][]string{
		"--webhook-allowed-hosts=http://desk":      {"--webhook-allowed-hosts=", `"http://desk"`, "accepted are hosts"},
		"--webhook-signing-key-file=/nowhere/key":  {"--webhook-signing-key-file=", `"/nowhere/key"`, "accepted is a file with a key"},
		"--webhook-signing-key-file=" + os.DevNull: {"--webhook-signing-key-file=", os.DevNull, "is empty"},
	} {
		_, err := parsed(t, arg).webhooks()
		for _, part := range want {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("%s: error %v does not say %q", arg, err, part)
			}
		}
	}
}

func TestWebhooksKnowTheClusterDomain(t *testing.T) {
	s, err := parsed(t, "--cluster-domain=example.org.").settings(nil)
	if err != nil || s.webhooks.ClusterDomain != "example.org" {
		t.Errorf("cluster domain %q, %v", s.webhooks.ClusterDomain, err)
	}
}

func TestDefaultsAreAccepted(t *testing.T) {
	if _, err := parsed(t).config(); err != nil {
		t.Error(err)
	}
}

func TestAWrongLogLevelIsNamed(t *testing.T) {
	if _, err := logger("loud"); err == nil || !strings.Contains(err.Error(), "loud") {
		t.Errorf("error %v; want it to name the level", err)
	}
}

func TestConnections(t *testing.T) {
	write := func(content string) string {
		t.Helper()
		file := filepath.Join(t.TempDir(), "prometheus.yaml")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	tenant := write(`connections: {tenant-a: {url: "http://tenant-a", namespaces: [team-a]}}`)
	both := write(`connections: {default: {url: "http://central"}, tenant-a: {url: "http://tenant-a"}}`)
	tests := map[string]struct {
		args []string
		want map[string]string // name to address
		says []string          // parts of the error
	}{
		"Nothing":        {nil, map[string]string{"default": "http://prometheus.istio-system:9090"}, nil},
		"Address":        {[]string{"--prometheus-address=http://mine"}, map[string]string{"default": "http://mine"}, nil},
		"File":           {[]string{"--prometheus-config=" + both}, map[string]string{"default": "http://central", "tenant-a": "http://tenant-a"}, nil},
		"FileAndAddress": {[]string{"--prometheus-config=" + tenant, "--prometheus-address=http://mine"}, map[string]string{"default": "http://mine", "tenant-a": "http://tenant-a"}, nil},
		"FileAlone":      {[]string{"--prometheus-config=" + tenant}, map[string]string{"default": "http://prometheus.istio-system:9090", "tenant-a": "http://tenant-a"}, nil},
		"TwoDefaults":    {[]string{"--prometheus-config=" + both, "--prometheus-address=http://mine"}, nil, []string{"--prometheus-address", "--prometheus-config=", `"default"`}},
		"NoFile":         {[]string{"--prometheus-config=/nowhere.yaml"}, nil, []string{`--prometheus-config="/nowhere.yaml"`, "no such file"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := parsed(t, tt.args...).connections()
			for _, want := range tt.says {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error %v does not say %q", err, want)
				}
			}
			if tt.says != nil {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			all, err := query.NewConnections(got, query.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, all.Addresses()); diff != "" {
				t.Errorf("-want, +got:\n%s", diff)
			}
		})
	}
}

func TestAPasswordInAnAddressIsNotShown(t *testing.T) {
	_, err := parsed(t, "--prometheus-address=admin:hunter2@prometheus").config()
	if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "@prometheus") {
		t.Errorf("error %v", err)
	}
}

// TestTheChartsConnectionsAreRead holds the file that the chart renders to what the controller reads.
func TestTheChartsConnectionsAreRead(t *testing.T) {
	raw, err := os.ReadFile("../../e2e/chart/testdata/all-on.golden.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(raw), "  prometheus.yaml: |\n")
	text, _, found := strings.Cut(text, "\n# Source:")
	file := filepath.Join(t.TempDir(), "prometheus.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil || !found {
		t.Fatal(found, err)
	}
	got, err := parsed(t, "--prometheus-config="+file).connections()
	if err != nil {
		t.Fatal(err)
	}
	tenant := got["tenant-a"]
	if tenant.HTTP.TLSConfig.CertFile != filepath.Join(filepath.Dir(file), "tenant-a/tls.crt") || tenant.HTTP.BasicAuth == nil ||
		tenant.HTTP.ProxyURL.Host != "proxy.example.com:3128" || got["default"].HTTP.Authorization == nil {
		t.Errorf("got %+v", got)
	}
	if diff := cmp.Diff([][]string{nil, {"team-a", "team-a-*"}, {}}, [][]string{got["default"].Namespaces, tenant.Namespaces, got["tenant-b"].Namespaces}); diff != "" {
		t.Errorf("namespaces: -want, +got:\n%s", diff)
	}
}
