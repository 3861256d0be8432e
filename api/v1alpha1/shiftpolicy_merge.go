package v1alpha1

import (
	"reflect"
	"slices"
	"strings"
)

// Origin is where the value of a field of a stored spec comes from. The API server fills defaults in, so that the value alone does not
// tell.
type Origin int

// The origins.
const (
	// OriginUnknown: the value is the schema's default, and nothing tells whether somebody wrote it.
	OriginUnknown Origin = iota
	// OriginWritten: somebody wrote it.
	OriginWritten
	// OriginDefault: the API server filled it in.
	OriginDefault
)

// Over returns these settings, with those of base where these have none. How the weights are chosen is one setting: who writes pacing or
// steps leaves nothing of the other to base. Gates come together: one of base's is replaced by one of the same name, and never lost.
func (d ShiftDefaults) Over(base ShiftDefaults) ShiftDefaults {
	out := *base.DeepCopy()
	if d.Pacing != "" || len(d.Steps) > 0 {
		out.Pacing, out.Steps = "", nil
	}
	gates := slices.Clone(d.Gates)
	for _, g := range out.Gates {
		if !slices.ContainsFunc(d.Gates, func(own Gate) bool { return own.Name == g.Name }) {
			gates = append(gates, g)
		}
	}
	from, to := reflect.ValueOf(*d.DeepCopy()), reflect.ValueOf(&out).Elem()
	for i := range from.NumField() {
		if !empty(from.Field(i)) {
			to.Field(i).Set(from.Field(i))
		}
	}
	out.Gates = gates
	return out
}

// Settings returns the settings of a spec that services can share.
func (s *TrafficShiftSpec) Settings() ShiftDefaults {
	var d ShiftDefaults
	spec, settings := reflect.ValueOf(s).Elem(), reflect.ValueOf(&d).Elem()
	for i := range settings.NumField() {
		settings.Field(i).Set(spec.FieldByName(settings.Type().Field(i).Name))
	}
	return *d.DeepCopy()
}

// Inherit takes settings from a policy where the spec has none, and returns the names of those that it took. Origin tells where a field
// comes from that has its default. A default that somebody may have written gives way to what is stricter alone: doubt never makes a
// limit looser.
func (s *TrafficShiftSpec) Inherit(policy ShiftDefaults, origin func(field string) Origin) (taken []string) {
	if len(s.Hosts) == 0 || s.GatewayTLS != nil {
		policy.Gateways = nil // which serve hosts, and end their TLS themselves
	}
	if s.Strategy != "" && s.Strategy != StrategyCanary {
		policy.Pacing, policy.Steps = "", nil // a canary's
	}
	if s.Duration != nil {
		policy.Hold, policy.Pacing = nil, "" // in whose place it stands
	}
	own := s.own(policy, origin)
	merged := own.Over(policy)
	spec, was, is := reflect.ValueOf(s).Elem(), reflect.ValueOf(own), reflect.ValueOf(merged)
	for i := range is.NumField() {
		f := is.Type().Field(i)
		if empty(is.Field(i)) {
			continue
		}
		spec.FieldByName(f.Name).Set(is.Field(i))
		if !reflect.DeepEqual(was.Field(i).Interface(), is.Field(i).Interface()) {
			taken = append(taken, jsonName(f))
		}
	}
	return taken
}

// own are the settings that the spec itself has: what the schema filled in is not among them.
func (s *TrafficShiftSpec) own(policy ShiftDefaults, origin func(string) Origin) ShiftDefaults {
	own, defaults := s.Settings(), schemaDefaults()
	mine, filled, theirs := reflect.ValueOf(&own).Elem(), reflect.ValueOf(defaults), reflect.ValueOf(policy)
	for i := range mine.NumField() {
		name := jsonName(mine.Type().Field(i))
		if empty(filled.Field(i)) || !reflect.DeepEqual(mine.Field(i).Interface(), filled.Field(i).Interface()) {
			continue
		}
		switch origin(name) {
		case OriginWritten:
		case OriginDefault:
			mine.Field(i).SetZero()
		default:
			if !empty(theirs.Field(i)) && !looser(name, policy, defaults) {
				mine.Field(i).SetZero()
			}
		}
	}
	return own
}

// schemaDefaults are the settings that the API server fills in. Pacing, steps and hold depend on each other: no schema can say them.
func schemaDefaults() ShiftDefaults {
	var s TrafficShiftSpec
	s.Default()
	s.Pacing, s.Steps, s.Hold = "", nil, nil
	return s.Settings()
}

// looser reports whether a policy's setting lets more through than the default does. One that cannot be read does not count as looser:
// it is refused elsewhere.
func looser(name string, policy, than ShiftDefaults) bool {
	ratio := func(a, b Percent) bool {
		x, err := a.Ratio()
		y, err2 := b.Ratio()
		return err == nil && err2 == nil && x > y
	}
	switch name {
	case "maxErrorRate":
		return ratio(policy.MaxErrorRate, than.MaxErrorRate)
	case "maxIncrease":
		return ratio(policy.MaxIncrease, than.MaxIncrease)
	case "maxFailedRequests":
		return *policy.MaxFailedRequests > *than.MaxFailedRequests
	case "minRequests":
		return *policy.MinRequests < *than.MinRequests
	case "deadline":
		return policy.Deadline.Duration > than.Deadline.Duration
	case "bake":
		return policy.Bake.Duration < than.Bake.Duration
	}
	return false
}

func empty(v reflect.Value) bool {
	if v.Kind() == reflect.Slice {
		return v.Len() == 0
	}
	return v.IsZero()
}

func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}
