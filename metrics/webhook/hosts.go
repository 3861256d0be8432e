package webhook

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"path"
	"strings"
	"syscall"

	"k8s.io/apimachinery/pkg/util/validation"
)

// Hosts are the hosts that the administrator lets every shift call. The zero value allows none.
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

func (h Hosts) match(host string) bool {
	for _, p := range h.patterns {
		if ok, _ := path.Match(p, normal(host)); ok {
			return true
		}
	}
	return false
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

// reach is whom the shifts of a cluster may call: the administrator's hosts, and the Services of their own namespaces.
type reach struct {
	Hosts
	// domain ends every Service's name.
	domain string
	// cname follows a name to the one that has the addresses.
	cname func(ctx context.Context, host string) (string, error)
}

// target returns the host that a shift of the namespace calls where its URL names this one, or why it may not. A Service's short name is
// completed: shop and dev are namespaces, and top-level domains too.
func (r reach) target(host, namespace string) (string, error) {
	if r.match(host) {
		return host, nil
	}
	if s, ok := r.service(host); ok && s.namespace == namespace {
		return host, nil
	}
	if s, ok := r.service(host + ".svc"); ok && s.namespace == namespace {
		return s.name + "." + s.namespace + ".svc", nil
	}
	allowed := "Services of namespace " + namespace
	if len(r.patterns) > 0 {
		allowed += ", " + r.String()
	}
	return "", refusal(fmt.Sprintf("host %q is not allowed; allowed: %s; the administrator's webhooks.allowedHosts extends it", host, allowed))
}

// service is a Service's name in the cluster's DNS.
type service struct{ name, namespace string }

// service reads NAME.NAMESPACE.svc, with the cluster's domain or without.
func (r reach) service(host string) (s service, ok bool) {
	labels := strings.Split(strings.TrimSuffix(normal(host), "."+r.domain), ".")
	if len(labels) != 3 || labels[2] != "svc" || len(validation.IsDNS1123Label(labels[0])) > 0 || len(validation.IsDNS1123Label(labels[1])) > 0 {
		return service{}, false
	}
	return service{labels[0], labels[1]}, true
}

// stays checks that a Service's name leads to the Service: one of type ExternalName is an alias, which its owner points at any host.
func (r reach) stays(ctx context.Context, host string) error {
	at, err := r.cname(ctx, host)
	if err != nil {
		return fmt.Errorf("resolving %q: %w", host, err)
	}
	want, ok := r.service(host)
	if got, is := r.service(at); !ok || !is || got != want {
		return refusal(fmt.Sprintf("host %q is an alias of another host (ExternalName), which is called only where the administrator's webhooks.allowedHosts has it", host))
	}
	return nil
}

// dial connects to what a host resolves to; whether a shift may call it was asked before. The address is looked at when it is dialled
// and not before, because a name can resolve to something else the second time.
func (r reach) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", address, err)
	}
	if !r.match(host) {
		if err := r.stays(ctx, host); err != nil {
			return nil, err
		}
	}
	d := net.Dialer{Control: func(_, resolved string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(resolved)
		if err != nil {
			return refusal(fmt.Sprintf("host %q: %q is not an address", host, resolved))
		}
		if kind := sensitive(to.Addr()); kind != "" && !r.named(host) {
			return refusal(fmt.Sprintf("host %q is %s, %s, which is called only where --webhook-allowed-hosts names the host itself; allowed: %s",
				host, to.Addr().Unmap(), kind, r))
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
