package trafficshift

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/plan"
	"github.com/sluice-dev/sluice/controllers/shift"
)

const gatewayManifest = `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: NAME}
spec: {selector: SELECTOR, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [HOST]}]}
`

const quota = `
apiVersion: v1
kind: ResourceQuota
metadata: {name: tight}
spec: {hard: {requests.cpu: "5"}}
`

const claim = `
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [MODE], resources: {requests: {storage: 1Gi}}}
`

// another is a Deployment of somebody else's, whose pods have an app label.
func another(replicas int, app string) string {
	return fmt.Sprintf("\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: another}\nspec:\n  replicas: %d\n  selector: {matchLabels: {release: another}}\n"+
		"  template: {metadata: {labels: {release: another, app: %s}}, spec: {containers: [{name: app, image: 'another:1', ports: [{name: http, containerPort: 8080}]}]}}\n", replicas, app)
}

// A service that is taken over already loses nothing more by a release.
func TestADeploymentThatJoinsTheServiceLaterIsTold(t *testing.T) {
	c := newCluster(t)
	c.adopt()
	c.apply(another(2, "micro-api"))
	c.pass()
	accepted := meta.FindStatusCondition(c.shift().Status.Conditions, v1alpha1.ConditionAccepted)
	if accepted.Status != metav1.ConditionTrue || !strings.Contains(accepted.Message, "get no traffic once routes name the versions of micro-api: another;") {
		t.Errorf("Accepted is %s: %s; want it to be told", accepted.Status, accepted.Message)
	}
	c.setImage("micro-api:1.2")
	c.run("the first weight", 60, func(s *v1alpha1.TrafficShift) bool { return s.Status.Weight == "5%" })
}

// labelNamespace sets the namespace's own labels; an empty value takes one away.
func (c *cluster) labelNamespace(pairs ...string) {
	c.Helper()
	ns := &corev1.Namespace{}
	if err := c.Get(c.Context(), client.ObjectKey{Name: c.ns}, ns); err != nil {
		c.Fatal(err)
	}
	for i := 0; i < len(pairs); i += 2 {
		ns.Labels[pairs[i]] = pairs[i+1]
		if pairs[i+1] == "" {
			delete(ns.Labels, pairs[i])
		}
	}
	if err := c.Update(c.Context(), ns); err != nil {
		c.Fatal(err)
	}
}

// counted writes a quota's status, which no controller does here.
func (c *cluster) counted(used string) {
	c.Helper()
	q := &corev1.ResourceQuota{}
	c.get("tight", q)
	q.Status.Hard, q.Status.Used = q.Spec.Hard, corev1.ResourceList{corev1.ResourceRequestsCPU: resource.MustParse(used)}
	if err := c.Status().Update(c.Context(), q); err != nil {
		c.Fatal(err)
	}
}

// change edits the manifest of Deployment and Service.
func change(pairs ...string) string { return strings.NewReplacer(pairs...).Replace(service) }

// inSpec adds to the pod's spec.
func inSpec(text string) string {
	return change("      securityContext: {runAsNonRoot: true}", "      securityContext: {runAsNonRoot: true}\n      "+text)
}

func inShift(text string) string { return strings.Replace(trafficShift, "spec:", "spec:\n  "+text, 1) }

// tcpService is the service without a port for HTTP.
var tcpService = change("{name: http, port: 80, targetPort: http}", "{name: tcp, port: 80, targetPort: http}")

// tlsService is the service with a port of TLS alone.
var tlsService = change("{name: http, port: 80, targetPort: http}", "{name: https, port: 443, targetPort: http}")

// secured is a Gateway with a server on port 443 for the pods of the namespace's own.
func secured(name, of, protocol, host, tls string) string {
	return "\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: " + name + "}\nspec:\n  selector: {of: " + of + "}\n" +
		"  servers: [{port: {number: 443, name: tls, protocol: " + protocol + "}, hosts: ['" + host + "'], tls: " + tls + "}]\n"
}

// passing is a VirtualService of somebody else's that routes TLS by its SNI.
func passing(name, gateway, sni string) string {
	return "\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: " + name + "}\nspec:\n  hosts: ['*.example.com']\n  gateways: [" + gateway + "]\n" +
		"  tls: [{match: [{sniHosts: ['" + sni + "']}], route: [{destination: {host: theirs}}]}]\n"
}

// carrying is a Gateway with a server of TCP for the pods of the namespace's own.
func carrying(name, of string, port int, host string) string {
	return fmt.Sprintf("\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: %s}\nspec:\n  selector: {of: %s}\n  servers: [{port: {number: %d, name: tcp, protocol: TCP}, hosts: ['%s']}]\n",
		name, of, port, host)
}

// connecting is a VirtualService of somebody else's that routes TCP.
func connecting(name, gateway, host, route string) string {
	return "\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: " + name + "}\nspec:\n  hosts: ['" + host + "']\n  gateways: [" + gateway + "]\n" +
		"  tcp: [" + strings.Replace(strings.Replace(route, "{}", "{match: []}", 1), "]}", "], route: [{destination: {host: theirs}}]}", 1) + "]\n"
}

// tcpShift is a shift of it without steps of its own, with a line more.
func tcpShift(text string) string {
	return strings.NewReplacer("  steps: [{weight: 5}, {weight: 50}, {weight: 100}]\n", "", "spec:", "spec:\n  "+text).Replace(trafficShift)
}

const podLabels = "labels: {app: micro-api, version: blue}"

const shopHost = "hosts: [shop.example.com]"

// vaultHost is one that no other test's Gateway has.
const vaultHost = "hosts: [vault.example.com]"

