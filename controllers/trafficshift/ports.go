package trafficshift

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	networkingk8s "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/plan"
	"github.com/sluice-dev/sluice/controllers/shift"
)

// unselecting reports whether a Service has no pods of its own: it points elsewhere, or somebody else fills in its endpoints.
func unselecting(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeExternalName || len(s.Spec.Selector) == 0
}

func (w *world) unselecting(s *corev1.Service) shift.Problem {
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		return problem(v1alpha1.ReasonServiceUnsupported, "Service %s/%s is of type ExternalName (%q), a name without pods, which sidecars cannot split by version; use a ClusterIP Service that selects %s",
			s.Namespace, s.Name, s.Spec.ExternalName, labels.Set(w.scope.Template.Spec.Selector.MatchLabels))
	}
	return problem(v1alpha1.ReasonServiceUnsupported, "Service %s/%s has no selector, so that no version's pods are behind it; give it the selector %s",
		s.Namespace, s.Name, labels.Set(w.scope.Template.Spec.Selector.MatchLabels))
}

// selectedVersion is the label that tells versions apart and that a Service selects on; empty where there is none.
func selectedVersion(s *corev1.Service) string {
	for _, key := range versionLabels {
		if s.Spec.Selector[key] != "" {
			return key
		}
	}
	return ""
}

// checkPortNames refuses Services that call one port of the same pods by different protocols (rule P1): the pods' proxies believe the
// older of the two, whatever the clients' do.
func (w *world) checkPortNames(s *corev1.Service) []shift.Problem {
	for i := range w.services {
		other := &w.services[i]
		if other.Name == s.Name {
			continue
		}
		for _, theirs := range other.Spec.Ports {
			for _, ours := range s.Spec.Ports {
				if w.target(ours) != w.target(theirs) || plan.ProtocolOf(ours) == plan.ProtocolOf(theirs) {
					continue
				}
				return []shift.Problem{problem(v1alpha1.ReasonPortNamesDiffer,
					"Services %s and %s select the same pods and call their port %s by different protocols (%q: %s, %q: %s), of which Istio believes one; give both the same name or appProtocol",
					nameOf(s), nameOf(other), w.target(ours), ours.Name, orNone(plan.ProtocolOf(ours)), theirs.Name, orNone(plan.ProtocolOf(theirs)))}
			}
		}
	}
	return nil
}

// target is the port of the pods behind a Service's port, as a number where that can be told.
func (w *world) target(p corev1.ServicePort) string {
	switch {
	case p.TargetPort.Type == intstr.String && p.TargetPort.StrVal != "":
		for _, c := range w.scope.Template.Spec.Template.Spec.Containers {
			for _, cp := range c.Ports {
				if cp.Name == p.TargetPort.StrVal {
					return fmt.Sprint(cp.ContainerPort)
				}
			}
		}
		return p.TargetPort.StrVal
	case p.TargetPort.IntVal != 0:
		return fmt.Sprint(p.TargetPort.IntVal)
	}
	return fmt.Sprint(p.Port)
}

func orNone(protocol plan.Protocol) string {
	if protocol == plan.NoProtocol {
		return "none"
	}
	return string(protocol)
}

// adviseOnSelectors tells of objects that select the pods by the label version, which Sluice sets anew: they would lose the pods of
// every version.
func (r *Reconciler) adviseOnSelectors(ctx context.Context, w *world) ([]shift.Problem, error) {
	if !w.starting() || w.scope.Template.Spec.Template.Labels[v1alpha1.LabelIstioVersion] == "" {
		return nil, nil
	}
	var budgets policyv1.PodDisruptionBudgetList
	if err := r.Live.List(ctx, &budgets, client.InNamespace(w.shift.Namespace)); err != nil {
		return nil, fmt.Errorf("listing PodDisruptionBudgets: %w", err)
	}
	for i := range budgets.Items {
		w.adviseOnSelector("PodDisruptionBudget", &budgets.Items[i], budgets.Items[i].Spec.Selector)
	}
	var policies networkingk8s.NetworkPolicyList
	if err := r.Live.List(ctx, &policies, client.InNamespace(w.shift.Namespace)); err != nil {
		return nil, fmt.Errorf("listing NetworkPolicies: %w", err)
	}
	for i := range policies.Items {
		w.adviseOnSelector("NetworkPolicy", &policies.Items[i], &policies.Items[i].Spec.PodSelector)
	}
	return nil, nil
}

func (w *world) adviseOnSelector(kind string, o metav1.Object, s *metav1.LabelSelector) {
	if s == nil || !selectsLabels(s, w.scope.Template.Spec.Template.Labels) {
		return
	}
	keys := []string{}
	for key := range s.MatchLabels {
		keys = append(keys, key)
	}
	for _, e := range s.MatchExpressions {
		keys = append(keys, e.Key)
	}
	for _, key := range keys {
		if key == v1alpha1.LabelIstioVersion {
			w.advise(v1alpha1.ReasonVersionSelected, "%s %s selects on the label version, which Sluice sets to v1, v2 and so on: it will not have the pods of any version; select on labels that stay, such as %s",
				kind, nameOf(o), labels.Set(w.scope.Template.Spec.Selector.MatchLabels))
		}
	}
}
