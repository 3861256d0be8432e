package shim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"

	yamlv2 "go.yaml.in/yaml/v2"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	sluice "github.com/sluice-dev/sluice/api/v1alpha1"
)

// specForm is what sluice.dev/spec takes.
const specForm = `YAML or JSON of fields of a TrafficShift's spec, such as "trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}"`

// elsewhereInSpec are fields of the spec that sluice.dev/spec does not take, and where they are said. Each asks for something once, or is
// written by others: applied from a Deployment again and again, it would undo what somebody has done since.
var elsewhereInSpec = map[string]string{
	"replicas": "write " + sluice.AnnotationReplicas + " for the first number; afterwards kubectl scale or an autoscaler writes it on the TrafficShift",
	"actions":  "what a person asks once is written on the TrafficShift",
}

// said remembers which annotation has named which field.
type said map[string]string

// note keeps the parts that a value names, or the field itself where it has none.
func (s said) note(key, path string, value any) {
	for _, leaf := range leaves(path, value) {
		s[leaf] = key
	}
}

// by returns the annotation that has named a field, a part of it, or what it is a part of. One that has named an empty object
// (sluice.dev/preview: "true") leaves its parts to others.
func (s said) by(path string, value any, in Fields) string {
	empty := emptyObject(value)
	for _, other := range slices.Sorted(maps.Keys(s)) {
		if other == path || strings.HasPrefix(other, path+".") && !empty || strings.HasPrefix(path, other+".") && !emptyObject(in.at(other)) {
			return s[other]
		}
	}
	return ""
}

func emptyObject(value any) bool {
	m, ok := value.(map[string]any)
	return ok && len(m) == 0
}

// addSpec adds what sluice.dev/spec names to what the other annotations do.
func (f Fields) addSpec(raw string, others said) field.ErrorList {
	path := annotations.Key(sluice.AnnotationSpec)
	spec, err := readSpec(raw)
	if err != nil {
		return field.ErrorList{field.Invalid(path, clip(raw), fmt.Sprintf("%v; accepted: %s", err, specForm))}
	}
	errs := append(checkForm(spec, specType, path), notHere(spec, path)...)
	names := Fields(spec).paths()
	if len(errs) == 0 {
		errs = f.saidTwice(spec, names, others, path)
	}
	if len(errs) == 0 {
		maps.Copy(f, merged(f, spec))
		errs = f.check(names, path)
	}
	return brief(errs, path)
}

// notHere refuses what has its own place.
func notHere(spec Fields, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, name := range slices.Sorted(maps.Keys(elsewhereInSpec)) {
		if value, ok := spec[name]; ok {
			errs = append(errs, field.Invalid(path.Child(name), shown(value), "is not taken from here: "+elsewhereInSpec[name]))
		}
	}
	return errs
}

func (f Fields) saidTwice(spec Fields, names []string, others said, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, name := range names {
		value := spec.at(name)
		if key := others.by(name, value, f); key != "" {
			errs = append(errs, field.Invalid(path.Child(name), shown(value), fmt.Sprintf("%s says it as well; accepted: one of the two", key)))
		}
	}
	return errs
}

// brief keeps errors short and few enough for an event and an annotation, whatever the user's keys and values are.
func brief(errs field.ErrorList, path *field.Path) field.ErrorList {
	const most = 10
	errs = errs[:min(len(errs), most)]
	for _, err := range errs {
		rest := strings.TrimPrefix(err.Field, path.String())
		err.Field, err.Detail = path.String()+clipTo(rest, 160), clipTo(err.Detail, 500)
	}
	return errs
}

// readSpec reads one object. Who writes a key twice, or a second document, means something that would be lost.
func readSpec(raw string) (map[string]any, error) {
	text, err := yaml.YAMLToJSONStrict([]byte(raw))
	if err != nil {
		return nil, fmt.Errorf("it cannot be read: %s", clip(strings.ReplaceAll(err.Error(), "\n", " ")))
	}
	documents := yamlv2.NewDecoder(strings.NewReader(raw))
	for n := 0; ; n++ {
		if err := documents.Decode(new(any)); errors.Is(err, io.EOF) {
			break
		} else if err != nil || n > 0 {
			return nil, errors.New("it has more than one document")
		}
	}
	var spec map[string]any
	if err := utiljson.Unmarshal(text, &spec); err != nil || spec == nil {
		return nil, errors.New("it is not an object")
	}
	return spec, nil
}

// check asks the API's own rules about all that the annotations name, and keeps what they hold against the fields of sluice.dev/spec. What
// depends on fields that somebody else may write on the TrafficShift is left to the API server, which sees all of them.
func (f Fields) check(names []string, path *field.Path) field.ErrorList {
	if f["strategy"] == nil {
		return nil // what is told of it already must be mended before the rest can be judged
	}
	spec, err := f.spec()
	if err != nil {
		return field.ErrorList{field.Invalid(path, clip(err.Error()), "accepted: "+specForm)}
	}
	spec.Default()
	var errs field.ErrorList
	for _, err := range spec.Validate(path) {
		at := strings.TrimPrefix(strings.TrimPrefix(err.Field, path.String()), ".")
		if at == "httpsRedirect" || stepGate.MatchString(at) || !slices.ContainsFunc(names, func(name string) bool { return within(at, name) || within(name, at) }) {
			continue
		}
		if err.Type == field.ErrorTypeForbidden {
			err.Type = field.ErrorTypeInvalid // the annotation is known: one of its fields cannot be
		}
		err.BadValue = shown(orElse(err.BadValue, f.at(at)))
		errs = append(errs, err)
	}
	return errs
}

// within reports whether a field is another one or a part of it.
func within(path, of string) bool {
	rest, ok := strings.CutPrefix(path, of)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

func orElse(value, other any) any {
	if text, ok := value.(string); value == nil || ok && text == "" {
		return other
	}
	return value
}

// shown is a value as it was written, short enough for an event.
func shown(value any) any {
	switch v := reflect.ValueOf(value); {
	case v.Kind() == reflect.String:
		return clip(v.String())
	case v.CanInt() || v.CanFloat() || v.Kind() == reflect.Bool:
		return value
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return clip(fmt.Sprint(value))
	}
	return clip(strings.TrimSpace(out.String()))
}

// merged are the fields of both, where neither names what the other does.
func merged(a, b map[string]any) map[string]any {
	out := maps.Clone(a)
	for key, theirs := range b {
		mine, ok := out[key].(map[string]any)
		parts, ok2 := theirs.(map[string]any)
		if ok && ok2 {
			out[key] = merged(mine, parts)
			continue
		}
		out[key] = theirs
	}
	return out
}
