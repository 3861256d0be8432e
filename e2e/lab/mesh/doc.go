// Package mesh is the lab's data plane: stand-ins for Envoy as an ingress gateway, as the sidecar of a client and as the
// sidecar of a server. They are not Envoy. The two that route take listeners, routes, clusters and endpoints from a real
// istiod over ADS and do with them what Envoy would do, as far as the lab needs it; all three count requests as Istio does.
//
// # Telemetry
//
//	func NewTelemetry() *Telemetry
//	func (t *Telemetry) Handler() http.Handler                    // GET /metrics, for one scrape job with honor_labels
//	func (t *Telemetry) Inbound(id workload.Identity, app http.Handler) http.Handler
//	func (t *Telemetry) InboundConnections(id workload.Identity, dial func(context.Context) (net.Conn, error)) func(net.Conn)
//	func (t *Telemetry) Forget(namespace, pod string)             // the proxy stopped: its series go
//	func (t *Telemetry) NameServices(f func(workload.Identity) string)
//
// Every proxy has a registry of its own; the handler serves them together, each series with the labels pod and namespace.
// A pod that has an istio-proxy container serves Inbound(id, app), which is an io.Closer too; its probes go to app itself, as
// Istio's do, and are not counted. NameServices says which service a pod belongs to (the host,
// "micro-api.shop.svc.cluster.local"; "" if none), which a real sidecar knows from its inbound cluster; without it the
// stand-in believes the calling proxy, then the Host header.
//
// # Gateway
//
//	func StartGateway(ctx context.Context, cfg GatewayConfig) (*Gateway, error)
//	func (g *Gateway) Addr(port uint32) string                    // "127.0.0.1:41234", or "" while no Gateway asks for port
//	func (g *Gateway) WaitAddr(ctx context.Context, port uint32) (string, error)
//	func (g *Gateway) Snapshot() *xds.Snapshot
//	func (g *Gateway) Wait(ctx context.Context, cond func(*xds.Snapshot) bool) error
//	func (g *Gateway) Err() error
//	func (g *Gateway) Stop()
//
// # Sidecar of a client
//
//	func StartSidecar(ctx context.Context, cfg SidecarConfig) (*Sidecar, error)
//	func (s *Sidecar) RoundTrip(req *http.Request) (*http.Response, error)
//	func (s *Sidecar) Dial(ctx context.Context, address string) (net.Conn, error) // "db.shop.svc.cluster.local:3306"
//	func (s *Sidecar) DialTLS(ctx context.Context, address, sni string) (net.Conn, error)
//	func (s *Sidecar) Addr() string                               // loopback listener that routes by Host, port included
//	func (s *Sidecar) Snapshot() *xds.Snapshot
//	func (s *Sidecar) Wait(ctx context.Context, cond func(*xds.Snapshot) bool) error
//	func (s *Sidecar) Err() error
//	func (s *Sidecar) Stop()
//
// The context given to a Start function bounds the wait for the first configuration and nothing after it; Stop ends the
// proxy, waits for its goroutines and takes its series away. Package dataplane puts all of it into a lab.
//
// # Where the stand-ins differ from Envoy
//
// Left out: TLS that a proxy ends or begins (what a Gateway ends is not served; of what it passes through the SNI is read off the wire; a
// client of a sidecar says the SNI to the stand-in, which does not look), filter chains that are matched by anything but the SNI, passthrough to where
// a client meant to go (a sidecar answers 502 for a host it has no route for, and closes a connection that no chain is for), half-closed connections,
// idle timeouts and the drain of connections to an endpoint that has left, WebSocket and other upgrades, HTTP filters (faults, rate limits, JWT, RBAC, Lua), outlier detection, slow start, locality
// weights, hash policies and ring hash (chosen at random instead), auto_host_rewrite, internal redirects, retriable headers
// and retry budgets, timeouts other than the route's and the per-try one, format strings in headers (%REQ(...)%; only %% is
// known), runtime fractions of routes, and all metrics but istio_requests_total, istio_request_duration_milliseconds and the four of
// connections (istio_tcp_...).
//
// Done differently:
//   - A cluster that changed takes effect at once with the endpoints that are known; Envoy waits for another EDS answer.
//   - Histograms are readable at once; Envoy merges them every five seconds.
//   - A circuit breaker lets a request wait for a quarter of a second before it answers UO, and does not count requests whose
//     connection is being made as pending: the lab's clients, proxies and servers share a processor, and whenever that
//     pauses, good traffic would look like an overload. An overload that lasts is refused as Envoy refuses it.
//   - Of maxRequestsPerConnection only 1 is honoured, and for HTTP/1.1 only. HTTP/2 has one connection per endpoint.
//   - A request with a body longer than a mebibyte is not retried and not mirrored.
//   - Least request draws two endpoints by weight; Envoy schedules by weight and load where weights differ.
//   - A match that the stand-in does not know never matches; Envoy would refuse a configuration that it does not know.
//   - A server's sidecar takes no configuration: it wraps the application, knows its service by NameServices, and answers
//     503 UC for an application that breaks off.
//   - A connection is counted when it is made or has failed, and its bytes when it ends; Envoy counts it once it knows the peer, which is
//     some bytes or up to five seconds later, and its bytes every five seconds. From then on its flags are the same in both.
//   - Proxies do not introduce themselves to each other on connections: a client's knows of a server what istiod says of its endpoint, and a
//     server's knows nothing of the client.
//   - Proxies introduce themselves to each other with a JSON document of the lab's own, in the headers that Istio uses.
package mesh
