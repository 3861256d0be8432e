// Package scene sets the stage for the demo and for every end-to-end test: a lab with its data plane, the controller installed from
// its chart, and the examples applied as a user would apply them.
package scene

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/e2e/lab"
	"github.com/sluice-dev/sluice/e2e/lab/binaries"
	"github.com/sluice-dev/sluice/e2e/lab/dataplane"
)

// Namespace is where the controller is installed; Shop is where the examples live.
const (
	Namespace = "sluice-system"
	Shop      = "shop"
)

// Options say how a scene is set.
type Options struct {
	// Repo is the repository's root; empty finds it.
	Repo string
	// Controller is the controller's binary; empty is bin/sluice of the repository.
	Controller string
	// Keep leaves the lab's files behind.
	Keep bool
	// Progress is told what is going on, a line at a time.
	Progress func(string)
}

// Scene is a lab with Sluice in it.
type Scene struct {
	*lab.Lab
	Plane *dataplane.Plane
	Repo  string
}

// Open starts a lab and its data plane. It ends with Stop, or with ctx. Sluice is not installed yet.
func Open(ctx context.Context, o Options) (*Scene, error) {
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	if o.Repo == "" {
		root, err := binaries.Root()
		if err != nil {
			return nil, err
		}
		o.Repo = root
	}
	if o.Controller == "" {
		o.Controller = filepath.Join(o.Repo, "bin", "sluice")
	}
	s := &Scene{Plane: dataplane.New(), Repo: o.Repo}
	l, err := lab.Start(ctx, lab.Options{
		ControllerBinary: o.Controller, DataPlane: s.Plane.Start, Keep: o.Keep, Progress: o.Progress,
		AddToScheme: []func(*runtime.Scheme) error{v1alpha1.AddToScheme, gatewayv1.Install},
	})
	if err != nil {
		return nil, err
	}
	s.Lab = l
	return s, nil
}

// await polls until cond holds. Its error says what was waited for and what stood in the way last.
func await(ctx context.Context, limit time.Duration, what string, cond func(context.Context) (bool, string, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	last := "nothing was seen"
	for {
		done, state, err := cond(ctx)
		switch {
		case done:
			return nil
		case err != nil && ctx.Err() == nil:
			return fmt.Errorf("waiting for %s: %w", what, err)
		case state != "":
			last = state
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w; last: %s", what, context.Cause(ctx), last)
		case <-ticker.C:
		}
	}
}