// checklist is one row for each way of not being ready for a shift that the mesh, the gateways, the ports or the room make; a row
// without a reason is one that looks like it and is fine.
var checklist = map[string]struct {
	service, shift string
	prepare        func(c *cluster)
	reason         string
	says           []string
}{
	"ExternalName": {service: change("  selector: {app: micro-api}\n  ports: [{name: http, port: 80, targetPort: http}]", "  type: ExternalName\n  externalName: old.example.com"),
		reason: v1alpha1.ReasonServiceUnsupported, says: []string{"Service NS/micro-api", "ExternalName", `"old.example.com"`, "ClusterIP"}},
	"NoSelector": {service: change("  selector: {app: micro-api}\n  ports", "  ports"),
		reason: v1alpha1.ReasonServiceUnsupported, says: []string{"Service NS/micro-api", "no selector", "app=micro-api"}},
	"NamedWithoutSelector": {service: change("name: micro-api}\nspec:\n  selector: {app: micro-api}\n", "name: other}\nspec:\n"), shift: inShift("service: other"),
		reason: v1alpha1.ReasonServiceUnsupported, says: []string{"Service NS/other", "no selector"}},
	"SelectsCanonicalRevision": {service: change("version: blue", "service.istio.io/canonical-revision: blue", "  selector: {app: micro-api}\n  ports", "  selector: {app: micro-api, service.istio.io/canonical-revision: blue}\n  ports"),
		reason: v1alpha1.ReasonServiceSelectsVersion, says: []string{"service.istio.io/canonical-revision", `"blue"`, "remove it"}},
	"SelectorExpressions": {service: change("selector: {matchLabels: {app: micro-api}}", "selector: {matchLabels: {app: micro-api}, matchExpressions: [{key: version, operator: In, values: [blue]}]}"),
		reason: v1alpha1.ReasonSelectorSelectsVersion, says: []string{"Deployment NS/micro-api", "version", "blue", "create the Deployment again"}},
	"PortNamesDiffer": {shift: inShift("service: micro-api"), prepare: func(c *cluster) {
		c.apply(strings.NewReplacer("{name: micro-api}", "{name: peers}", "name: http", "name: tcp-http").Replace(service[strings.Index(service, "---")+4:]))
	}, reason: v1alpha1.ReasonPortNamesDiffer, says: []string{"NS/micro-api", "NS/peers", "8080", "http", "tcp", "appProtocol"}},
	"PortNamesAgree": {shift: inShift("service: micro-api"), prepare: func(c *cluster) {
		c.apply(strings.NewReplacer("{name: micro-api}", "{name: peers}", "name: http", "name: http-peers").Replace(service[strings.Index(service, "---")+4:]))
	}},

	"TCP":           {service: tcpService, shift: tcpShift("")},
	"TCPBlueGreen":  {service: tcpService, shift: tcpShift("strategy: blue-green")},
	"EveryProtocol": {service: change("{name: http, port: 80, targetPort: http}", "{name: http, port: 80, targetPort: http}, {name: tcp, port: 81}, {name: tls, port: 82}, {name: db, port: 83, appProtocol: mysql}")},
	"TCPWithHosts":  {service: tcpService, shift: tcpShift(shopHost), reason: v1alpha1.ReasonHTTPRequired, says: []string{"spec.hosts needs HTTP", "Service NS/micro-api", "leave it out", "name a port http", "a server of protocol TCP on port 80", "sluice.dev/gateway"}},
	"TCPWithLatency": {service: tcpService, shift: tcpShift(`maxLatency: {percentile: "99", below: 500ms}`),
		reason: v1alpha1.ReasonHTTPRequired, says: []string{"spec.maxLatency needs HTTP"}},
	"TCPWithSessions": {service: tcpService, shift: tcpShift("session: {cookie: lane}"), reason: v1alpha1.ReasonHTTPRequired, says: []string{"spec.session needs HTTP"}},
	"TCPWithTimeout":  {service: tcpService, shift: tcpShift("routing: {http: {timeout: 5s}}"), reason: v1alpha1.ReasonHTTPRequired, says: []string{"spec.routing.http needs HTTP"}},
	"TCPWithATest": {service: tcpService, shift: tcpShift("strategy: ab-test\n  abTest: {match: [{headers: {group: {exact: b}}}]}"),
		reason: v1alpha1.ReasonHTTPRequired, says: []string{"spec.strategy: ab-test needs HTTP"}},
	"TCPWithAMatch": {service: tcpService, shift: tcpShift("steps: [{match: [{headers: {group: {exact: b}}}]}, {mirror: '10'}, {weight: 100}]"),
		reason: v1alpha1.ReasonHTTPRequired, says: []string{"spec.steps[0].match needs HTTP", "spec.steps[1].mirror needs HTTP"}},
	"TCPWithAPreviewHost": {service: tcpService, shift: tcpShift(shopHost + "\n  preview: {host: preview.example.com}"),
		reason: v1alpha1.ReasonHTTPRequired, says: []string{"spec.preview.host needs HTTP"}},
	"TCPWithTLSAtTheGateway": {service: tcpService, shift: tcpShift(shopHost + "\n  gatewayTLS: {mode: SIMPLE, credentialName: shop-tls}"),
		reason: v1alpha1.ReasonHTTPRequired, says: []string{"spec.gatewayTLS needs HTTP"}},
	"TCPAtAGatewayOfItsPort": {service: tcpService, shift: tcpShift(shopHost + "\n  gateways: [public]"), prepare: func(c *cluster) { c.apply(carrying("public", c.ns, 80, "*")) }},
	"TCPAtAGatewayOfAnotherPort": {service: tcpService, shift: tcpShift(shopHost + "\n  gateways: [public]"), prepare: func(c *cluster) {
		c.apply(carrying("public", c.ns, 5432, "*"))
	}, reason: v1alpha1.ReasonGatewayWithoutHost, says: []string{"Gateway NS/public takes TCP", `"shop.example.com" on port 80`, "Service NS/micro-api", "port 5432 TCP without TLS", "add one of protocol: TCP"}},
	"TCPAtAGatewayOfHTTP": {service: tcpService, shift: tcpShift(shopHost + "\n  gateways: [public]"), prepare: func(c *cluster) {
		c.apply(rival(gatewayManifest, "NAME", "public", "SELECTOR", "{of: "+c.ns+"}", "HOST", "shop.example.com"))
	}, reason: v1alpha1.ReasonGatewayWithoutHost, says: []string{"port 80 HTTP without TLS", "add one of protocol: TCP"}},
	"TCPWithAPreviewHostAtAGateway": {service: tcpService, shift: tcpShift(shopHost + "\n  gateways: [public]\n  preview: {host: preview.example.com}"), prepare: func(c *cluster) { c.apply(carrying("public", c.ns, 80, "*")) },
		reason: v1alpha1.ReasonHTTPRequired, says: []string{"spec.preview.host needs HTTP"}},
	"TCPPortClaimed": {service: tcpService, shift: tcpShift(shopHost + "\n  gateways: [public]"), prepare: func(c *cluster) {
		c.apply(carrying("public", c.ns, 80, "*"))
		c.apply(connecting("theirs", "public", "other.example.com", "{}"))
	}, reason: v1alpha1.ReasonHostClaimed, says: []string{"VirtualService NS/theirs (TCP port 80 of a gateway)"}},
	"TCPPortClaimedAtAnotherGatewayOfTheSamePods": {service: tcpService, shift: tcpShift(shopHost + "\n  gateways: [public]"), prepare: func(c *cluster) {
		c.apply(carrying("public", c.ns, 80, "shop.example.com"))
		c.apply(carrying("second", c.ns, 80, "other.example.com"))
		c.apply(connecting("theirs", "second", "other.example.com", "{match: [{port: 80}]}"))
	}, reason: v1alpha1.ReasonHostClaimed, says: []string{"VirtualService NS/theirs (TCP port 80 of a gateway)"}},
	"AnotherTCPPortBesideIt": {service: tcpService, shift: tcpShift(shopHost + "\n  gateways: [public]"), prepare: func(c *cluster) {
		c.apply(strings.Replace(carrying("public", c.ns, 80, "*"), "servers: [", `servers: [{port: {number: 5432, name: db, protocol: TCP}, hosts: ["*"]}, `, 1))
		c.apply(connecting("theirs", "public", "other.example.com", "{match: [{port: 5432}]}"))
	}},
	"ATCPServerForOthersBesideIt": {service: tcpService, shift: tcpShift(shopHost + "\n  gateways: [public]"), prepare: func(c *cluster) {
		c.apply(carrying("public", c.ns, 80, "shop.example.com"))
		c.apply(connecting("theirs", "public", "other.example.com", "{}")) // which no server of it takes
	}},
	"TLSWithHosts":        {service: tlsService, shift: tcpShift(vaultHost)},
	"TLSWithAPreviewHost": {service: tlsService, shift: tcpShift(vaultHost + "\n  preview: {host: preview.example.com}")},
	"TLSEndedForIt": {service: tlsService, shift: tcpShift(vaultHost + "\n  gatewayTLS: {mode: SIMPLE, credentialName: shop-tls}"),
		reason: v1alpha1.ReasonHTTPRequired, says: []string{"spec.gatewayTLS needs HTTP", "leave it out"}},
	"TLSWithSessions": {service: tlsService, shift: tcpShift(shopHost + "\n  session: {cookie: lane}"), reason: v1alpha1.ReasonHTTPRequired, says: []string{"spec.session needs HTTP"}},
	"TLSAtAGatewayThatPassesIt": {service: tlsService, shift: tcpShift(shopHost + "\n  gateways: [public]"), prepare: func(c *cluster) {
		c.apply(secured("public", c.ns, "TLS", "./*.example.com", "{mode: PASSTHROUGH}"))
	}},
	"HTTPSAtAGatewayThatPassesIt": {service: tlsService, shift: tcpShift(shopHost + "\n  gateways: [public]"), prepare: func(c *cluster) {
		c.apply(secured("public", c.ns, "HTTPS", "shop.example.com", "{mode: PASSTHROUGH}"))
	}},
	"TLSAtAGatewayThatEndsIt": {service: tlsService, shift: tcpShift(shopHost + "\n  gateways: [public]"), prepare: func(c *cluster) {
		c.apply(secured("public", c.ns, "HTTPS", "shop.example.com", "{mode: SIMPLE, credentialName: x}"))
		c.apply(secured("passing", c.ns, "TLS", "*.example.com", "{mode: PASSTHROUGH}"))
	}, reason: v1alpha1.ReasonGatewayWithoutHost, says: []string{"Gateway NS/public passes TLS through", `"shop.example.com"`, "Service NS/micro-api", "port 443 HTTPS SIMPLE", "tls.mode: PASSTHROUGH", "name a Gateway that has such a server:", "NS/passing"}},
	"TLSAtAGatewayOfHTTP": {service: tlsService, shift: tcpShift(shopHost + "\n  gateways: [public]"), prepare: func(c *cluster) {
		c.apply(rival(gatewayManifest, "NAME", "public", "SELECTOR", "{of: "+c.ns+"}", "HOST", "shop.example.com"))
	}, reason: v1alpha1.ReasonGatewayWithoutHost, says: []string{"port 80 HTTP without TLS", "PASSTHROUGH"}},
	"TLSAtAGatewayThatRedirects": {service: tlsService, shift: tcpShift(shopHost + "\n  gateways: [public]"), prepare: func(c *cluster) {
		c.apply(secured("public", c.ns, "HTTP", "shop.example.com", "{httpsRedirect: true}"))
	}, reason: v1alpha1.ReasonGatewayWithoutHost, says: []string{"port 443 HTTP without TLS"}},
	"TLSAtAGatewayThatChoosesByItself": {service: tlsService, shift: tcpShift(shopHost + "\n  gateways: [public]"), prepare: func(c *cluster) {
		c.apply(secured("public", c.ns, "TLS", "shop.example.com", "{mode: AUTO_PASSTHROUGH}"))
	}, reason: v1alpha1.ReasonGatewayWithoutHost, says: []string{"port 443 TLS AUTO_PASSTHROUGH"}},
	"TLSPassedForAnotherNamespace": {service: tlsService, shift: tcpShift(shopHost + "\n  gateways: [public]"), prepare: func(c *cluster) {
		c.apply(strings.Replace(secured("public", c.ns, "TLS", "other/*.example.com", "{mode: PASSTHROUGH}"), "servers: [",
			"servers: [{port: {number: 8443, name: s, protocol: HTTPS}, hosts: [shop.example.com], tls: {mode: SIMPLE, credentialName: x}}, ", 1))
	}, reason: v1alpha1.ReasonGatewayWithoutHost, says: []string{"NS/public passes TLS through", "port 8443 HTTPS SIMPLE, port 443 TLS PASSTHROUGH"}},
	"TLSHostPassedAlready": {service: tlsService, shift: tcpShift(vaultHost), prepare: func(c *cluster) {
		c.apply(secured("entry", c.ns, "TLS", "vault.example.com", "{mode: PASSTHROUGH}"))
	}, reason: v1alpha1.ReasonDuplicateTLSHost, says: []string{"Gateway NS/entry: it serves vault.example.com on port 443", "sluice.dev/gateway"}},
	"SNIClaimed": {service: tlsService, shift: tcpShift(shopHost + "\n  gateways: [public]"), prepare: func(c *cluster) {
		c.apply(secured("public", c.ns, "TLS", "*.example.com", "{mode: PASSTHROUGH}"))
		c.apply(passing("theirs", "public", "Shop.example.com"))
	}, reason: v1alpha1.ReasonHostClaimed, says: []string{"VirtualService NS/theirs (SNI Shop.example.com)"}},
	"SNIClaimedAtAnotherGatewayOfTheSamePods": {service: tlsService, shift: tcpShift(shopHost + "\n  gateways: [public]"), prepare: func(c *cluster) {
		c.apply(secured("public", c.ns, "TLS", "*.example.com", "{mode: PASSTHROUGH}"))
		c.apply(secured("second", c.ns, "TLS", "shop.example.com", "{mode: PASSTHROUGH}"))
		c.apply(passing("theirs", "second", "shop.example.com"))
	}, reason: v1alpha1.ReasonHostClaimed, says: []string{"VirtualService NS/theirs (SNI shop.example.com)"}},
	"AnotherSNIBesideIt": {service: tlsService, shift: tcpShift(shopHost + "\n  gateways: [public]"), prepare: func(c *cluster) {
		c.apply(secured("public", c.ns, "TLS", "*.example.com", "{mode: PASSTHROUGH}"))
		c.apply(passing("theirs", "public", "api.shop.example.com"))
	}},
	"ARedirectForTheHostOfTLS": {service: tlsService, shift: tcpShift(shopHost + "\n  gateways: [public]"), prepare: func(c *cluster) {
		c.apply(strings.Replace(secured("public", c.ns, "TLS", "*.example.com", "{mode: PASSTHROUGH}"), "servers: [",
			`servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*.example.com"]}, `, 1))
		c.apply(strings.NewReplacer("NAME", "theirs", "[HOST]", "[shop.example.com]", "GATEWAYS", "gateways: [public]", "route: [{destination: {host: HOST}}]", "redirect: {scheme: https}").Replace(virtualService))
	}},
	"TCPBesideAVirtualServiceOfTheUsers": {service: change("{name: http, port: 80, targetPort: http}", "{name: http, port: 80, targetPort: http}, {name: tcp, port: 81}"),
		shift: inShift("routing: {delegate: true}"), reason: v1alpha1.ReasonPortUnsupported, says: []string{"port 81", "is tcp", "routing.delegate", "leave"}},
	"TCPBesideHTTPRoutes": {service: change("{name: http, port: 80, targetPort: http}", "{name: http, port: 80, targetPort: http}, {name: tls, port: 82}"),
		shift: inShift("routing: {api: gateway}"), reason: v1alpha1.ReasonPortUnsupported, says: []string{"port 82", "is tls", "routing.api: istio"}},

	"NamespaceNotInMesh": {prepare: func(c *cluster) { c.labelNamespace(labelInjection, "") },
		reason: v1alpha1.ReasonNamespaceNotInMesh, says: []string{"Namespace NS", "istio-injection: enabled", "istio.io/rev", "restart", "sluice.dev/reporter"}},
	"InjectionDisabled": {prepare: func(c *cluster) { c.labelNamespace(labelInjection, injectionDisabled) }, reason: v1alpha1.ReasonNamespaceNotInMesh, says: []string{"Namespace NS"}},
	"ByRevision":        {prepare: func(c *cluster) { c.labelNamespace(labelInjection, "", labelRevision, "canary") }},
	"ByPodLabel": {service: change(podLabels, `labels: {app: micro-api, sidecar.istio.io/inject: "true"}`),
		prepare: func(c *cluster) { c.labelNamespace(labelInjection, "") }},
	"InjectedEverywhere": {prepare: func(c *cluster) {
		c.labelNamespace(labelInjection, "")
		c.pod("micro-api-0", map[string]string{"app": "micro-api"}, "app", containerOfProxy)
	}},
	"NoSidecar": {service: change(podLabels, `labels: {app: micro-api, sidecar.istio.io/inject: "false"}`),
		reason: v1alpha1.ReasonNoSidecar, says: []string{"Deployment NS/micro-api", `sidecar.istio.io/inject: "false"`, "take it out", "sluice.dev/reporter"}},
	"NoSidecarByAnnotation": {service: change(`prometheus.io/scrape: "true"`, `sidecar.istio.io/inject: "false"`), reason: v1alpha1.ReasonNoSidecar, says: []string{"sidecar.istio.io/inject"}},
	"LabelOverAnnotation":   {service: change(`prometheus.io/scrape: "true"`, `sidecar.istio.io/inject: "false"`, podLabels, `labels: {app: micro-api, sidecar.istio.io/inject: "true"}`)},
	"HostNetwork": {service: change("      securityContext: {runAsNonRoot: true}", "      hostNetwork: true", "containerPort: 8080", "containerPort: 8080, hostPort: 8080"),
		reason: v1alpha1.ReasonNoSidecar, says: []string{"hostNetwork: true", "take hostNetwork out"}},
	"AmbientWithoutWaypoint": {prepare: func(c *cluster) { c.labelNamespace(labelInjection, "", labelDataplane, dataplaneAmbient) },
		reason: v1alpha1.ReasonAmbientWithoutWaypoint, says: []string{"NS/micro-api", "istioctl waypoint apply -n NS", "istio.io/use-waypoint"}},
	"AmbientWithWaypoint": {prepare: func(c *cluster) {
		c.labelNamespace(labelInjection, "", labelDataplane, dataplaneAmbient, plan.LabelUseWaypoint, "waypoint")
	}},
	"AmbientServiceWithoutWaypoint": {service: change("kind: Service\nmetadata: {name: micro-api}", "kind: Service\nmetadata: {name: micro-api, labels: {istio.io/use-waypoint: none}}"), prepare: func(c *cluster) {
		c.labelNamespace(labelInjection, "", labelDataplane, dataplaneAmbient, plan.LabelUseWaypoint, "waypoint")
	}, reason: v1alpha1.ReasonAmbientWithoutWaypoint, says: []string{"Service NS/micro-api or its Namespace"}},
	"PodsOutOfAmbient": {service: change(podLabels, "labels: {app: micro-api, istio.io/dataplane-mode: none}"), prepare: func(c *cluster) {
		c.labelNamespace(labelInjection, "", labelDataplane, dataplaneAmbient, plan.LabelUseWaypoint, "waypoint")
	}, reason: v1alpha1.ReasonNamespaceNotInMesh, says: []string{"Namespace NS"}},

	"GatewayNotFound": {shift: inShift(shopHost + "\n  gateways: [public]"), prepare: func(c *cluster) {
		c.apply(rival(gatewayManifest, "NAME", "entry", "SELECTOR", "{of: "+c.ns+"}", "HOST", `"*.example.com"`))
	}, reason: v1alpha1.ReasonGatewayNotFound, says: []string{`"NS/public"`, "create it", "NS/entry"}},
	"GatewayWithoutHost": {shift: inShift(shopHost + "\n  gateways: [public]"), prepare: func(c *cluster) {
		c.apply(rival(gatewayManifest, "NAME", "public", "SELECTOR", "{of: "+c.ns+"}", "HOST", `"other/*.example.com", "./api.example.com"`))
	}, reason: v1alpha1.ReasonGatewayWithoutHost, says: []string{"NS/public", `"shop.example.com"`, "./api.example.com, other/*.example.com", "servers[].hosts"}},
	"GatewayWithHost": {shift: inShift(shopHost + "\n  gateways: [public]"), prepare: func(c *cluster) {
		c.apply(rival(gatewayManifest, "NAME", "public", "SELECTOR", "{of: "+c.ns+"}", "HOST", `"./*.example.com"`))
	}},
	"GatewaySelectsNothing": {shift: inShift(shopHost + "\n  gateways: [public]"), prepare: func(c *cluster) {
		c.apply(rival(gatewayManifest, "NAME", "public", "SELECTOR", "{istio: gone, of: "+c.ns+"}", "HOST", "shop.example.com"))
	}, reason: v1alpha1.ReasonGatewaySelectsNothing, says: []string{"NS/public", "istio=gone,of=NS", "shop.example.com", "correct its selector"}},
	"DefaultGatewaySelectsNothing": {shift: inShift(shopHost), prepare: func(c *cluster) { c.Config.GatewaySelector["of"] = "gone" },
		reason: v1alpha1.ReasonGatewaySelectsNothing, says: []string{"NS/micro-api", "--gateway-selector"}},
	"HostAtAnotherGatewayOfTheSamePods": {shift: inShift(shopHost), prepare: func(c *cluster) {
		c.apply(rival(gatewayManifest, "NAME", "entry", "SELECTOR", "{of: "+c.ns+"}", "HOST", "shop.example.com"))
		c.apply(strings.NewReplacer("NAME", "theirs", "HOST", "shop.example.com", "GATEWAYS", "gateways: [entry]").Replace(virtualService))
	}, reason: v1alpha1.ReasonHostClaimed, says: []string{"VirtualService NS/theirs (host shop.example.com)"}},
	"HostAtAGatewayOfOtherPods": {shift: inShift(shopHost), prepare: func(c *cluster) {
		c.apply(rival(gatewayManifest, "NAME", "entry", "SELECTOR", "{istio: internal, of: "+c.ns+"}", "HOST", "shop.example.com"))
		c.apply(strings.NewReplacer("NAME", "theirs", "HOST", "shop.example.com", "GATEWAYS", "gateways: [entry]").Replace(virtualService))
	}},
	"HostWithAPathOfTheirs": {shift: inShift(shopHost), prepare: func(c *cluster) {
		c.apply(rival(gatewayManifest, "NAME", "entry", "SELECTOR", "{of: "+c.ns+"}", "HOST", "shop.example.com"))
		c.apply(strings.NewReplacer("NAME", "theirs", "[HOST]", "[shop.example.com]", "GATEWAYS", "gateways: [entry]", "http: [{", "http: [{match: [{uri: {prefix: /theirs}}], ", "host: HOST", "host: theirs").Replace(virtualService))
	}},
	"RuleInTheRootForItsOwn": {prepare: func(c *cluster) {
		c.Config.RootNamespace = c.ns + "-root"
		root := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: c.Config.RootNamespace}}
		if err := c.Create(c.Context(), root); err != nil {
			c.Fatal(err)
		}
		c.apply(strings.NewReplacer("{name: NAME}", "{name: theirs, namespace: "+root.Name+"}", "HOST", "micro-api."+c.ns+".svc.cluster.local", "spec: {", `spec: {exportTo: ["."], `).Replace(destinationRule))
	}, reason: v1alpha1.ReasonHostClaimed, says: []string{"DestinationRule NS-root/theirs"}},
	"RuleThatNobodyLooksAt": {prepare: func(c *cluster) {
		other := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: c.ns + "-other"}}
		if err := c.Create(c.Context(), other); err != nil {
			c.Fatal(err)
		}
		c.apply(strings.NewReplacer("{name: NAME}", "{name: theirs, namespace: "+other.Name+"}", "HOST", "micro-api."+c.ns+".svc.cluster.local", "spec: {", `spec: {exportTo: ["elsewhere"], `).Replace(destinationRule))
	}},
	"RuleForSomePods": {prepare: func(c *cluster) {
		c.apply(strings.NewReplacer("NAME", "theirs", "HOST", `"*.`+c.ns+`.svc.cluster.local"`, "spec: {", "spec: {workloadSelector: {matchLabels: {app: client}}, ").Replace(destinationRule))
	}, reason: v1alpha1.ReasonHostClaimed, says: []string{"DestinationRule NS/theirs"}},

	"ServiceOfAnotherDeployment": {prepare: func(c *cluster) { c.apply(another(2, "micro-api")) },
		reason: v1alpha1.ReasonServiceShared, says: []string{"Service NS/micro-api", "other Deployments, too", "micro-api: another;", "a label in its selector", "scale those to 0"}},
	"ServiceOfAnotherDeploymentWithoutPods": {prepare: func(c *cluster) { c.apply(another(0, "micro-api")) }},
	"ServiceOfAnotherDeploymentWithoutThePort": {prepare: func(c *cluster) {
		c.apply(strings.Replace(another(2, "micro-api"), "name: http", "name: metrics", 1)) // a worker: no endpoint of the Service
	}},
	"AnotherDeploymentBesideIt": {prepare: func(c *cluster) { c.apply(another(2, "theirs")) }},

	"QuotaExceeded": {prepare: func(c *cluster) { c.apply(quota); c.counted("3") }, // three pods of one CPU each run
		reason: v1alpha1.ReasonQuotaExceeded, says: []string{"3 pods", "requests.cpu 3", "ResourceQuota NS/tight has 3 of 5 used", "raise the quota", "TrafficShift micro-api"}},
	"QuotaWithRoom": {prepare: func(c *cluster) { c.apply(quota); c.counted("2") }},
	"QuotaOfOthers": {prepare: func(c *cluster) {
		c.apply(strings.Replace(quota, "spec: {", "spec: {scopes: [Terminating], ", 1))
		c.counted("3")
	}},
	"ReadWriteOnce": {service: change("{name: config, configMap: {name: settings}}", "{name: config, persistentVolumeClaim: {claimName: data}}"),
		prepare: func(c *cluster) { c.apply(strings.ReplaceAll(claim, "MODE", "ReadWriteOnce")) },
		reason:  v1alpha1.ReasonVolumeNotShareable, says: []string{`volume "config"`, "PersistentVolumeClaim data", "ReadWriteOnce", "ReadWriteMany"}},
	"ReadWriteOncePod": {service: change("{name: config, configMap: {name: settings}}", "{name: config, persistentVolumeClaim: {claimName: data}}"),
		prepare: func(c *cluster) { c.apply(strings.ReplaceAll(claim, "MODE", "ReadWriteOncePod")) },
		reason:  v1alpha1.ReasonVolumeNotShareable, says: []string{"ReadWriteOncePod"}},
	"ReadWriteMany": {service: change("{name: config, configMap: {name: settings}}", "{name: config, persistentVolumeClaim: {claimName: data}}"),
		prepare: func(c *cluster) { c.apply(strings.ReplaceAll(claim, "MODE", "ReadWriteMany")) }},
}

