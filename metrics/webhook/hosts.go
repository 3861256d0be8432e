package webhook

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"path"
	"strings"
	"syscall"
)

// Hosts are the hosts that may be called. The zero value allows none.
type Hosts struct{ patterns []string }

// ParseHosts reads patterns: a name or an address, in which * stands for anything ("*.example.com", "*").
func ParseHosts(patterns []string) (Hosts, error) {
	var h Hosts
	for _, p := range patterns {
		trimmed := normal(p)
		if _, err := path.Match(trimmed, ""); err != nil || trimmed == "" || strings.ContainsAny(trimmed, "/ ") {
			return Hosts{}, fmt.Errorf("%q: accepted are hosts, in which * stands for anything, such as gate.shop.svc, *.example.com or *", p)
		}
		h.patterns = append(h.patterns, trimmed)
	}
	return h, nil
}

// String lists the patterns.
func (h Hosts) String() string {
	if len(h.patterns) == 0 {
		return "none"
	}
	return strings.Join(h.patterns, ", ")
}

// normal is how hosts are compared.
func normal(host string) string {
	host = strings.TrimSuffix(strings.ToLower(strings.TrimSpace(host)), ".")
	if inner, ok := strings.CutPrefix(host, "["); ok && strings.Contains(inner, ":") {
		return strings.TrimSuffix(inner, "]") // an IPv6 address as URLs write it
	}
	return host
}

// refusal is a host or an address that may not be called. It is no failure of the endpoint's, and asking again does not help.
type refusal string

func (r refusal) Error() string { return string(r) }

func (h Hosts) check(host string) error {
	for _, p := range h.patterns {
		if ok, _ := path.Match(p, normal(host)); ok {
			return nil
		}
	}
	return refusal(fmt.Sprintf("host %q is not allowed; allowed: %s (--webhook-allowed-hosts)", host, h))
}

// named reports whether a pattern without a wildcard is the host.
func (h Hosts) named(host string) bool {
	for _, p := range h.patterns {
		if p == normal(host) && !strings.ContainsAny(p, `*?[\`) {
			return true
		}
	}
	return false
}

// dial connects to what a host resolves to. The address is looked at when it is dialled and not before, because a name can resolve to
// something else the second time.
func (h Hosts) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", address, err)
	}
	if err := h.check(host); err != nil {
		return nil, err
	}
	d := net.Dialer{Control: func(_, resolved string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(resolved)
		if err != nil {
			return refusal(fmt.Sprintf("host %q: %q is not an address", host, resolved))
		}
		if kind := sensitive(to.Addr()); kind != "" && !h.named(host) {
			return refusal(fmt.Sprintf("host %q is %s, %s, which is called only where --webhook-allowed-hosts names the host itself; allowed: %s",
				host, to.Addr().Unmap(), kind, h))
		}
		return nil
	}}
	return d.DialContext(ctx, network, address)
}

// metadata are the addresses at which clouds hand credentials to whoever asks, as far as they are not link-local.
var metadata = map[netip.Addr]bool{
	netip.MustParseAddr("100.100.100.200"): true, // Alibaba
	netip.MustParseAddr("168.63.129.16"):   true, // Azure
	netip.MustParseAddr("192.0.0.192"):     true, // Oracle
	netip.MustParseAddr("fd00:ec2::254"):   true, // AWS
	netip.MustParseAddr("fd20:ce::254"):    true, // Google
}

// nat64 is the prefix behind which IPv6-only networks reach IPv4.
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// sensitive names the kind of an address that trusts whoever reaches it; empty for any other.
func sensitive(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	if nat64.Contains(a) {
		b := a.As16()
		a = netip.AddrFrom4([4]byte(b[12:]))
	}
	switch {
	case a.IsLoopback():
		return "a loopback address"
	case a.IsLinkLocalUnicast() || a.IsLinkLocalMulticast() || a.IsInterfaceLocalMulticast():
		return "a link-local address"
	case a.IsUnspecified() || a.Is4() && a.As4()[0] == 0:
		return "an unspecified address"
	case a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "an address of many hosts"
	case metadata[a]:
		return "a cloud's metadata service"
	}
	return ""
}
