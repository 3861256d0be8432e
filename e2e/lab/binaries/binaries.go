// Package binaries builds the programs that a lab runs, each from a small Go module of its own, and keeps them. Nothing is
// downloaded but Go modules.
package binaries

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/sluice-dev/sluice/e2e/lab/lock"
)

// Set names the programs of a lab.
type Set struct {
	Etcd, APIServer, ControllerManager, Istiod, Prometheus string
	// MeshCheck validates mesh configuration with Istio's own code. It is empty where the module does not have it.
	MeshCheck string
}

// binary is a row of the table of programs.
type binary struct {
	name    string
	module  string // folder under e2e/tools
	pkg     string
	tags    string
	stamped bool   // carries the Kubernetes version
	cold    string // how long the first build takes on two cores
}

var table = []binary{
	{name: "etcd", module: "etcd", pkg: "go.etcd.io/etcd/server/v3", cold: "half a minute"},
	{name: "kube-apiserver", module: "kubernetes", pkg: "k8s.io/kubernetes/cmd/kube-apiserver", stamped: true, cold: "4 minutes"},
	{name: "kube-controller-manager", module: "kubernetes", pkg: "k8s.io/kubernetes/cmd/kube-controller-manager", stamped: true, cold: "1 minute"},
	{name: "pilot-discovery", module: "istio", pkg: "istio.io/istio/pilot/cmd/pilot-discovery", cold: "4 minutes"},
	{name: "prometheus", module: "prometheus", pkg: "github.com/prometheus/prometheus/cmd/prometheus", tags: "remove_all_sd", cold: "3 minutes"},
	{name: "meshcheck", module: "istio", pkg: "./meshcheck", cold: "1 minute"},
}

// Dir is where the programs are kept.
func Dir(root string) string { return filepath.Join(root, "bin", "lab") }

// Build brings every program of the lab up to date, telling progress what it does. With nothing to do it takes
// milliseconds. Ending ctx ends the build.
func Build(ctx context.Context, root string, progress func(string)) (Set, error) {
	if _, err := exec.LookPath("go"); err != nil {
		return Set{}, errors.New("the lab builds its programs with Go, and there is no \"go\" in PATH: install Go (https://go.dev/dl)")
	}
	if err := os.MkdirAll(Dir(root), 0o755); err != nil {
		return Set{}, fmt.Errorf("build the lab's programs: %w", err)
	}
	l, err := lock.Wait(ctx, filepath.Join(Dir(root), ".lock"), func() {
		progress("another process is building the lab's programs, waiting for it ...")
	})
	if err != nil {
		return Set{}, fmt.Errorf("build the lab's programs: %w", err)
	}
	defer l.Release()

	present := presentIn(root)
	paths := map[string]string{}
	for i, b := range present {
		path, err := b.ensure(ctx, root, func() {
			progress(fmt.Sprintf("building %s (%d of %d, about %s the first time) ...", b.name, i+1, len(present), b.cold))
		})
		if err != nil {
			return Set{}, err
		}
		paths[b.name] = path
	}
	return Set{
		Etcd: paths["etcd"], APIServer: paths["kube-apiserver"], ControllerManager: paths["kube-controller-manager"],
		Istiod: paths["pilot-discovery"], Prometheus: paths["prometheus"], MeshCheck: paths["meshcheck"],
	}, nil
}

// presentIn leaves out the programs whose sources belong to this repository and are not in it.
func presentIn(root string) []binary {
	var present []binary
	for _, b := range table {
		if src := b.sources(root); src != "" {
			if _, err := os.Stat(src); err != nil {
				continue
			}
		}
		present = append(present, b)
	}
	return present
}

// Root finds the repository around the working directory.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the repository: %w", err)
	}
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, "e2e", "tools", "kubernetes", "go.mod")); err == nil {
			return d, nil
		}
		if d == filepath.Dir(d) {
			return "", fmt.Errorf("find the repository: no folder around %s has e2e/tools", dir)
		}
	}
}
