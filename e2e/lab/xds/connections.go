package xds

import (
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
)

// parseConnectionListener reads an outbound listener whose filter chains end in a TCP proxy. Chains that are matched by anything but the
// SNI, or that end TLS, are left out.
func parseConnectionListener(l *listenerv3.Listener) (ConnectionListener, bool, error) {
	socket := l.GetAddress().GetSocketAddress()
	parsed := ConnectionListener{Name: l.GetName(), Address: socket.GetAddress(), Port: socket.GetPortValue()}
	if l.GetTrafficDirection() == corev3.TrafficDirection_INBOUND || socket.GetPortValue() == 0 {
		return parsed, false, nil
	}
	for _, chain := range l.GetFilterChains() {
		read, ok, err := parseChain(l.GetName(), chain)
		if err != nil {
			return parsed, false, err
		}
		if ok {
			parsed.Chains = append(parsed.Chains, read)
		}
	}
	if def := l.GetDefaultFilterChain(); def != nil {
		read, ok, err := parseChain(l.GetName(), def)
		if err != nil {
			return parsed, false, err
		}
		if ok {
			parsed.Default = &read
		}
	}
	return parsed, len(parsed.Chains) > 0, nil
}

func parseChain(listener string, chain *listenerv3.FilterChain) (Chain, bool, error) {
	match := chain.GetFilterChainMatch()
	if chain.GetTransportSocket() != nil || len(match.GetPrefixRanges()) > 0 || len(match.GetApplicationProtocols()) > 0 {
		return Chain{}, false, nil
	}
	for _, filter := range chain.GetFilters() {
		config := filter.GetTypedConfig()
		if !config.MessageIs((*tcpproxyv3.TcpProxy)(nil)) {
			continue
		}
		proxy := &tcpproxyv3.TcpProxy{}
		if err := config.UnmarshalTo(proxy); err != nil {
			return Chain{}, false, fmt.Errorf("listener %q: TCP proxy: %w", listener, err)
		}
		c := Chain{Names: match.GetServerNames()}
		if name := proxy.GetCluster(); name != "" {
			c.Clusters = []WeightedCluster{{Name: name, Weight: 1}}
		}
		for _, w := range proxy.GetWeightedClusters().GetClusters() {
			c.Clusters = append(c.Clusters, WeightedCluster{Name: w.GetName(), Weight: w.GetWeight()})
		}
		return c, len(c.Clusters) > 0, nil
	}
	return Chain{}, false, nil
}
