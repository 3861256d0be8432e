package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// The kinds that a pod template takes its configuration from.
const (
	ConfigMap = "ConfigMap"
	Secret    = "Secret"
)

// ConfigRef is a ConfigMap or Secret that a pod template refers to.
type ConfigRef struct {
	// Kind and Name say which.
	Kind, Name string
	// Keys are those that the template takes, sorted; none takes all.
	Keys []string
	// Optional is whether pods start without it.
	Optional bool
}

// ConfigRefs are the ConfigMaps and Secrets that reach a template's containers, by environment or by volume, in a fixed order. What pulls its
// images does not.
func ConfigRefs(template *corev1.PodTemplateSpec) []ConfigRef {
	refs := refSet{}
	for _, c := range slices.Concat(template.Spec.InitContainers, template.Spec.Containers) {
		refs.addEnvironment(c)
	}
	for _, v := range template.Spec.Volumes {
		refs.addVolume(v)
	}
	sorted := make([]ConfigRef, 0, len(refs))
	for _, id := range slices.Sorted(maps.Keys(refs)) {
		ref := *refs[id]
		slices.Sort(ref.Keys)
		ref.Keys = slices.Compact(ref.Keys)
		sorted = append(sorted, ref)
	}
	return sorted
}

// ID tells references apart: "ConfigMap/settings".
func (r ConfigRef) ID() string { return r.Kind + "/" + r.Name }

// refSet is references by their ID; nil keys take all.
type refSet map[string]*ConfigRef

func (s refSet) addEnvironment(c corev1.Container) {
	for _, from := range c.EnvFrom {
		if ref := from.ConfigMapRef; ref != nil {
			s.add(ConfigMap, ref.Name, ref.Optional)
		}
		if ref := from.SecretRef; ref != nil {
			s.add(Secret, ref.Name, ref.Optional)
		}
	}
	for _, env := range c.Env {
		if env.ValueFrom == nil {
			continue
		}
		if ref := env.ValueFrom.ConfigMapKeyRef; ref != nil {
			s.add(ConfigMap, ref.Name, ref.Optional, ref.Key)
		}
		if ref := env.ValueFrom.SecretKeyRef; ref != nil {
			s.add(Secret, ref.Name, ref.Optional, ref.Key)
		}
	}
}

func (s refSet) addVolume(v corev1.Volume) {
	if ref := v.ConfigMap; ref != nil {
		s.add(ConfigMap, ref.Name, ref.Optional, keysOf(ref.Items)...)
	}
	if ref := v.Secret; ref != nil {
		s.add(Secret, ref.SecretName, ref.Optional, keysOf(ref.Items)...)
	}
	if v.Projected == nil {
		return
	}
	for _, from := range v.Projected.Sources {
		if ref := from.ConfigMap; ref != nil {
			s.add(ConfigMap, ref.Name, ref.Optional, keysOf(ref.Items)...)
		}
		if ref := from.Secret; ref != nil {
			s.add(Secret, ref.Name, ref.Optional, keysOf(ref.Items)...)
		}
	}
}

func keysOf(items []corev1.KeyToPath) []string {
	keys := make([]string, 0, len(items))
	for _, item := range items {
		keys = append(keys, item.Key)
	}
	return keys
}

func (s refSet) add(kind, name string, optional *bool, keys ...string) {
	ref := ConfigRef{Kind: kind, Name: name, Keys: keys, Optional: optional != nil && *optional}
	was, ok := s[ref.ID()]
	if !ok {
		s[ref.ID()] = &ref
		return
	}
	was.Optional = was.Optional && ref.Optional
	if len(was.Keys) == 0 || len(keys) == 0 {
		was.Keys = nil
		return
	}
	was.Keys = append(was.Keys, keys...)
}

// Absent is the digest of an optional ConfigMap or Secret that is not there.
const Absent = "absent"

// Digest is the digest of what a reference takes of the data. It depends on names and bytes alone, so that it is the same from every version of
// the API server and of Sluice: a change of this function would release every service that tracks its configuration.
func (r ConfigRef) Digest(data map[string][]byte) string {
	taken := map[string][]byte{}
	for key, value := range data {
		if len(r.Keys) == 0 || slices.Contains(r.Keys, key) {
			taken[key] = append([]byte{}, value...) // never nil: a reader may tell nothing from empty, today or tomorrow
		}
	}
	text, _ := json.Marshal(taken) // a map of bytes always marshals, its keys sorted and its values in base64
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}

// Config is the configuration that a version runs with: digests by ConfigRef.ID.
type Config map[string]string

// RecordedConfig reads back what a version was recorded with; nothing where it was not tracked then.
func RecordedConfig(record *appsv1.ControllerRevision) Config {
	config := Config{}
	if err := json.Unmarshal([]byte(record.Annotations[v1alpha1.AnnotationConfig]), &config); err != nil {
		return nil // none, or edited by hand: it is recorded anew
	}
	return config
}

// Changed lists what differs from a recorded configuration. What was not recorded has not changed: it came to be tracked since.
func (c Config) Changed(recorded Config) []string {
	var changed []string
	for _, id := range slices.Sorted(maps.Keys(c)) {
		if was, ok := recorded[id]; ok && was != c[id] {
			changed = append(changed, id)
		}
	}
	return changed
}

// recording is the annotation that adds this configuration to a recorded one.
func (c Config) recording(recorded Config) string {
	text, _ := json.Marshal(merge(c, recorded)) // a map of strings always marshals, with its keys sorted
	return string(text)
}