func TestTheChecklistBeforeAnyTrafficIsTouched(t *testing.T) {
	for name, tc := range checklist {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.Config.AllowedHosts, c.Config.AllowedGateways = []string{"*"}, []string{"*"}
			if tc.service == "" {
				tc.service = service
			}
			if tc.shift == "" {
				tc.shift = trafficShift
			}
			c.apply(tc.service)
			if tc.prepare != nil {
				tc.prepare(c)
			}
			c.apply(tc.shift)
			c.kubelet()
			for range 4 {
				c.pass()
			}
			if tc.reason == "" {
				if got := condition(c.shift(), v1alpha1.ConditionAccepted); !strings.HasPrefix(got, "True Accepted") { // with advice perhaps
					t.Errorf("Accepted is %q: %s", got, meta.FindStatusCondition(c.shift().Status.Conditions, v1alpha1.ConditionAccepted).Message)
				}
				return
			}
			var says []string
			for _, part := range tc.says {
				says = append(says, strings.ReplaceAll(part, "NS", c.ns))
			}
			c.refused(tc.reason, says...)
			theirs := func(size string) bool { return strings.HasPrefix(size, "another ") }
			if sizes := slices.DeleteFunc(c.deploymentSizes(), theirs); len(sizes) > 1 {
				t.Errorf("versions were started all the same: %q", sizes)
			}
			if events := c.told.take(); !slices.Contains(events, "Warning "+tc.reason) {
				t.Errorf("events %q; want a Warning of %s", events, tc.reason)
			}
		})
	}
}

