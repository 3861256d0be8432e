package apply

import (
	"fmt"
	"reflect"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/controller-runtime/pkg/client"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"google.golang.org/protobuf/proto"
)

// Same reports whether live already says what desired says, so that the same input twice writes nothing. Fields that desired has no
// opinion on do not matter, but for the specs of routes and of autoscalers: those are ours as a whole, so anything more in them is drift. Istio's
// are messages: proto.Equal compares them, and reflection would panic.
func Same(desired, live client.Object) (bool, error) {
	if equal, ok := sameSpec(desired, live); ok && !equal {
		return false, nil
	}
	want, err := toUnstructured(desired)
	if err != nil {
		return false, err
	}
	have, err := toUnstructured(live)
	if err != nil {
		return false, err
	}
	unstructured.RemoveNestedField(want.Object, "metadata", "resourceVersion")
	for _, key := range []string{"apiVersion", "kind"} {
		delete(want.Object, key) // known from the types; a client that reads past the cache leaves them out
	}
	return within(want.Object, have.Object), nil
}

func sameSpec(desired, live client.Object) (equal, ok bool) {
	switch d := desired.(type) {
	case *networkingv1.VirtualService:
		l, is := live.(*networkingv1.VirtualService)
		return is && proto.Equal(&d.Spec, &l.Spec), true
	case *networkingv1.DestinationRule:
		l, is := live.(*networkingv1.DestinationRule)
		return is && proto.Equal(&d.Spec, &l.Spec), true
	case *networkingv1.Gateway:
		l, is := live.(*networkingv1.Gateway)
		return is && proto.Equal(&d.Spec, &l.Spec), true
	case *gatewayv1.HTTPRoute:
		l, is := live.(*gatewayv1.HTTPRoute)
		return is && equality.Semantic.DeepEqual(d.Spec, l.Spec), true
	case *gatewayv1.GRPCRoute:
		l, is := live.(*gatewayv1.GRPCRoute)
		return is && equality.Semantic.DeepEqual(d.Spec, l.Spec), true
	case *autoscalingv2.HorizontalPodAutoscaler:
		l, is := live.(*autoscalingv2.HorizontalPodAutoscaler)
		return is && equality.Semantic.DeepEqual(d.Spec, l.Spec), true
	}
	return false, false
}

// within reports whether everything in want stands in have. Lists must agree in length and order.
func within(want, have any) bool {
	switch w := want.(type) {
	case map[string]any:
		h, ok := have.(map[string]any)
		if !ok {
			return len(w) == 0 && have == nil
		}
		for k, v := range w {
			if !within(v, h[k]) {
				return false
			}
		}
		return true
	case []any:
		h, ok := have.([]any)
		if !ok || len(w) != len(h) {
			return len(w) == 0 && have == nil
		}
		for i := range w {
			if !within(w[i], h[i]) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(want, have)
}

// toUnstructured goes through JSON, because Istio's messages marshal themselves. What only a server writes is left out.
func toUnstructured(o client.Object) (*unstructured.Unstructured, error) {
	if u, ok := o.(*unstructured.Unstructured); ok {
		return u.DeepCopy(), nil
	}
	raw, err := utiljson.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("writing %T as JSON: %w", o, err)
	}
	u := &unstructured.Unstructured{}
	if err := utiljson.Unmarshal(raw, &u.Object); err != nil {
		return nil, fmt.Errorf("reading %T as JSON: %w", o, err)
	}
	unstructured.RemoveNestedField(u.Object, "status")
	unstructured.RemoveNestedField(u.Object, "metadata", "creationTimestamp")
	unstructured.RemoveNestedField(u.Object, "metadata", "managedFields")
	if t, ok, _ := unstructured.NestedMap(u.Object, "spec", "template", "metadata"); ok && t["creationTimestamp"] == nil {
		unstructured.RemoveNestedField(u.Object, "spec", "template", "metadata", "creationTimestamp")
	}
	return u, nil
}
