package v1alpha1

// Paused reports whether the weights stay where they are. What the annotation says wins over the field: git does not revert it.
func (t *TrafficShift) Paused() bool {
	switch t.Annotations[AnnotationPaused] {
	case "true":
		return true
	case "false":
		return false
	}
	return t.Spec.Paused
}
