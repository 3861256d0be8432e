package shim

import (
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"

	sluice "github.com/sluice-dev/sluice/api/v1alpha1"
)

// What a decoder says of a wrong value names neither its path nor what would be right. So the form of a spec is held to its Go type here,
// field by field, before it is decoded.
var (
	specType     = reflect.TypeFor[sluice.TrafficShiftSpec]()
	durationType = reflect.TypeFor[metav1.Duration]()
	rawType      = reflect.TypeFor[apiextensionsv1.JSON]()
	weightType   = reflect.TypeFor[intstr.IntOrString]()

	// schemaDuration is the pattern that the schema has for every duration.
	schemaDuration = regexp.MustCompile(`^([0-9]{1,5}(\.[0-9]{1,9})?(ms|s|m|h))+$`)
	// stepGate is a gate that a step names: it may be one that is written on the TrafficShift.
	stepGate = regexp.MustCompile(`^steps\[[0-9]+\]\.gates\[[0-9]+\]$`)
)

// checkForm returns what of a value does not decode into a type, and every field that the type does not have.
func checkForm(value any, t reflect.Type, path *field.Path) field.ErrorList {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	want := ""
	switch {
	case value == nil:
		want = "a value; leave the field out to say nothing"
	case t == durationType:
		if text, ok := value.(string); !ok || len(text) > 32 || !schemaDuration.MatchString(text) {
			want = `a duration, such as "90s" or "1h30m"`
		}
	case t == weightType:
		n, number := value.(int64)
		if _, text := value.(string); !text && !(number && n == int64(int32(n))) {
			want = `a whole number, or text in quotes, such as 5 or "0.5"`
		}
	case t == rawType:
		if _, ok := value.(map[string]any); ok {
			return checkRaw(value, path)
		}
		want = "an object"
	default:
		return checkKind(value, t, path)
	}
	return wrong(value, want, path)
}

func checkKind(value any, t reflect.Type, path *field.Path) field.ErrorList {
	want := ""
	switch t.Kind() {
	case reflect.Struct:
		if object, ok := value.(map[string]any); ok {
			return checkObject(object, t, path)
		}
		want = "an object with any of " + strings.Join(slices.Sorted(maps.Keys(fieldsOf(t))), ", ")
	case reflect.Slice:
		if list, ok := value.([]any); ok {
			return checkList(list, t.Elem(), path)
		}
		want = "a list"
	case reflect.Bool:
		if _, ok := value.(bool); !ok {
			want = "true or false"
		}
	case reflect.Int, reflect.Int32, reflect.Int64:
		if n, ok := value.(int64); !ok || reflect.Zero(t).OverflowInt(n) {
			want = "a whole number"
		}
	case reflect.String:
		if _, ok := value.(string); !ok {
			want = "text: put it in quotes"
		}
	default:
		want = "a field that annotations can write; this one is a " + t.String() // held by a test: there is none
	}
	return wrong(value, want, path)
}

func wrong(value any, want string, path *field.Path) field.ErrorList {
	if want == "" {
		return nil
	}
	return field.ErrorList{field.Invalid(path, shown(value), "accepted: "+want)}
}

// checkObject names the fields that there are to who writes another one.
func checkObject(object map[string]any, t reflect.Type, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	known := fieldsOf(t)
	for _, name := range slices.Sorted(maps.Keys(object)) {
		if of, ok := known[name]; ok {
			errs = append(errs, checkForm(object[name], of, path.Child(name))...)
			continue
		}
		names := slices.DeleteFunc(slices.Sorted(maps.Keys(known)), func(n string) bool { return t == specType && elsewhereInSpec[n] != "" })
		hint := "accepted: " + strings.Join(names, ", ")
		if near, ok := nearest(name, names); ok {
			hint = fmt.Sprintf("did you mean %s?", near)
		}
		errs = append(errs, field.Invalid(path.Child(name), shown(object[name]), "no such field; "+hint))
	}
	return errs
}

func checkList(list []any, of reflect.Type, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, item := range list {
		errs = append(errs, checkForm(item, of, path.Index(i))...)
	}
	return errs
}

// checkRaw passes what is Istio's own. A null in it would be dropped on one way and kept on another.
func checkRaw(value any, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch value := value.(type) {
	case nil:
		return checkForm(nil, rawType, path)
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(value)) {
			errs = append(errs, checkRaw(value[name], path.Child(name))...)
		}
	case []any:
		for i, item := range value {
			errs = append(errs, checkRaw(item, path.Index(i))...)
		}
	}
	return errs
}

// fieldsOf are the fields of a struct, by the names that they have in JSON.
func fieldsOf(t reflect.Type) map[string]reflect.Type {
	fields := map[string]reflect.Type{}
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		fields[name] = t.Field(i).Type
	}
	return fields
}
