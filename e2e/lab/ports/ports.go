// Package ports hands out loopback ports for processes that must be told their port. They lie below the range from which
// kernels take ports by themselves, and each lab has a block of its own, so that labs side by side never meet, and a
// process that was stopped finds its port free when it comes back.
package ports

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/sluice-dev/sluice/e2e/lab/lock"
)

const (
	first  = 20000
	size   = 100
	blocks = 120
)

// Block is a range of ports that belongs to one lab.
type Block struct {
	lock *lock.Lock

	mu   sync.Mutex
	base int
	next int
}

// Reserve takes a block that no other lab of this machine has.
func Reserve() (*Block, error) {
	dir := filepath.Join(os.TempDir(), "sluice-ports-"+strconv.Itoa(os.Getuid()))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("reserve ports: %w", err)
	}
	for _, n := range rand.Perm(blocks) {
		l, err := lock.Try(filepath.Join(dir, strconv.Itoa(n)))
		if errors.Is(err, lock.ErrHeld) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reserve ports: %w", err)
		}
		return &Block{lock: l, base: first + n*size}, nil
	}
	return nil, fmt.Errorf("reserve ports: all %d blocks are taken by other labs", blocks)
}

// Next returns a free port. It comes back to a port only after the whole block was handed out.
func (b *Block) Next() (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range size {
		port := b.base + b.next
		b.next = (b.next + 1) % size
		if free(port) {
			return port, nil
		}
	}
	return 0, fmt.Errorf("no free port between %d and %d", b.base, b.base+size-1)
}

// Release gives the block back.
func (b *Block) Release() { b.lock.Release() }

func free(port int) bool {
	l, err := net.Listen("tcp", Loopback(port))
	if err != nil {
		return false
	}
	return l.Close() == nil
}

// Loopback is the address of a port of this machine.
func Loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
