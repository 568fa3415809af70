package outbox

import "banyan/event"

// stateCache remembers the states of aggregates between commits, absent ones
// too (with a nil Body). It holds exactly what the store holds: only the owner
// changes states, and it changes the cache when, and only when, the store has
// committed. Two generations of a map stand in for a list of recent use.
type stateCache struct {
	limit      int64
	young, old map[event.Ref]event.State
	bytes      int64 // of young
}

func newStateCache(limit int64) *stateCache {
	return &stateCache{limit: limit, young: map[event.Ref]event.State{}}
}

func (c *stateCache) get(ref event.Ref) (event.State, bool) {
	if s, ok := c.young[ref]; ok {
		return s, true
	}
	s, ok := c.old[ref]
	if ok {
		c.put(ref, s)
	}
	return s, ok
}

// cacheEntry is what an entry costs beside its texts and body.
const cacheEntry = 200

func (c *stateCache) put(ref event.Ref, s event.State) {
	if c.limit < 0 {
		return
	}
	s.Ref = ref
	delete(c.old, ref)
	if was, ok := c.young[ref]; ok {
		c.bytes -= cost(ref, was)
	}
	c.young[ref] = s
	c.bytes += cost(ref, s)
	if c.bytes > c.limit/2 {
		c.old, c.young, c.bytes = c.young, map[event.Ref]event.State{}, 0
	}
}

func cost(ref event.Ref, s event.State) int64 {
	return int64(cacheEntry + len(ref.Aggregate) + len(ref.Key) + len(s.Body) + len(s.Event))
}

// keep takes over what a committed transaction has read and written.
func (c *stateCache) keep(tx *Tx) {
	if tx.spilled {
		c.clear() // the transaction did not keep what it wrote
		return
	}
	for ref, s := range tx.fetched {
		c.put(ref, s)
	}
	for ref, s := range tx.states {
		c.put(ref, s)
	}
}

func (c *stateCache) clear() {
	c.young, c.old, c.bytes = map[event.Ref]event.State{}, nil, 0
}
