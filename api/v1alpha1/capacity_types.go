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

// Autoscaler is what is done with an autoscaler that targets the Deployment.
//
// +kubebuilder:validation:Enum=refuse;follow
type Autoscaler string

// What is done with it.
const (
	// AutoscalerRefuse does not touch any traffic while an autoscaler targets the Deployment.
	AutoscalerRefuse Autoscaler = "refuse"
	// AutoscalerFollow makes an autoscaler of the same settings for the TrafficShift, and keeps the two in step. A ScaledObject of KEDA's is
	// paused while its Deployment is held.
	AutoscalerFollow Autoscaler = "follow"
)