// What does not stand in the way, and had better be known, is in the condition for as long as it is so, and an event when a version starts.
func TestAdvice(t *testing.T) {
	affinity := "affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: micro-api}}}]}}"
	tests := map[string]struct {
		service, shift, also string
		reason               string
		once                 bool
		says                 []string
	}{
		"HostPorts":    {service: change("containerPort: 8080", "containerPort: 8080, hostPort: 8080"), reason: v1alpha1.ReasonHostPorts, says: []string{"hostPort 8080", "3 more nodes", "take hostPort out"}},
		"AntiAffinity": {service: inSpec(affinity), reason: v1alpha1.ReasonAntiAffinity, says: []string{"kubernetes.io/hostname", "3 more", "make it preferred"}},
		"SidecarNotNeeded": {service: change(podLabels, `labels: {app: micro-api, sidecar.istio.io/inject: "false"}`), shift: inShift("reporter: source"),
			reason: v1alpha1.ReasonSidecarNotNeeded, says: []string{"no sidecar", "only clients with a sidecar"}},
		"RoutedPast": {also: strings.NewReplacer("NAME", "legacy", "hosts: [HOST]", "hosts: [legacy.example.com]", "GATEWAYS", "gateways: [public]", "host: HOST", "host: micro-api").Replace(virtualService),
			reason: v1alpha1.ReasonRoutedPast, says: []string{"/legacy sends legacy.example.com", "sluice.dev/hosts"}},
		"NotJudged": {service: change("ports: [{name: http, port: 80, targetPort: http}]", "ports: [{name: mysql, port: 3306, targetPort: http}, {name: http-metrics, port: 80, targetPort: http}]"),
			reason: v1alpha1.ReasonNotJudged, says: []string{"requests to port 80", "connections to port 3306", "a Service of their own"}},
		"VersionSelected": {also: `
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: blue}
spec: {minAvailable: 1, selector: {matchLabels: {app: micro-api, version: blue}}}
`, reason: v1alpha1.ReasonVersionSelected, once: true, says: []string{"PodDisruptionBudget", "/blue", "app=micro-api"}},
		"VersionSelectedByAPolicy": {also: `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: blue}
spec: {podSelector: {matchExpressions: [{key: version, operator: In, values: [blue]}]}}
`, reason: v1alpha1.ReasonVersionSelected, once: true, says: []string{"NetworkPolicy", "/blue"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			if tc.service == "" {
				tc.service = service
			}
			if tc.shift == "" {
				tc.shift = trafficShift
			}
			if tc.also != "" {
				c.apply(tc.also)
			}
			c.apply(tc.service)
			c.apply(tc.shift)
			c.kubelet()
			c.run("adoption", 60, resting)
			i := slices.IndexFunc(c.told.events, func(e told) bool { return e.Reason == tc.reason })
			if i < 0 {
				t.Fatalf("no event %s:\n%s", tc.reason, c.told)
			}
			for _, part := range tc.says {
				if !strings.Contains(c.told.events[i].Note, part) {
					t.Errorf("the event does not say %q: %s", part, c.told.events[i].Note)
				}
			}
			want := "True " + v1alpha1.ReasonAcceptedWithAdvice
			if tc.once {
				want = "True " + v1alpha1.ReasonAccepted
			}
			if got := condition(c.shift(), v1alpha1.ConditionAccepted); got != want {
				t.Errorf("Accepted is %q; want %s", got, want)
			}
		})
	}
}

