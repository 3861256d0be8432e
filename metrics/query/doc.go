// Package query reads evidence from Prometheus: it builds the PromQL, asks in bounded time, and turns counters into counts.
//
//	named, err := query.ReadConnections("prometheus.yaml")
//	connections, err := query.NewConnections(named, query.Options{Interval: 5 * time.Second, Observer: exporter})
//	mgr.Add(connections)                                  // Start, NeedLeaderElection
//	err = connections.Watch(key, "default", subject)      // a shift began
//	for key := range connections.Updates() { ... }        // enqueue it
//	sample, err := connections.Since(ctx, key, countedTo) // in Reconcile; sample.To is the next countedTo
//	past, err := connections.History(ctx, key, sample.From)
//	for _, r := range connections.Readings(key) { ... }   // the user's own queries
//	connections.Unwatch(key)                              // a shift is at rest
//
// A look costs one query of each kind for up to Options.Chunk subjects: "requests" and "freshness" always, "durations" where a
// subject asks about latency, and "bounds" and "up" only until the histogram bound is known and Prometheus has been scraping
// for MaxAge; and one "custom" query for each of a subject's own. Counters come as raw instant vectors and are differenced series
// by series (ledger), because rate and increase drop the first value of a new series, and a sum hides resets.
//
// A series counts for a version by its workload and namespace, through whatever Service the request came; what failed before a host
// was chosen counts for the Service that was named.
//
// Every connection must lead to one Prometheus, or to several as one (Thanos, Mimir): replicas that take turns behind one address
// show counters going back, which reads as a reset.
package query
