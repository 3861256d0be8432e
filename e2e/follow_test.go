package e2e

import (
	"context"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/fields"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/e2e/scene"
)

// follow has every state that a shift is in seen, in order, until the test ends. What sees them is called by one goroutine.
func follow(t *testing.T, s *scene.Scene, name string, see func(*v1alpha1.TrafficShift)) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var following sync.WaitGroup
	t.Cleanup(func() {
		stop()
		following.Wait()
	})
	following.Go(func() {
		for ctx.Err() == nil {
			w, err := s.Client.Watch(ctx, &v1alpha1.TrafficShiftList{}, client.InNamespace(scene.Shop),
				client.MatchingFieldsSelector{Selector: fields.OneTermEqualSelector("metadata.name", name)})
			if err != nil {
				if ctx.Err() == nil {
					t.Errorf("following %s: %v", name, err)
				}
				return
			}
			for e := range w.ResultChan() { // it ends with ctx, or when the server has had enough of it
				if ts, ok := e.Object.(*v1alpha1.TrafficShift); ok {
					see(ts)
				}
			}
		}
	})
}
