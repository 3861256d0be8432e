package plan

import (
	"fmt"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The ports that a Gateway of ours serves; Istio translates them to those of the gateway's pods (rule G5).
const (
	plainPort  = 80
	securePort = 443
)

// ServerTLS reads spec.gatewayTLS: Istio's own ServerTLSSettings, of those that a gateway ends TLS with. What HTTP routes cannot serve,
// and files of the gateway's own pods, are refused.
func ServerTLS(raw *apiextensionsv1.JSON, path *field.Path) (*networking.ServerTLSSettings, field.ErrorList) {
	if raw == nil {
		return nil, nil
	}
	tls := &networking.ServerTLSSettings{}
	if errs := readMessage(raw, tls, path); len(errs) > 0 {
		return nil, errs
	}
	if errs := checkTLS(tls, path); len(errs) > 0 {
		return nil, errs
	}
	return tls, nil
}

func checkTLS(tls *networking.ServerTLSSettings, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch tls.GetMode() {
	case networking.ServerTLSSettings_SIMPLE, networking.ServerTLSSettings_MUTUAL, networking.ServerTLSSettings_OPTIONAL_MUTUAL:
	default:
		errs = append(errs, field.NotSupported(path.Child("mode"), tls.GetMode().String(), []string{"SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL"}))
	}
	if (tls.GetCredentialName() == "") == (len(tls.GetCredentialNames()) == 0) {
		errs = append(errs, field.Required(path.Child("credentialName"), "the Secret with the certificate, in the namespace of the gateway's pods; or credentialNames, and not both"))
	}
	if tls.GetHttpsRedirect() {
		errs = append(errs, field.Forbidden(path.Child("httpsRedirect"), "is spec.httpsRedirect, which is true where nothing is said"))
	}
	for name, written := range map[string]bool{
		"serverCertificate": tls.GetServerCertificate() != "", "privateKey": tls.GetPrivateKey() != "",
		"caCertificates": tls.GetCaCertificates() != "", "caCrl": tls.GetCaCrl() != "", "tlsCertificates": len(tls.GetTlsCertificates()) > 0,
	} {
		if written {
			errs = append(errs, field.Forbidden(path.Child(name), "names a file of the gateway's pods, which serve others too: use credentialName"))
		}
	}
	slices.SortStableFunc(errs, func(a, b *field.Error) int { return strings.Compare(a.Field, b.Field) })
	return errs
}

// servers are those of a Gateway of ours: plain HTTP, or, with TLS, HTTPS beside a redirect to it. TLS that the pods end is passed through.
func (s Scope) servers(mark string, hosts []string) []*networking.Server {
	if s.Told() == BySNI {
		return []*networking.Server{{
			Port: &networking.Port{Number: securePort, Name: "tls" + mark, Protocol: "TLS"}, Hosts: hosts,
			Tls: &networking.ServerTLSSettings{Mode: networking.ServerTLSSettings_PASSTHROUGH},
		}}
	}
	plain := &networking.Server{Port: &networking.Port{Number: plainPort, Name: "http" + mark, Protocol: "HTTP"}, Hosts: hosts}
	if s.TLS == nil {
		return []*networking.Server{plain}
	}
	if r := s.Shift.Spec.HTTPSRedirect; r == nil || *r {
		plain.Tls = &networking.ServerTLSSettings{HttpsRedirect: true}
	}
	secure := &networking.Server{
		Port: &networking.Port{Number: securePort, Name: "https" + mark, Protocol: "HTTPS"}, Hosts: hosts, Tls: s.TLS.DeepCopy(),
	}
	return []*networking.Server{plain, secure}
}

// LiveTLS is what our Gateway ends TLS with, as read back; nil where it passes it through.
func LiveTLS(gateway *networkingv1.Gateway) *networking.ServerTLSSettings {
	if server := secureServer(gateway); server.GetTls().GetMode() != networking.ServerTLSSettings_PASSTHROUGH {
		return server.GetTls()
	}
	return nil
}

// ServesTLS reports whether our Gateway has a server of TLS, as read back: one that ends it, or that passes it through.
func ServesTLS(gateway *networkingv1.Gateway) bool { return secureServer(gateway) != nil }

func secureServer(gateway *networkingv1.Gateway) *networking.Server {
	for _, server := range gateway.Spec.GetServers() {
		if server.GetPort().GetNumber() == securePort {
			return server
		}
	}
	return nil
}

// TLSConflict says what of another Gateway keeps our secure server from being served at the same gateway pods; empty where nothing does.
// Of two servers with a host on one port Istio skips the younger Gateway's without a word, and of two protocols as well (rule G3).
func TLSConflict(theirs *networkingv1.Gateway, selector map[string]string, hosts []string) string {
	if !samePods(theirs.Spec.GetSelector(), selector) {
		return ""
	}
	for _, server := range theirs.Spec.GetServers() {
		if server.GetPort().GetNumber() != securePort || server.GetBind() != "" {
			continue
		}
		if p := strings.ToUpper(server.GetPort().GetProtocol()); p != "HTTPS" && p != "TLS" {
			return fmt.Sprintf("it speaks %s on port %d", p, securePort)
		}
		for _, host := range server.GetHosts() {
			if _, name, scoped := strings.Cut(host, "/"); scoped {
				host = name
			}
			if slices.Contains(hosts, host) {
				return fmt.Sprintf("it serves %s on port %d", host, securePort)
			}
		}
	}
	return ""
}

// samePods reports whether two selectors may select the same pods: neither asks for what the other denies.
func samePods(a, b map[string]string) bool {
	for key, value := range a {
		if other, ok := b[key]; ok && other != value {
			return false
		}
	}
	return true
}
