// Package lab is a mesh on loopback for the demo, the end-to-end tests and the benchmarks: real etcd, kube-apiserver,
// kube-controller-manager, istiod and Prometheus, and a node agent whose pods are listeners in this process (or, for the
// controller's own image, real child processes). The data plane is given to it, see Options.DataPlane.
//
//	l, err := lab.Start(ctx, lab.Options{Progress: func(line string) { ... }})
//	defer l.Stop()
//
// What a lab exposes, and to whom:
//
//	l.Client          controller-runtime client: client-go types, Istio networking v1, CRDs, and Options.AddToScheme
//	l.REST            *rest.Config of the administrator; l.Kubeconfig is the same as a file
//	l.Network         *network.Network: DialContext reaches "podIP:port"
//	l.XDSAddress      "127.0.0.1:port", istiod's plaintext gRPC
//	l.IstiodHTTP      "http://127.0.0.1:port", istiod's debug pages
//	l.PrometheusURL   "http://127.0.0.1:port"
//	l.LogDir          one file per component and per controller container
//	l.Agent           *node.Agent: Kill(pod) and Process(pod)
//	l.Endpoints()     name and value of everything a person may want to reach, for "lab up"
//	l.Failed(), l.Err()   a component that died unexpectedly, with its last log lines
//
//	l.AddScrapeTarget(job, "127.0.0.1:port", "/metrics", labels), l.RemoveScrapeTarget(job, address)
//	l.StopPrometheus(), l.StartPrometheus(ctx)   SIGKILL and restart: same port, same data
//	l.StopIstiod(), l.StartIstiod(ctx)
//
// Programs and TestMains call lab.Quiet first, unless they like to read client-go's log.
//
// The lab lives until Stop or until the context given to Start ends, whichever comes first.
package lab