// A candidate that came up without its sidecar cannot be measured by its own proxy: it stays at 0, and its message says why.
func TestACandidateWithoutASidecarStaysAtZero(t *testing.T) {
	c := newCluster(t)
	c.adopt()
	c.setImage("micro-api:1.2")
	c.run("the candidate", 20, func(s *v1alpha1.TrafficShift) bool { return s.Status.Candidate == "v2" })
	labels := plan.VersionLabels("micro-api", "v2")
	bare := c.pod("micro-api-v2-x", labels, "app")
	for range 30 {
		c.clock = c.clock.Add(max(c.pass().RequeueAfter, time.Second))
		c.kubelet()
	}
	c.refused(v1alpha1.ReasonNoSidecar, "micro-api-v2-x", "sluice.dev/abort", "sluice.dev/retry")
	if s := c.shift(); s.Status.Weight != "0%" || !strings.Contains(s.Status.Message, "micro-api-v2-x") {
		t.Errorf("weight %q, message %q; want 0%% and the pod's name", s.Status.Weight, s.Status.Message)
	}
	if err := c.Delete(t.Context(), bare, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	native := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: c.ns, Name: "micro-api-v2-y", Labels: labels}}
	always := corev1.ContainerRestartPolicyAlways
	native.Spec.InitContainers = []corev1.Container{{Name: containerOfProxy, Image: "any", RestartPolicy: &always}}
	native.Spec.Containers = []corev1.Container{{Name: "app", Image: "any"}}
	if err := c.Create(t.Context(), native); err != nil {
		t.Fatal(err)
	}
	c.run("the first weight", 60, func(s *v1alpha1.TrafficShift) bool { return s.Status.Weight == "5%" })
}

