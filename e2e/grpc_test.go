package e2e

import (
	"context"
	"sync"
	"testing"

	"github.com/sluice-dev/sluice/e2e/scene"
)

// From the files of examples/grpc: a service of gRPC alone, with clients that Sluice did not write. Its README: "Calls are split one by
// one, not connection by connection".
func TestGRPC(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const name = "pricing"
	if err := s.Apply(t.Context(), "examples/grpc"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { leave(t, s, name) })
	await(t, s, name, "to be adopted", scene.Stable("v1"))

	caller := dial(t, s, name)
	ctx, stop := context.WithCancel(t.Context())
	versions, failures := map[string]int{}, map[string]int{}
	var calling sync.WaitGroup
	calling.Go(func() {
		for ctx.Err() == nil {
			v, f, _ := caller.Tally(ctx, 50) // the error is the end of ctx
			for version, n := range v {
				versions[version] += n
			}
			for code, n := range f {
				failures[code] += n
			}
		}
	})
	t.Cleanup(func() { stop(); calling.Wait() })

	release(t, s, name, "v2")
	await(t, s, name, "to prove 10% by calls alone", proven(100))
	await(t, s, name, "to be promoted", scene.Stable("v2"))
	stop()
	calling.Wait()
	if len(failures) > 0 {
		t.Errorf("calls failed: %v", failures)
	}
	if versions["v1"] == 0 || versions["v2"] == 0 {
		t.Errorf("one connection saw %v; want both versions", versions)
	}
}
