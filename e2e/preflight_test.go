package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/e2e/lab/load"
	"github.com/sluice-dev/sluice/e2e/scene"
)

// unready is a service in a namespace of its own, which each row of the table breaks in one way.
const unready = `
apiVersion: v1
kind: Namespace
metadata:
  name: NS
  labels: {istio-injection: enabled}
  annotations: {sluice.dev/allowed-hosts: "*", sluice.dev/allowed-gateways: "*"}
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: NS}
spec:
  selector: {app: api}
  ports:
  - {name: http, port: 80, targetPort: 8080}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: api
  namespace: NS
  annotations: {sluice.dev/strategy: canary, sluice.dev/steps: "5,100", sluice.dev/hold: 1s, sluice.dev/bake: 1s}
spec:
  replicas: 1
  selector: {matchLabels: {app: api}}
  template:
    metadata: {labels: {app: api}}
    spec:
      containers:
      - name: app
        image: registry.example.com/lab/app:1
        resources: {requests: {cpu: "1"}}
        ports: [{containerPort: 8080}]
`

// README: "No mesh around the pods, no waypoint, a gateway that nobody runs, a port that does not say its protocol, a volume or a quota
// without room for a second version: Refused before any traffic is touched, with the remedy."
func TestWhatIsNotReadyIsRefused(t *testing.T) {
	const meshRoute = `
apiVersion: networking.istio.io/v1
kind: KIND
metadata: {name: theirs, namespace: NS}
spec: `
	const elsewhere = "\napiVersion: v1\nkind: Namespace\nmetadata: {name: NS-else}\n---"
	const tlsServer = "{selector: {istio: ingressgateway}, servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: [NS.example.com], tls: {mode: SIMPLE, credentialName: theirs}}]}"
	routeElsewhere := strings.Replace(meshRoute, "namespace: NS", "namespace: NS-else", 1)
	tests := map[string]struct {
		edit   []string // pairs, in the manifest above
		also   string
		reason string
		says   string
	}{
		"Headless":        {edit: []string{"  selector: {app: api}\n  ports", "  clusterIP: None\n  selector: {app: api}\n  ports"}, reason: v1alpha1.ReasonServiceUnsupported, says: "headless"},
		"ExternalName":    {edit: []string{"  selector: {app: api}\n  ports:\n  - {name: http, port: 80, targetPort: 8080}", "  type: ExternalName\n  externalName: old.example.com"}, reason: v1alpha1.ReasonServiceUnsupported, says: "old.example.com"},
		"UnnamedPort":     {edit: []string{"{name: http, port: 80", "{port: 80"}, reason: v1alpha1.ReasonPortUnsupported, says: "name it http"},
		"LatencyOfTCP":    {edit: []string{"{name: http, port: 80", "{name: tcp, port: 80", "sluice.dev/hold: 1s", "sluice.dev/hold: 1s, sluice.dev/max-latency: \"p99<500ms\""}, reason: v1alpha1.ReasonHTTPRequired, says: "spec.maxLatency needs HTTP"},
		"SelectsVersion":  {edit: []string{"  selector: {app: api}\n  ports", "  selector: {app: api, version: one}\n  ports", "labels: {app: api}}\n    spec", "labels: {app: api, version: one}}\n    spec"}, reason: v1alpha1.ReasonServiceSelectsVersion, says: "remove it from the selector"},
		"NotInTheMesh":    {edit: []string{"labels: {istio-injection: enabled}", "labels: {team: shop}"}, reason: v1alpha1.ReasonNamespaceNotInMesh, says: "istio-injection: enabled"},
		"NoSidecar":       {edit: []string{"labels: {app: api}}\n    spec", "labels: {app: api, sidecar.istio.io/inject: \"false\"}}\n    spec"}, reason: v1alpha1.ReasonNoSidecar, says: "take it out"},
		"Ambient":         {edit: []string{"labels: {istio-injection: enabled}", "labels: {istio.io/dataplane-mode: ambient}"}, reason: v1alpha1.ReasonAmbientWithoutWaypoint, says: "istioctl waypoint apply"},
		"AnotherRoute":    {also: strings.Replace(meshRoute, "KIND", "VirtualService", 1) + "{hosts: [api], http: [{route: [{destination: {host: api}}]}]}", reason: v1alpha1.ReasonHostClaimed, says: "VirtualService NS/theirs"},
		"AnotherRule":     {also: strings.Replace(meshRoute, "KIND", "DestinationRule", 1) + "{host: api, subsets: [{name: v1, labels: {version: v1}}]}", reason: v1alpha1.ReasonHostClaimed, says: "DestinationRule NS/theirs"},
		"NoGateway":       {edit: []string{"sluice.dev/hold: 1s", "sluice.dev/hold: 1s, sluice.dev/hosts: NS.example.com, sluice.dev/gateway: gone"}, reason: v1alpha1.ReasonGatewayNotFound, says: `"NS/gone"`},
		"GatewayOfNobody": {edit: []string{"sluice.dev/hold: 1s", "sluice.dev/hold: 1s, sluice.dev/hosts: NS.example.com, sluice.dev/gateway: theirs"}, also: strings.Replace(meshRoute, "KIND", "Gateway", 1) + "{selector: {istio: gone}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [NS.example.com]}]}", reason: v1alpha1.ReasonGatewaySelectsNothing, says: "istio=gone"},
		"GatewayOfOthers": {edit: []string{"sluice.dev/hold: 1s", "sluice.dev/hold: 1s, sluice.dev/hosts: NS.example.com, sluice.dev/gateway: theirs"}, also: strings.Replace(meshRoute, "KIND", "Gateway", 1) + "{selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [other/NS.example.com]}]}", reason: v1alpha1.ReasonGatewayWithoutHost, says: "NS.example.com"},
		"RouteElsewhere":  {also: elsewhere + strings.Replace(routeElsewhere, "KIND", "VirtualService", 1) + "{hosts: [api.NS.svc.cluster.local], http: [{route: [{destination: {host: api.NS.svc.cluster.local}}]}]}", reason: v1alpha1.ReasonHostClaimed, says: "VirtualService NS-else/theirs"},
		"RuleElsewhere":   {also: elsewhere + strings.Replace(routeElsewhere, "KIND", "DestinationRule", 1) + "{host: api.NS.svc.cluster.local, subsets: [{name: v1, labels: {version: v1}}]}", reason: v1alpha1.ReasonHostClaimed, says: "DestinationRule NS-else/theirs"},
		"TLSHostTaken":    {edit: []string{"sluice.dev/hold: 1s", "sluice.dev/hold: 1s, sluice.dev/hosts: NS.example.com, sluice.dev/tls-secret: ours"}, also: strings.Replace(meshRoute, "KIND", "Gateway", 1) + tlsServer, reason: v1alpha1.ReasonDuplicateTLSHost, says: "Gateway NS/theirs"},
		"TLSElsewhere":    {edit: []string{"sluice.dev/hold: 1s", "sluice.dev/hold: 1s, sluice.dev/hosts: NS.example.com, sluice.dev/tls-secret: ours"}, also: elsewhere + strings.Replace(routeElsewhere, "KIND", "Gateway", 1) + tlsServer, reason: v1alpha1.ReasonDuplicateTLSHost, says: "Gateway NS-else/theirs"},
		"NoRoomForTwo":    {also: "\napiVersion: v1\nkind: ResourceQuota\nmetadata: {name: small, namespace: NS}\nspec: {hard: {requests.cpu: 500m}}", reason: v1alpha1.ReasonQuotaExceeded, says: "ResourceQuota NS/small has"},
		"VolumeOfOneNode": {edit: []string{"      containers:", "      volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]\n      containers:"}, also: "\napiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data, namespace: NS}\nspec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}", reason: v1alpha1.ReasonVolumeNotShareable, says: "ReadWriteMany"},
	}
	for title, tc := range tests {
		t.Run(title, func(t *testing.T) {
			s := stage(t)
			t.Parallel()
			ns := "unready-" + strings.ToLower(title)
			empty(t, s, ns, ns+"-else")
			named := strings.NewReplacer("NS", ns)
			docs := strings.Split(strings.NewReplacer(tc.edit...).Replace(unready), "\n---\n")
			if tc.also != "" {
				docs = append(docs[:1:1], append([]string{tc.also}, docs[1:]...)...) // before the Deployment is there
			}
			if err := s.ApplyYAML(t.Context(), []byte(named.Replace(strings.Join(docs, "\n---\n")))); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the refusal", func(ctx context.Context) error {
				return refused(ctx, s, ns, tc.reason, named.Replace(tc.says))
			})
			if err := s.Client.Get(t.Context(), types.NamespacedName{Namespace: ns, Name: "api-v1"}, deployment("api-v1")); client.IgnoreNotFound(err) != nil || err == nil {
				t.Errorf("reading api-v1: %v; want none to be started", err)
			}
		})
	}
}

