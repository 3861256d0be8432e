package query

import (
	"errors"
	"fmt"
)

// Why there is no evidence, for errors.Is. None of these is a verdict: missing evidence holds a shift, and never moves it.
var (
	// ErrUnreachable: Prometheus did not answer in time, answered 5xx, or answered only in part.
	ErrUnreachable = errors.New("unreachable")
	// ErrRefused: Prometheus answered 4xx: no permission, or a limit of its own.
	ErrRefused = errors.New("refused")
	// ErrNoSeries: Prometheus answers but has never had a series of this service and its versions.
	ErrNoSeries = errors.New("no series")
	// ErrNoMetric is ErrNoSeries where Prometheus has istio_requests_total of nothing at all; or istio_tcp_connections_opened_total, for connections.
	ErrNoMetric = fmt.Errorf("%w: no metric", ErrNoSeries)
	// ErrNoLabels is ErrNoSeries where the service is counted, without the labels that tell versions apart.
	ErrNoLabels = fmt.Errorf("%w: labels are missing", ErrNoSeries)
	// ErrNoTraffic is ErrNoSeries where other services are counted and this one is not, or its versions are not.
	ErrNoTraffic = fmt.Errorf("%w: no traffic", ErrNoSeries)
	// ErrStale: the newest sample is older than MaxAge.
	ErrStale = errors.New("stale evidence")
	// ErrNoConnection: there is no such connection, or it is not for that namespace.
	ErrNoConnection = errors.New("not allowed")
	// ErrNotYet: there was no look since the key is watched, or none after the time asked for.
	ErrNotYet = errors.New("not looked yet")
)