// Why pods do not come is in the message while they are waited for: no node takes them, or nobody may make them.
func TestWhyPodsDoNotComeIsSaid(t *testing.T) {
	tests := map[string]struct {
		happen func(c *cluster)
		says   string
	}{
		"Unschedulable": {func(c *cluster) {
			pod := c.pod("micro-api-v2-x", plan.VersionLabels("micro-api", "v2"), "app", containerOfProxy)
			pod.Status.Conditions = []corev1.PodCondition{{
				Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable,
				Message: "0/3 nodes are available: 3 node(s) didn't match pod anti-affinity rules.",
			}}
			if err := c.Status().Update(c.Context(), pod); err != nil {
				c.Fatal(err)
			}
		}, "Unschedulable: 0/3 nodes are available: 3 node(s) didn't match pod anti-affinity rules."},
		"Refused": {func(c *cluster) {
			d := &appsv1.Deployment{}
			c.get("micro-api-v2", d)
			d.Status.Conditions = []appsv1.DeploymentCondition{{
				Type: appsv1.DeploymentReplicaFailure, Status: corev1.ConditionTrue, Reason: "FailedCreate",
				Message: `pods "micro-api-v2-7d9f-x2x4z" is forbidden: maximum cpu usage per Container is 500m, but limit is 1`,
			}}
			if err := c.Status().Update(c.Context(), d); err != nil {
				c.Fatal(err)
			}
		}, "FailedCreate: pods is forbidden: maximum cpu usage per Container is 500m, but limit is 1"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.adopt()
			c.broken[2] = true
			c.setImage("micro-api:1.2")
			c.run("the candidate", 20, func(*v1alpha1.TrafficShift) bool { return c.get("micro-api-v2", &appsv1.Deployment{}) })
			c.kubelet()
			tc.happen(c)
			c.pass()
			if got := c.shift().Status.Message; !strings.Contains(got, tc.says) {
				t.Errorf("the message is %q; want it to say %q", got, tc.says)
			}
		})
	}
}

