package webhook

import (
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
		err = h.check(tc.host)
		if (err == nil) != tc.allowed || h.named(tc.host) != tc.named {
			t.Errorf("%s for %s: %v, named %t; want allowed %t, named %t", tc.patterns, tc.host, err, h.named(tc.host), tc.allowed, tc.named)
		}
		if err != nil && !(strings.Contains(err.Error(), tc.host) && strings.Contains(err.Error(), h.String())) {
			t.Errorf("%v does not name the host and what is allowed", err)
		}
	}
	if err := (Hosts{}).check("gate.shop.svc"); err == nil || !strings.Contains(err.Error(), "allowed: none") {
		t.Errorf("nothing is allowed: %v", err)
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
		if h.named(host) && h.check(host) != nil {
			t.Errorf("%q names %q, and does not allow it", pattern, host)
		}
	})
}
