package mesh

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestBreaker: two connections and one waiting request, in a world whose clock stands still unless everybody waits.
func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &breaker{maxConnections: 2, maxPending: 1, maxRequests: 100}
		take := func() func() {
			release, err := b.acquire(t.Context(), false)
			if err != nil {
				t.Fatal(err)
			}
			return release
		}
		first := take()
		second := take()

		var served sync.WaitGroup
		served.Go(func() { take()() })
		synctest.Wait() // it is in the queue

		start := time.Now()
		if _, err := b.acquire(t.Context(), false); !errors.Is(err, errOverflow) {
			t.Errorf("beyond the queue: got %v, want overflow", err)
		}
		if waited := time.Since(start); waited != patience {
			t.Errorf("refused after %s, want %s", waited, patience)
		}

		first()
		served.Wait() // the one in the queue had its turn
		second()
		if b.active != 0 || len(b.queue) != 0 {
			t.Errorf("at rest: %d active, %d waiting, want none", b.active, len(b.queue))
		}
	})
}

// TestBreakerHTTP2: requests share connections, so their own limit counts.
func TestBreakerHTTP2(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &breaker{maxConnections: 1, maxPending: 1, maxRequests: 3}
		for range 3 {
			if _, err := b.acquire(t.Context(), true); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := b.acquire(t.Context(), true); !errors.Is(err, errOverflow) {
			t.Errorf("the fourth: got %v, want overflow", err)
		}
	})
}

// TestBreakerLeaving: who gives up waiting leaves nothing behind.
func TestBreakerLeaving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &breaker{maxConnections: 1, maxPending: 5, maxRequests: 100}
		release, err := b.acquire(t.Context(), false)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := b.acquire(ctx, false); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waiting: got %v, want the context's end", err)
		}
		release()
		if b.active != 0 || len(b.queue) != 0 {
			t.Errorf("at rest: %d active, %d waiting, want none", b.active, len(b.queue))
		}
	})
}
