// Package query reads evidence from Prometheus: it builds the PromQL, asks in bounded time, and turns counters into counts.
//
//	client, err := query.NewClient("http://prometheus.istio-system:9090", nil)
//	collector := query.NewCollector(client, query.Options{Interval: 5 * time.Second, Observer: exporter})
//	mgr.Add(collector)                                  // Start, NeedLeaderElection
//	collector.Watch(key, subject)                       // a shift began
//	for key := range collector.Updates() { ... }        // enqueue it
//	sample, err := collector.Since(ctx, key, countedTo) // in Reconcile; sample.To is the next countedTo
//	collector.Unwatch(key)                              // a shift is at rest
//
// A look costs one query of each kind for up to Options.Chunk subjects: "requests" and "freshness" always, "durations" where a
// subject asks about latency, and "bounds" and "up" only until the histogram bound is known and Prometheus has been scraping
// for MaxAge. Counters come as raw instant vectors and are differenced series by series (ledger), because rate and increase
// drop the first value of a new series, and a sum hides resets.
package query
