package v1alpha1

// Prefix is what every key of ours starts with.
const Prefix = "sluice.dev/"

// Keys that a user writes on a Deployment. controllers/shim holds the table that parses them.
const (
	AnnotationStrategy     = Prefix + "strategy"
	AnnotationSteps        = Prefix + "steps"
	AnnotationHold         = Prefix + "hold"
	AnnotationMaxErrorRate = Prefix + "max-error-rate"
	AnnotationMaxLatency   = Prefix + "max-latency"
	AnnotationMaxIncrease  = Prefix + "max-increase"
	AnnotationMaxFailed    = Prefix + "max-failed-requests"
	AnnotationReporter     = Prefix + "reporter"
	AnnotationPrometheus   = Prefix + "prometheus"
	AnnotationMinRequests  = Prefix + "min-requests"
	AnnotationHosts        = Prefix + "hosts"
	AnnotationGateway      = Prefix + "gateway"
	AnnotationService      = Prefix + "service"
	AnnotationRouting      = Prefix + "routing"
	AnnotationReplicas     = Prefix + "replicas"
	AnnotationCapacity     = Prefix + "capacity"
	AnnotationThreshold    = Prefix + "ready-threshold"
	AnnotationAutoscaler   = Prefix + "autoscaler"
	AnnotationTracking     = Prefix + "config-tracking"
	AnnotationDrain        = Prefix + "drain"
	AnnotationDeadline     = Prefix + "deadline"
	AnnotationBake         = Prefix + "bake"
	AnnotationKeepRejected = Prefix + "keep-rejected"
	AnnotationPaused       = Prefix + "paused"

	AnnotationMatch        = Prefix + "match"
	AnnotationTestDuration = Prefix + "test-duration"
	AnnotationConclude     = Prefix + "conclude"
	AnnotationSession      = Prefix + "session"
	AnnotationPreview      = Prefix + "preview"
	AnnotationTLSSecret    = Prefix + "tls-secret"
	AnnotationTimeout      = Prefix + "timeout"
	AnnotationRetries      = Prefix + "retries"
	AnnotationAttach       = Prefix + "virtual-service"
	AnnotationDuration     = Prefix + "duration"
	AnnotationSkipAnalysis = Prefix + "skip-analysis"
	AnnotationSuspend      = Prefix + "suspend"
	AnnotationPolicy       = Prefix + "policy"
	// AnnotationSpec is YAML or JSON of any fields of a TrafficShift's spec, for those that no other key names.
	AnnotationSpec = Prefix + "spec"
)

// Keys that an administrator writes on a Namespace: who may edit a Deployment may not thereby claim a host.
const (
	// AnnotationAllowedHosts lists the hosts (or *.suffix, or *) that shifts of the namespace may ask for.
	AnnotationAllowedHosts = Prefix + "allowed-hosts"
	// AnnotationAllowedGateways lists the gateways (namespace/name, namespace/* or *) they may bind to.
	AnnotationAllowedGateways = Prefix + "allowed-gateways"
)

// AnnotationAllowedNamespaces lists, on a VirtualService, the namespaces (or *) whose shifts may write its weights, beside its own: who may edit a
// TrafficShift may not thereby edit the routes of others.
const AnnotationAllowedNamespaces = Prefix + "allowed-namespaces"

// TrackingDisabled is the value of sluice.dev/config-tracking on a ConfigMap or Secret whose changes are no release.
const TrackingDisabled = "disabled"

