package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/sluice-dev/sluice/controllers/shift"
	"github.com/sluice-dev/sluice/controllers/trafficshift"
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
