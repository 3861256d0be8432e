// Package xds is a state-of-the-world ADS client for the lab's data plane: it subscribes to what a router or a sidecar of
// Istio subscribes to, acknowledges it, and offers the result as one immutable Snapshot that is replaced whole.
//
// As in Envoy, a cluster exists only once its endpoints arrived (istiod sets no initial fetch timeout, so it waits for as
// long as that takes), a listener only once its route configuration arrived, and what was good stays in use while the
// stream is down. Listeners are asked for when the first clusters are warm.
//
// It differs from Envoy where a cluster changes: the endpoints that are known stay in use, so that the change takes effect
// at once instead of after another EDS answer.
package xds