// Intents: keys that a person writes on a TrafficShift, where git does not revert them. The value names the version that is
// meant, so that an intent left behind does nothing to the next release.
const (
	// AnnotationAbort ("v2") takes that candidate back to weight 0 and rejects it.
	AnnotationAbort = Prefix + "abort"
	// AnnotationRetry ("v2") tries a rejected version again.
	AnnotationRetry = Prefix + "retry"
	// AnnotationApprove ("v2") answers the manual gate that holds that candidate.
	AnnotationApprove = Prefix + "approve"
	// AnnotationPromote ("v2", "v2@20", "v2/all", "v2/skip-gates") takes that candidate on past what it has earned.
	AnnotationPromote = Prefix + "promote"
	// AnnotationUndo ("v1", "previous") writes the template of that version into the Deployment again.
	AnnotationUndo = Prefix + "undo"
	// AnnotationRestart ("v2") replaces the pods of the stable version.
	AnnotationRestart = Prefix + "restart"
	// AnnotationDetach ("true") hands the service back to its Deployment and keeps it so.
	AnnotationDetach = Prefix + "detach"
	// AnnotationExtends ("true") says that a TrafficShift written by hand adds to the annotations of its Deployment, and does not
	// stand in their place.
	AnnotationExtends = Prefix + "extends-annotations"
	// AnnotationForce ("true") lets a detach go on although the template is not the stable version.
	AnnotationForce = Prefix + "force"
)

// Keys and labels that Sluice itself writes.
const (
	// AnnotationHeld ("true") marks a Deployment that Sluice holds as a template: it runs no pods of its own.
	AnnotationHeld = Prefix + "held"
	// AnnotationLastWish is the last spec.replicas that somebody wrote on the template on purpose.
	AnnotationLastWish = Prefix + "last-wish"
	// AnnotationInvalid, on a TrafficShift, is what is wrong with the annotations of its Deployment; its spec is the last that was
	// accepted.
	AnnotationInvalid = Prefix + "invalid-annotations"
	// AnnotationReplaced remembers, as JSON, the template labels of the user's that Sluice replaced.
	AnnotationReplaced = Prefix + "replaced-labels"
	// AnnotationRestartedAt, on the pods of a version, is when they were last restarted.
	AnnotationRestartedAt = Prefix + "restarted-at"
	// AnnotationAttached, on our DestinationRule, is the user's VirtualService that carries the weights, as JSON, with what Sluice
	// replaced in it; a list of them where there are several.
	AnnotationAttached = Prefix + "attached"
	// AnnotationVerdict is how a recorded version fared: Promoted, or the reason it was rejected for.
	AnnotationVerdict = Prefix + "verdict"
	// AnnotationChangedBy is the field manager that wrote the recorded template.
	AnnotationChangedBy = Prefix + "changed-by"
	// AnnotationConfig are, as JSON, digests of the ConfigMaps and Secrets that a recorded version was started with.
	AnnotationConfig = Prefix + "config"
	// AnnotationChangeCause is kubectl's own key for why a template changed.
	AnnotationChangeCause = "kubernetes.io/change-cause"

	// AnnotationRoutedService, on the Service of one version that routes of the Gateway API send requests to, names the Service whose
	// requests they are.
	AnnotationRoutedService = Prefix + "routed-service"

	// AnnotationPausedFor, on a ScaledObject of the user's, names the TrafficShift for which Sluice has paused it.
	AnnotationPausedFor = Prefix + "paused-for"

	// LabelShift carries the TrafficShift's name on everything made for it.
	LabelShift = Prefix + "shift"
	// LabelVersion ("micro-api-v2") tells the pods of one version from every other pod.
	LabelVersion = Prefix + "version"
	// LabelIstioVersion is the label that Kiali and Istio's own dashboards split versions by.
	LabelIstioVersion = "version"
	// LabelCanonicalRevision decides destination_canonical_revision before app.kubernetes.io/version does (Istio pkg/kube/labels).
	LabelCanonicalRevision = "service.istio.io/canonical-revision"
	// LabelManagedBy and ManagedBy mark what Sluice owns.
	LabelManagedBy = "app.kubernetes.io/managed-by"
	ManagedBy      = "sluice"

	// Finalizer keeps a TrafficShift until its service is handed back.
	Finalizer = Prefix + "detach"
	// FieldManager is the one field manager that Sluice writes with.
	FieldManager = "sluice"
)
