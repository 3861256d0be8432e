package v1alpha1

// Capacity is how the stable version's pods follow its weight while a candidate is on its way.
//
// +kubebuilder:validation:Enum=full;proportional
type Capacity string

// The capacities.
const (
	// CapacityFull keeps the stable version at full strength until the candidate is promoted: it can take everything back at once.
	CapacityFull Capacity = "full"
	// CapacityProportional gives both versions the pods that their weights need.
	CapacityProportional Capacity = "proportional"
)