// README: "Who may edit a Deployment may not thereby claim a host", its service's own name at a gateway no more than another. Once that is granted, the
// mesh and the gateway have a VirtualService each for the one name, and one share.
func TestOwnNameAtAGateway(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const ns, host = "by-own-name", "api.by-own-name.svc.cluster.local"
	empty(t, s, ns)
	text := strings.NewReplacer("NS", ns, `allowed-hosts: "*"`, `allowed-hosts: "*.example.com"`, `"5,100", sluice.dev/hold: 1s`, `"50,100", sluice.dev/hold: 1s, sluice.dev/hosts: `+host).Replace(unready)
	if err := s.ApplyYAML(t.Context(), []byte(text)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the refusal", func(ctx context.Context) error {
		return refused(ctx, s, ns, v1alpha1.ReasonHostNotAllowed, `host "`+host+`" is not granted to namespace by-own-name`)
	})
	if err := s.Annotate(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}, map[string]string{v1alpha1.AnnotationAllowedHosts: host}); err != nil {
		t.Fatal(err)
	}
	is := func(cond func(*v1alpha1.TrafficShift) bool) func(context.Context) error {
		return func(ctx context.Context) error {
			ts := &v1alpha1.TrafficShift{}
			if err := s.Client.Get(ctx, types.NamespacedName{Namespace: ns, Name: "api"}, ts); err != nil {
				return err
			}
			if !cond(ts) {
				return fmt.Errorf("%s %s weight %q: %s", ts.Status.Phase, ts.Status.State.Stage, ts.Status.Weight, ts.Status.Message)
			}
			return nil
		}
	}
	eventually(t, "the adoption", is(scene.Stable("v1")))
	outside, inside := through(t, s, host, 60), within(t, s, ns, "http://"+host+"/", 60)
	next := strings.NewReplacer("lab/app:1", "lab/app:2", "  replicas: 1\n", "").Replace(text[strings.LastIndex(text, "---")+4:])
	if err := s.ApplyYAML(t.Context(), []byte(next)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a share of 50%", is(proven(500)))
	eventually(t, "the promotion", is(scene.Stable("v2")))
	for where, source := range map[string]*load.Source{"at the gateway": outside, "in the mesh": inside} {
		if r := source.Report(); r.ByVersion["1"] == 0 || r.ByVersion["2"] == 0 {
			t.Errorf("%s: %v; want both versions", where, r.ByVersion)
		}
		checkShare(t, where, source, "2", v1alpha1.Whole, time.Second)
	}
	lossless(t, outside, inside)
}

