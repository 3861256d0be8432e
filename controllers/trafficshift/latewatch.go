package trafficshift

import (
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/source"
)

// lateWatch finds kinds in the cluster and watches what there is of them, whenever they come: a watch of a kind that the cluster does not
// know would keep the controller from starting.
type lateWatch struct {
	title   string // "the Gateway API"
	kinds   []schema.GroupVersionKind
	sources []source.Source
	mapper  meta.RESTMapper
	watch   func(source.Source) error
	now     func() time.Time

	mu       sync.Mutex
	watching bool
	asked    time.Time
}

// askAgain is how long the cluster is not asked again for kinds that it did not have.
const askAgain = 30 * time.Second

// present reports whether they are watched, and starts to watch them where they have come.
func (w *lateWatch) present() (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.watching || w.now().Sub(w.asked) < askAgain {
		return w.watching, nil
	}
	for _, kind := range w.kinds {
		_, err := w.mapper.RESTMapping(kind.GroupKind(), kind.Version)
		if meta.IsNoMatchError(err) {
			w.asked = w.now()
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("looking for %s: %w", w.title, err)
		}
	}
	for _, s := range w.sources {
		if err := w.watch(s); err != nil {
			return false, fmt.Errorf("watching %s: %w", w.title, err)
		}
	}
	w.watching = true
	return true, nil
}
