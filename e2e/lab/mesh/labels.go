package mesh

import (
	"slices"
	"strconv"
	"time"

	"github.com/sluice-dev/sluice/e2e/lab/workload"
)

// durationBuckets are Envoy's default histogram bounds in milliseconds.
var durationBuckets = []float64{
	0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000,
}

// labelNames are those of Istio's standard metrics. record.labels gives values in the same order.
var labelNames = []string{
	"reporter",
	"source_workload", "source_workload_namespace", "source_principal", "source_app", "source_version",
	"source_canonical_service", "source_canonical_revision", "source_cluster",
	"destination_workload", "destination_workload_namespace", "destination_principal", "destination_app", "destination_version",
	"destination_service", "destination_service_name", "destination_service_namespace",
	"destination_canonical_service", "destination_canonical_revision", "destination_cluster",
	"request_protocol", "response_code", "grpc_response_status", "response_flags", "connection_security_policy",
}

// connectionLabelNames are those of the metrics of connections, which have no answer.
var connectionLabelNames = slices.DeleteFunc(slices.Clone(labelNames), func(name string) bool {
	return name == "response_code" || name == "grpc_response_status"
})

const (
	unknown     = "unknown"
	latest      = "latest"
	clusterName = "Kubernetes"
)

// party is one end of a request, as a proxy knows it. Empty fields are unknown.
type party struct {
	Workload  string `json:"workload,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	App       string `json:"app,omitempty"`
	Version   string `json:"version,omitempty"`
	Service   string `json:"service,omitempty"`
	Revision  string `json:"revision,omitempty"`
	Cluster   string `json:"cluster,omitempty"`
}

func partyOf(id workload.Identity) party {
	return party{
		Workload: id.Workload, Namespace: id.Namespace, App: id.App, Version: id.Version,
		Service: id.CanonicalService, Revision: id.CanonicalRevision, Cluster: clusterName,
	}
}

// service is what a request was for.
type service struct{ host, name, namespace string }

// record is one finished request, as its labels tell it.
type record struct {
	// reporter is "source" or "destination".
	reporter     string
	source, dest party
	service      service
	grpc         bool
	code         int
	// grpcStatus is "" unless grpc and an answer named one.
	grpcStatus string
	flags      flags
	duration   time.Duration
}

func (r record) labels() []string {
	protocol, security := "http", unknown
	if r.grpc {
		protocol = "grpc"
	}
	if r.reporter == reporterDestination {
		// The lab's mesh is plaintext, which only the receiving side says.
		security = "none"
	}
	s, d := r.source, r.dest
	return []string{
		r.reporter,
		or(s.Workload, unknown), or(s.Namespace, unknown), unknown, or(s.App, unknown), or(s.Version, unknown),
		or(s.Service, unknown), or(s.Revision, latest), or(s.Cluster, unknown),
		or(d.Workload, unknown), or(d.Namespace, unknown), unknown, or(d.App, unknown), or(d.Version, unknown),
		or(r.service.host, unknown), or(r.service.name, unknown), or(r.service.namespace, d.Namespace, unknown),
		or(d.Service, unknown), or(d.Revision, latest), or(d.Cluster, unknown),
		protocol, strconv.Itoa(r.code), r.grpcStatus, r.flags.String(), security,
	}
}

// connectionLabels are the values for connectionLabelNames.
func (r record) connectionLabels() []string {
	var values []string
	for i, value := range r.labels() {
		switch labelNames[i] {
		case "response_code", "grpc_response_status":
		case "request_protocol":
			values = append(values, "tcp")
		default:
			values = append(values, value)
		}
	}
	return values
}

const (
	reporterSource      = "source"
	reporterDestination = "destination"
)

// or returns the first value that is not empty.
func or(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
