package trafficshift

import (
	"context"
	"fmt"
	"slices"
	"strings"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/plan"
	"github.com/sluice-dev/sluice/controllers/shift"
)

// checkTLS reads what our Gateway is to end TLS with. Where it cannot be read, what was accepted last stays in force.
func (w *world) checkTLS() []shift.Problem {
	written := w.shift.Spec.GatewayTLS
	if written == nil || len(w.spec.Hosts) == 0 || w.gatewayAPIRoutes() {
		return nil
	}
	read, errs := plan.ServerTLS(written, field.NewPath("spec", "gatewayTLS"))
	broken := slices.ContainsFunc(w.invalid, func(err *field.Error) bool { return strings.HasPrefix(err.Field, "spec.gatewayTLS") })
	if len(errs) == 0 && !broken {
		w.scope.TLS = read
		return nil
	}
	w.keepTLS()
	if broken {
		return nil // said already
	}
	return []shift.Problem{problem(v1alpha1.ReasonInvalidSpec, "%v", errs.ToAggregate())}
}

// secretRemark says where the Secret of our Gateway must be: nobody may read Secrets for Sluice, so that it cannot tell whether it is there.
func (w *world) secretRemark() string {
	if w.scope.TLS == nil || len(w.spec.Gateways) > 0 {
		return ""
	}
	names := append(slices.Clone(w.scope.TLS.GetCredentialNames()), w.scope.TLS.GetCredentialName())
	return fmt.Sprintf("; TLS needs the Secret %s in the namespace of the gateway's pods (%s), which is not looked at",
		strings.Trim(strings.Join(names, ", "), ", "), labels.Set(w.scope.GatewaySelector))
}

// keepTLS goes on with what our Gateway has.
func (w *world) keepTLS() {
	w.scope.TLS = nil
	if w.gateway != nil && w.ours(w.gateway) {
		w.scope.TLS = plan.LiveTLS(w.gateway)
	}
}

// checkTLSHosts finds the Gateways that keep a host of ours from being served with TLS. One that is younger than ours does not: it is
// the one that Istio skips.
func (r *Reconciler) checkTLSHosts(ctx context.Context, w *world) ([]shift.Problem, error) {
	if w.scope.TLS == nil && w.told() != plan.BySNI || len(w.spec.Hosts) == 0 || len(w.spec.Gateways) > 0 {
		return nil, nil
	}
	var list networkingv1.GatewayList
	if err := r.Client.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("listing Gateways: %w", err)
	}
	hosts := w.spec.Hosts
	if made := w.scope; w.hostsEach() {
		made.Entry = plan.Entry{Hosts: w.spec.Hosts, Preview: w.spec.Preview.Host}
		hosts = slices.Concat(hosts, made.GatewayPreviews(shift.Desired{Previews: w.previewable()}))
	}
	var found []string
	for _, theirs := range list.Items {
		mine := w.gateway != nil && w.takeable(w.gateway)
		if mine && (theirs.UID == w.gateway.UID || plan.ServesTLS(w.gateway) && w.gateway.CreationTimestamp.Before(&theirs.CreationTimestamp)) {
			continue
		}
		if why := plan.TLSConflict(theirs, r.Config.GatewaySelector, hosts); why != "" {
			found = append(found, fmt.Sprintf("Gateway %s/%s: %s", theirs.Namespace, theirs.Name, why))
		}
	}
	if len(found) == 0 {
		return nil, nil
	}
	slices.Sort(found)
	w.keepTLS()
	return []shift.Problem{problem(v1alpha1.ReasonDuplicateTLSHost,
		"Istio would skip the TLS server of %s without a word; name that Gateway with the annotation %s, or take the host out of it: %s",
		strings.Join(hosts, ", "), v1alpha1.AnnotationGateway, strings.Join(found, ", "))}, nil
}