// empty removes namespaces with the test, those that there are.
func empty(t *testing.T, s *scene.Scene, namespaces ...string) {
	t.Cleanup(func() {
		for _, ns := range namespaces {
			err := s.Client.Delete(context.Background(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}) // the test's own context has ended
			if client.IgnoreNotFound(err) != nil && s.Err() == nil {
				t.Errorf("removing %s: %v", ns, err)
			}
		}
	})
}

// docs/preflight.md: "`Accepted` is True, with advice" for what nodes more than there are may be needed for. The service is taken over all the same.
func TestWhatNodesMayLackIsAdvised(t *testing.T) {
	const affinity = "      affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: api}}}]}}\n"
	tests := map[string]struct{ from, to, says string }{
		"AntiAffinity": {"      containers:", affinity + "      containers:", "keeps pods of two versions apart by kubernetes.io/hostname: 1 more of these must be free"},
		"HostPorts":    {"containerPort: 8080}", "containerPort: 8080, hostPort: 8080}", "takes hostPort 8080, so that no node runs pods of two versions: 1 more nodes must be free"},
	}
	for title, tc := range tests {
		t.Run(title, func(t *testing.T) {
			s := stage(t)
			t.Parallel()
			ns := "advised-" + strings.ToLower(title)
			empty(t, s, ns)
			text := strings.NewReplacer("NS", ns, tc.from, tc.to).Replace(unready)
			if err := s.ApplyYAML(t.Context(), []byte(text)); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the advice, and the adoption", func(ctx context.Context) error {
				ts := &v1alpha1.TrafficShift{}
				if err := s.Client.Get(ctx, types.NamespacedName{Namespace: ns, Name: "api"}, ts); err != nil {
					return err
				}
				c := condition(ts, v1alpha1.ConditionAccepted)
				if c == nil || c.Status != metav1.ConditionTrue || c.Reason != v1alpha1.ReasonAcceptedWithAdvice || !strings.Contains(c.Message, tc.says) || !scene.Stable("v1")(ts) {
					return fmt.Errorf("%s: %s; condition %+v; want True %s that says %q", ts.Status.Phase, ts.Status.Message, c, v1alpha1.ReasonAcceptedWithAdvice, tc.says)
				}
				return nil
			})
		})
	}
}

