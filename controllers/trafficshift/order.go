package trafficshift

import (
	"cmp"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

// named orders objects by namespace and name. A cache lists them in any order, which must not show in what is written.
func named[O client.Object](a, b O) int {
	return cmp.Or(cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetName(), b.GetName()))
}

// aged orders objects by their age, the oldest first.
func aged[O client.Object](a, b O) int {
	return cmp.Or(a.GetCreationTimestamp().Time.Compare(b.GetCreationTimestamp().Time), named(a, b))
}
