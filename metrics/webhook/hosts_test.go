package webhook

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

func TestHostsAreMatched(t *testing.T) {
	for _, tc := range []struct {
		patterns, host string
		allowed, named bool
	}{
		{"*", "gate.example.com", true, false},
		{"*.example.com", "gate.example.com", true, false},
		{"*.example.com", "a.b.example.com", true, false},
		{"*.example.com", "example.com", false, false},
		{"*.example.com", "gate.example.com.evil.org", false, false},
		{"gate.shop.svc", "gate.shop.svc", true, true},
		{"gate.shop.svc", "GATE.shop.svc.", true, true},
		{"Gate.Shop.svc.", "gate.shop.svc", true, true},
		{"*,127.0.0.1", "127.0.0.1", true, true},
		{"127.0.0.*", "127.0.0.1", true, false},
		{"127.0.0.[1]", "127.0.0.1", true, false},
		{"[::1]", "::1", true, true},
		{"::1", "::1", true, true},
		{"10.*", "gate.shop.svc", false, false},
	} {
		h, err := ParseHosts(strings.Split(tc.patterns, ","))
		if err != nil {
			t.Fatal(err)
		}
		if h.match(tc.host) != tc.allowed || h.named(tc.host) != tc.named {
			t.Errorf("%s for %s: allowed %t, named %t; want %t, %t", tc.patterns, tc.host, h.match(tc.host), h.named(tc.host), tc.allowed, tc.named)
		}
	}
}

// The Services of the shift's own namespace are always allowed, and nothing else that no administrator lists.
func TestTheServicesOfItsOwnNamespaceAreAllowed(t *testing.T) {
	for _, tc := range []struct{ host, namespace, want string }{
		{"desk.shop.svc", "shop", "desk.shop.svc"},
		{"Desk.Shop.svc", "shop", "Desk.Shop.svc"},
		{"desk.shop.svc.example.org", "shop", "desk.shop.svc.example.org"},
		{"desk.shop.svc.example.org.", "shop", "desk.shop.svc.example.org."},
		{"desk.shop", "shop", "desk.shop.svc"}, // .shop is a top-level domain too
		{"google.dev", "dev", "google.dev.svc"},
		{"10.5", "5", "10.5.svc"},
		{"svc.svc", "svc", "svc.svc.svc"},
		{"listed.bank.svc", "shop", "listed.bank.svc"},

		{"desk.bank.svc", "shop", ""},
		{"desk.bank.svc.example.org", "shop", ""},
		{"desk.bank", "shop", ""},
		{"desk", "shop", ""},
		{"shop.svc", "shop", ""},
		{".shop.svc", "shop", ""},
		{"a.desk.shop.svc", "shop", ""}, // a pod
		{"evil.com/.shop.svc", "shop", ""},
		{"evil。com.shop.svc", "shop", ""},
		{"*.shop.svc", "shop", ""},
		{"desk.shop.svc.cluster.local", "shop", ""},
		{"desk.shop.svc.evil.com", "shop", ""},
		{"desk.shop.evil.com", "shop", ""},
		{"desk..svc", "", ""},
		{"10.96.0.1", "1", ""},
		{"", "", ""},
	} {
		r := reach{Hosts: hosts(t, "listed.bank.svc"), domain: "example.org"}
		got, err := r.target(tc.host, tc.namespace)
		if got != tc.want || (err == nil) != (tc.want != "") {
			t.Errorf("%q in %s: %q, %v; want %q", tc.host, tc.namespace, got, err, tc.want)
		}
		want := fmt.Sprintf("host %q is not allowed; allowed: Services of namespace %s, listed.bank.svc; the administrator's webhooks.allowedHosts extends it", tc.host, tc.namespace)
		if err != nil && err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}

// Who may write a Service may point its name anywhere: only what leads to the Service itself is called.
func TestAServiceThatIsAnAliasIsNotCalled(t *testing.T) {
	none := errors.New("no such host")
	for alias, called := range map[string]bool{
		"desk.shop.svc.cluster.local.": true, "desk.shop.svc.": true,
		"desk.bank.svc.cluster.local.": false, "other.shop.svc.cluster.local.": false, "evil.example.com.": false, "": false,
	} {
		for _, host := range []string{"desk.shop.svc", "desk.shop.svc.cluster.local"} {
			r := reach{domain: "cluster.local", cname: func(context.Context, string) (string, error) { return alias, nil }}
			if err := r.stays(t.Context(), host); (err == nil) != called {
				t.Errorf("%s leads to %q: %v; want called %t", host, alias, err, called)
			}
			_, err := r.dial(t.Context(), "tcp", host+":80")
			var refused refusal
			if errors.As(err, &refused) == called {
				t.Errorf("%s leads to %q, and dialling says %v", host, alias, err)
			}
		}
	}
	r := reach{domain: "cluster.local", cname: func(context.Context, string) (string, error) { return "", none }}
	if _, err := r.dial(t.Context(), "tcp", "desk.shop.svc:80"); !errors.Is(err, none) {
		t.Error(err)
	}
	r.cname = nil // an administrator who lists a name is believed
	r.Hosts = hosts(t, "127.0.0.1")
	if _, err := r.dial(t.Context(), "tcp", "127.0.0.1:0"); err == nil {
		t.Error("port 0 answers")
	}
}

func TestHostPatternsThatCannotBeMeant(t *testing.T) {
	for _, p := range []string{"", " ", "[a", "http://x", "a/b", "a b"} {
		if h, err := ParseHosts([]string{"*", p}); err == nil || !strings.Contains(err.Error(), "accepted") {
			t.Errorf("%q: %v, %v; want an error that says what is accepted", p, h, err)
		}
	}
}

func TestSensitiveAddresses(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1": "loopback", "127.8.9.10": "loopback", "::1": "loopback", "::ffff:127.0.0.1": "loopback", "64:ff9b::7f00:1": "loopback",
		"169.254.169.254": "link-local", "::ffff:169.254.169.254": "link-local", "64:ff9b::a9fe:a9fe": "link-local", "fe80::1%eth0": "link-local", "ff02::1": "link-local",
		"0.0.0.0": "unspecified", "::": "unspecified", "0.1.2.3": "unspecified",
		"239.1.2.3": "many hosts", "255.255.255.255": "many hosts", "ff0e::1": "many hosts",
		"100.100.100.200": "metadata", "168.63.129.16": "metadata", "192.0.0.192": "metadata", "fd00:ec2::254": "metadata", "fd20:ce::254": "metadata",
		"10.96.0.10": "", "192.168.1.1": "", "172.16.0.1": "", "8.8.8.8": "", "2001:db8::1": "", "fd12::1": "", "100.64.0.1": "", "64:ff9b::808:808": "",
	} {
		got := sensitive(netip.MustParseAddr(address))
		if (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%s is %q; want %q", address, got, want)
		}
	}
}

// FuzzHosts proves that no pattern and no host panics, and that what is named is allowed.
func FuzzHosts(f *testing.F) {
	f.Add("*.example.com", "a.example.com")
	f.Add("[::1]", "::1")
	f.Add("[a-", "a")
	f.Add(`\`, `\`)
	f.Fuzz(func(t *testing.T, pattern, host string) {
		h, err := ParseHosts([]string{pattern})
		if err != nil {
			return
		}
		if h.named(host) && !h.match(host) {
			t.Errorf("%q names %q, and does not allow it", pattern, host)
		}
	})
}
