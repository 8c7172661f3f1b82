package integration

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// memory keeps what the PBX of each integration said last, so that passes for other reasons cost
// the PBX nothing.
type memory[T any] struct {
	mu   sync.Mutex
	last map[types.UID]T
}

func newMemory[T any]() *memory[T] { return &memory[T]{last: map[types.UID]T{}} }

func (m *memory[T]) get(uid types.UID) T {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last[uid]
}

func (m *memory[T]) set(uid types.UID, made T) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last[uid] = made
}

func (m *memory[T]) forget(uid types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.last, uid)
}
