package plan

import (
	"encoding/json"

	"google.golang.org/protobuf/proto"
	networking "istio.io/api/networking/v1alpha3"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// readMessage reads one of Istio's messages as Istio does, but for fields that do not exist, which Istio drops without a word.
func readMessage(raw *apiextensionsv1.JSON, into proto.Message, path *field.Path) field.ErrorList {
	var written any
	if err := json.Unmarshal(raw.Raw, &written); err != nil {
		return field.ErrorList{field.Invalid(path, string(raw.Raw), err.Error())}
	}
	message := into.ProtoReflect().Descriptor()
	if errs := unknownFields(written, message, path); len(errs) > 0 {
		return errs
	}
	if err := json.Unmarshal(raw.Raw, into); err != nil {
		return field.ErrorList{field.Invalid(path, string(raw.Raw), "is not what Istio's "+string(message.Name())+" takes: "+err.Error())}
	}
	return nil
}

// TrafficPolicy reads spec.trafficPolicy: Istio's own.
func TrafficPolicy(raw *apiextensionsv1.JSON, path *field.Path) (*networking.TrafficPolicy, field.ErrorList) {
	if raw == nil || len(raw.Raw) == 0 {
		return nil, nil
	}
	policy := &networking.TrafficPolicy{}
	if errs := readMessage(raw, policy, path); len(errs) > 0 {
		return nil, errs
	}
	return policy, nil
}
