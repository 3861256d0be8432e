// Package webhook asks the webhooks of gates, outside of every reconcile, and keeps what they answered.
//
//	caller := webhook.NewCaller(webhook.Options{Hosts: hosts, SigningKey: webhook.KeyFile(path), Observer: exporter})
//	mgr.Add(caller)                                // Start, NeedLeaderElection
//	caller.Watch(key, questions)                   // a candidate is being judged
//	for key := range caller.Updates() { ... }      // enqueue it
//	for _, a := range caller.Answers(key) { ... }  // in Reconcile
//	caller.Unwatch(key)                            // it no longer is
//
// A question is a POST of a CloudEvent (event.go), signed where there is a key (signature.go). 2xx passes; 409 and 425 say to wait;
// anything else is an error, which is asked again a few times and then means what the gate's onError says. Who may write a gate
// chooses the URL, so only Services of the shift's own namespace and hosts that the administrator lists are called (hosts.go), redirects are not followed, a proxy of the
// environment is not used, and little of an answer is read or shown.
//
// Receivers written in Go can import this package for Verify and Event.
package webhook
