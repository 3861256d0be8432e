package dataplane_test

import (
	"fmt"

	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

const (
	namespace = "shop"
	host      = "micro-api.shop.svc.cluster.local"
	httpPort  = 19090
	grpcPort  = 7070
	appPort   = 9090
)

func shop() *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace, Labels: map[string]string{"istio-injection": "enabled"}}}
}

func object(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: namespace}
}

func service() *corev1.Service {
	port := func(name string, number int32) corev1.ServicePort {
		return corev1.ServicePort{Name: name, Port: number, TargetPort: intstr.FromInt32(appPort)}
	}
	return &corev1.Service{ObjectMeta: object("micro-api"), Spec: corev1.ServiceSpec{
		Selector: map[string]string{"app": "micro-api"}, Ports: []corev1.ServicePort{port("http", httpPort), port("grpc", grpcPort)},
	}}
}

func deployment(version, image string, replicas int32) *appsv1.Deployment {
	labels := map[string]string{"app": "micro-api", "version": version}
	return &appsv1.Deployment{ObjectMeta: object("micro-api-" + version), Spec: appsv1.DeploymentSpec{
		Replicas: ptr.To(replicas),
		Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: labels},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{
				Name: "micro-api", Image: image, Ports: []corev1.ContainerPort{{ContainerPort: appPort}},
				ReadinessProbe: &corev1.Probe{PeriodSeconds: 1, ProbeHandler: corev1.ProbeHandler{
					HTTPGet: &corev1.HTTPGetAction{Path: "/", Port: intstr.FromInt32(appPort)},
				}},
			}}},
		},
	}}
}

func gateway() *networkingv1.Gateway {
	g := &networkingv1.Gateway{ObjectMeta: object("micro-gateway")}
	g.Spec.Selector = map[string]string{"istio": "ingressgateway"}
	g.Spec.Servers = []*networkingapi.Server{{
		Port: &networkingapi.Port{Number: 80, Name: "http", Protocol: "HTTP"}, Hosts: []string{"*"},
	}}
	return g
}

// destinationRule has a subset per version and the policy of the reference scenario.
func destinationRule(versions ...string) *networkingv1.DestinationRule {
	d := &networkingv1.DestinationRule{ObjectMeta: object("micro-api")}
	d.Spec.Host = host
	d.Spec.TrafficPolicy = &networkingapi.TrafficPolicy{
		ConnectionPool: &networkingapi.ConnectionPoolSettings{
			Tcp:  &networkingapi.ConnectionPoolSettings_TCPSettings{MaxConnections: 10},
			Http: &networkingapi.ConnectionPoolSettings_HTTPSettings{Http1MaxPendingRequests: 1, MaxRequestsPerConnection: 1},
		},
		LoadBalancer: &networkingapi.LoadBalancerSettings{LbPolicy: &networkingapi.LoadBalancerSettings_Simple{
			Simple: networkingapi.LoadBalancerSettings_ROUND_ROBIN,
		}},
	}
	for _, v := range versions {
		d.Spec.Subsets = append(d.Spec.Subsets, &networkingapi.Subset{Name: v, Labels: map[string]string{"version": v}})
	}
	return d
}

// weight is one version's part of the traffic.
type weight struct {
	version string
	percent int32
}

// split routes both ports of the mesh, and what comes through the gateway, by the same weights.
func split(weights ...weight) *networkingv1.VirtualService {
	vs := &networkingv1.VirtualService{ObjectMeta: object("micro-api")}
	vs.Spec.Hosts = []string{host}
	vs.Spec.Gateways = []string{"mesh", namespace + "/micro-gateway"}
	route := func(name string, match []*networkingapi.HTTPMatchRequest, port uint32) *networkingapi.HTTPRoute {
		r := &networkingapi.HTTPRoute{Name: name, Match: match}
		for _, w := range weights {
			r.Route = append(r.Route, &networkingapi.HTTPRouteDestination{Weight: w.percent, Destination: &networkingapi.Destination{
				Host: host, Subset: w.version, Port: &networkingapi.PortSelector{Number: port},
			}})
		}
		return r
	}
	onPort := func(port uint32, gateway string) []*networkingapi.HTTPMatchRequest {
		return []*networkingapi.HTTPMatchRequest{{Port: port, Gateways: []string{gateway}}}
	}
	vs.Spec.Http = []*networkingapi.HTTPRoute{
		route("http", onPort(httpPort, "mesh"), httpPort),
		route("grpc", onPort(grpcPort, "mesh"), grpcPort),
		route("ingress", onPort(80, fmt.Sprintf("%s/micro-gateway", namespace)), httpPort),
	}
	return vs
}