// refused is nil where a TrafficShift is not accepted, for that reason and in such words.
func refused(ctx context.Context, s *scene.Scene, ns, reason, says string) error {
	ts := &v1alpha1.TrafficShift{}
	if err := s.Client.Get(ctx, types.NamespacedName{Namespace: ns, Name: "api"}, ts); err != nil {
		return err
	}
	c := condition(ts, v1alpha1.ConditionAccepted)
	if c == nil || c.Status != metav1.ConditionFalse || c.Reason != reason || !strings.Contains(c.Message, says) {
		return fmt.Errorf("%s: condition %+v; want False %s that says %q", ts.Status.Message, c, reason, says)
	}
	return nil
}

// README: "Pods that no node takes, or that a quota or a webhook refuses: `status.message` says so in their own words while they are waited for."
func TestPodsThatMayNotBeMadeAreExplained(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const ns = "unready-pods"
	empty(t, s, ns)
	text := strings.ReplaceAll(unready, "NS", ns)
	if err := s.ApplyYAML(t.Context(), []byte(text)); err != nil {
		t.Fatal(err)
	}
	key := types.NamespacedName{Namespace: ns, Name: "api"}
	read := func(ctx context.Context) (*v1alpha1.TrafficShift, error) {
		ts := &v1alpha1.TrafficShift{}
		return ts, s.Client.Get(ctx, key, ts)
	}
	eventually(t, "the adoption", func(ctx context.Context) error {
		ts, err := read(ctx)
		if err == nil && !scene.Stable("v1")(ts) {
			err = fmt.Errorf("%s: %s", ts.Status.Phase, ts.Status.Message)
		}
		return err
	})
	// No pod may ask for more than a CPU from now on, and the next version asks for two.
	limits := "apiVersion: v1\nkind: LimitRange\nmetadata: {name: small, namespace: " + ns + "}\nspec: {limits: [{type: Container, max: {cpu: \"1\"}}]}"
	release := strings.NewReplacer(`requests: {cpu: "1"}`, `requests: {cpu: "2"}, limits: {cpu: "2"}`).Replace(text[strings.LastIndex(text, "---")+4:])
	if err := s.ApplyYAML(t.Context(), []byte(limits+"\n---\n"+strings.Replace(release, "  replicas: 1\n", "", 1))); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the reason in status.message", func(ctx context.Context) error {
		ts, err := read(ctx)
		if err == nil && !strings.Contains(ts.Status.Message, "FailedCreate: pods is forbidden: ") {
			err = fmt.Errorf("%s: %s", ts.Status.Phase, ts.Status.Message)
		}
		return err
	})
}

// README: "Prometheus is down, stale, or has no series: The weight holds; `EvidenceAvailable` says which, and whether labels are missing or only traffic."
func TestMissingLabelsAreToldFromMissingTraffic(t *testing.T) {
	s := stage(t)
	t.Parallel()
	tests := map[string]struct {
		name, reason string
		tags         []string
		rate         float64
	}{
		"NoTraffic": {"idle", v1alpha1.ReasonNoTraffic, nil, 0},
		"NoLabels":  {"tagless", v1alpha1.ReasonTelemetryLabelsMissing, []string{"destination_workload", "destination_workload_namespace"}, 20},
	}
	for title, tc := range tests {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			s.Plane.Telemetry.RemoveTags(tc.name+"."+scene.Shop+".svc.cluster.local", tc.tags...)
			service(t, s, tc.name)
			if tc.rate > 0 {
				users := through(t, s, tc.name+".example.com", tc.rate)
				defer lossless(t, users)
			}
			release(t, s, tc.name, "v2")
			ts := await(t, s, tc.name, "to say what is missing", func(ts *v1alpha1.TrafficShift) bool {
				c := condition(ts, v1alpha1.ConditionEvidenceAvailable)
				return c != nil && c.Status == metav1.ConditionFalse && c.Reason == tc.reason
			})
			if ts.Status.Weight != "0%" {
				t.Errorf("the candidate has %s; want it to stay at 0%%", ts.Status.Weight)
			}
		})
	}
}