// A template that could not be released beside the stable version never starts, and the stable version is untouched.
func TestNoRoomHoldsTheNextRelease(t *testing.T) {
	c := newCluster(t)
	c.adopt()
	before := c.mesh()
	c.apply(quota)
	c.counted("3")
	c.pass()
	if got := condition(c.shift(), v1alpha1.ConditionAccepted); got != "True Accepted" {
		t.Errorf("Accepted is %q at rest; want nothing to be asked before a release", got)
	}
	c.setImage("micro-api:1.2")
	again := c.pass().RequeueAfter
	c.unmoved(before)
	c.refused(v1alpha1.ReasonQuotaExceeded, "requests.cpu 3")
	if s := c.shift(); s.Status.Candidate != "" || again != recheckDelay {
		t.Errorf("candidate %q, looks again in %s; want none, and %s", s.Status.Candidate, again, recheckDelay)
	}
	c.counted("1")
	c.run("the release", 60, func(s *v1alpha1.TrafficShift) bool { return s.Status.Candidate == "v2" })
}

// With proportional capacity a release asks for room for its steps, and adoption for as many pods as there are: the Deployment's own run on.
func TestProportionalCapacityAsksForTheRoomItTakes(t *testing.T) {
	c := newCluster(t)
	c.adoptWith(service, strings.Replace(trafficShift, "spec:", "spec:\n  capacity: proportional", 1))
	c.apply(quota)
	c.counted("4")
	c.setImage("micro-api:1.2")
	c.pass()
	c.refused(v1alpha1.ReasonQuotaExceeded, "2 pods", "requests.cpu 2")
	c.counted("3")
	c.run("the release", 60, func(s *v1alpha1.TrafficShift) bool { return s.Status.Candidate == "v2" })
}

