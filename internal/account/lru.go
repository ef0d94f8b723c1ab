package account

import "container/list"

// lru is a map of bounded size that forgets what was unused for longest. It is not safe for concurrent use.
type lru[K comparable, V any] struct {
	limit int
	order list.List // of *entry[K, V], the last used first
	byKey map[K]*list.Element
}

type entry[K comparable, V any] struct {
	key   K
	value V
}

func newLRU[K comparable, V any](limit int) *lru[K, V] {
	return &lru[K, V]{limit: limit, byKey: make(map[K]*list.Element)}
}

// get returns where the value of key is kept, nil if it is not.
func (l *lru[K, V]) get(key K) *V {
	e := l.byKey[key]
	if e == nil {
		return nil
	}
	l.order.MoveToFront(e)
	return &e.Value.(*entry[K, V]).value
}

// add returns where the value of key is kept, which it makes room for if needed.
func (l *lru[K, V]) add(key K) *V {
	if v := l.get(key); v != nil {
		return v
	}
	if len(l.byKey) >= l.limit {
		l.remove(l.order.Back().Value.(*entry[K, V]).key)
	}
	e := &entry[K, V]{key: key}
	l.byKey[key] = l.order.PushFront(e)
	return &e.value
}

func (l *lru[K, V]) remove(key K) {
	if e := l.byKey[key]; e != nil {
		l.order.Remove(e)
		delete(l.byKey, key)
	}
}