// A shift at rest asks the API server for nothing past the cache but for itself.
func TestAtRestNothingIsAskedPastTheCache(t *testing.T) {
	c := newCluster(t)
	c.adoptWith(service, withHosts)
	live := &counting{Reader: c.Live}
	c.Live = live
	c.pass()
	if diff := cmp.Diff([]string{"get *v1alpha1.TrafficShift"}, live.calls); diff != "" {
		t.Errorf("reads past the cache (-want +got):\n%s", diff)
	}
}

func TestWhichDeploymentsNameWhatIsMadeForThem(t *testing.T) {
	tests := map[string]struct {
		name   string
		change func(w *world)
		ok     bool
	}{
		"Service":    {"micro-api", func(w *world) { w.scope.Made = true }, true},
		"DigitFirst": {"1api", func(w *world) { w.scope.Made = true }, false},
		"OwnService": {"1api", func(*world) {}, true},
		"Preview":    {"1api", func(w *world) { w.spec.Preview = &v1alpha1.Preview{} }, false},
		"Gateway":    {"shop.api", func(w *world) { w.spec.Hosts = []string{"shop.example.com"} }, false},
		"GatewayOfTheirs": {"shop.api", func(w *world) {
			w.spec.Hosts, w.spec.Gateways = []string{"shop.example.com"}, []string{"public"}
		}, true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			w := &world{shift: &v1alpha1.TrafficShift{ObjectMeta: objectMeta("shop", tc.name)}}
			tc.change(w)
			problems := w.checkName()
			if (len(problems) == 0) != tc.ok {
				t.Fatalf("problems: %v", problems)
			}
			for _, p := range problems {
				if p.Reason != v1alpha1.ReasonNameUnsupported || !strings.Contains(p.Message, "shop/"+tc.name) {
					t.Errorf("%s: %s", p.Reason, p.Message)
				}
			}
		})
	}
}

func TestWhatAPodCountsForInAQuota(t *testing.T) {
	cpu := func(requests string) corev1.ResourceRequirements {
		return corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(requests)}}
	}
	always := corev1.ContainerRestartPolicyAlways
	tests := map[string]struct {
		pod  corev1.PodSpec
		want string
	}{
		"Containers":    {corev1.PodSpec{Containers: []corev1.Container{{Resources: cpu("1")}, {Resources: cpu("500m")}}}, "3"},
		"SmallInit":     {corev1.PodSpec{InitContainers: []corev1.Container{{Resources: cpu("500m")}}, Containers: []corev1.Container{{Resources: cpu("1")}}}, "2"},
		"BigInit":       {corev1.PodSpec{InitContainers: []corev1.Container{{Resources: cpu("4")}}, Containers: []corev1.Container{{Resources: cpu("1")}}}, "8"},
		"NativeSidecar": {corev1.PodSpec{InitContainers: []corev1.Container{{Resources: cpu("1"), RestartPolicy: &always}}, Containers: []corev1.Container{{Resources: cpu("1")}}}, "4"},
		"WholePod":      {corev1.PodSpec{Containers: []corev1.Container{{Resources: cpu("1")}}, Resources: &corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("3")}}}, "6"},
		"Overhead":      {corev1.PodSpec{Containers: []corev1.Container{{Resources: cpu("1")}}, Overhead: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("250m")}}, "2500m"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := usage(&tc.pod, 2)
			want := resource.MustParse(tc.want)
			for _, key := range []corev1.ResourceName{"cpu", "requests.cpu"} {
				if q := got[key]; q.Cmp(want) != 0 {
					t.Errorf("%s is %s; want %s", key, q.String(), want.String())
				}
			}
			if pods := got["pods"]; pods.Value() != 2 {
				t.Errorf("pods is %s", pods.String())
			}
		})
	}
}

// The sidecar that pods are given counts as well, once it was seen.
func TestThePodToComeHasItsSidecar(t *testing.T) {
	w := &world{}
	w.scope.Template = &appsv1.Deployment{}
	w.scope.Template.Spec.Template.Spec.Containers = []corev1.Container{{Name: "app"}}
	w.observation.Versions = []shift.Version{{Name: "v1"}}
	w.noteBare("v1", &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app"}, {Name: containerOfProxy}}}})
	if got := w.podToCome(); len(got.Containers) != 2 || len(w.bare) != 0 {
		t.Errorf("containers %v, bare %v", got.Containers, w.bare)
	}
}

// A version within the rollback window takes no steps in which the old one could make room for it.
func TestAWayBackWithoutStepsNeedsRoomForAll(t *testing.T) {
	for name, tc := range map[string]struct {
		window *v1alpha1.RollbackWindow
		want   int32
	}{
		"Steps":  {nil, 1},
		"Window": {&v1alpha1.RollbackWindow{Revisions: 1}, 10},
	} {
		t.Run(name, func(t *testing.T) {
			spec := v1alpha1.TrafficShiftSpec{Replicas: new(int32(10)), Capacity: v1alpha1.CapacityProportional, RollbackWindow: tc.window}
			for _, percent := range []int32{10, 20, 30, 40, 50, 60, 70, 80, 90, 100} {
				spec.Steps = append(spec.Steps, v1alpha1.Step{Weight: new(intstr.FromInt32(percent))})
			}
			spec.Default()
			w := &world{spec: spec, shift: &v1alpha1.TrafficShift{}}
			w.shift.Status.State = v1alpha1.State{Phase: v1alpha1.PhaseStable, Stable: "v2", Previous: "v1", Former: []string{"v1"}}
			w.observation.Template.Version = "v1"
			w.observation.Versions = []shift.Version{{Name: "v1", Recorded: true, Proven: true}}
			if got := w.podsToCome(); got != tc.want {
				t.Errorf("room for %d pods is asked for; want %d", got, tc.want)
			}
		})
	}
}

// counting notes reads.
type counting struct {
	client.Reader
	calls []string
}

func (c *counting) Get(ctx context.Context, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
	c.calls = append(c.calls, fmt.Sprintf("get %T", o))
	return c.Reader.Get(ctx, key, o, opts...)
}

func (c *counting) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	c.calls = append(c.calls, fmt.Sprintf("list %T", list))
	return c.Reader.List(ctx, list, opts...)
}
