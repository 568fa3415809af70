package state

import "strings"

// cachedBytes is about what a row costs in the cache besides its values: the
// struct, its places in the map and in the ring.
const cachedBytes = 240

// add makes a row of the cache that nothing is known of.
func (l *Live) add(t *liveTable, k Key) *cached {
	l.evict()
	// A key may be a piece of a larger text, which would live as long.
	k = Key(strings.Clone(string(k)))
	c := &cached{table: t, key: k, place: len(l.ring), batch: l.batch}
	t.rows[k] = c
	l.ring = append(l.ring, c)
	l.weigh(c)
	return c
}

// weigh keeps the count of the bytes.
func (l *Live) weigh(c *cached) {
	if c.gone {
		return
	}
	n := int64(cachedBytes + len(c.key) + rowBytes(c.row))
	l.stats.Bytes += n - c.bytes
	c.bytes = n
}

func (l *Live) remove(c *cached) {
	if c.gone {
		return
	}
	delete(c.table.rows, c.key)
	last := l.ring[len(l.ring)-1]
	l.ring[c.place], last.place = last, c.place
	l.ring[len(l.ring)-1] = nil
	l.ring = l.ring[:len(l.ring)-1]
	l.stats.Bytes -= c.bytes
	c.gone = true
}

// evict makes room: the hand goes round and takes what nobody used since it came
// by. What this batch has read or changed stays.
func (l *Live) evict() {
	if l.stats.Bytes <= l.limit || l.full == l.batch {
		return
	}
	for most := 2 * len(l.ring); most > 0 && len(l.ring) > 0; most-- {
		if l.stats.Bytes <= l.limit {
			return
		}
		if l.hand >= len(l.ring) {
			l.hand = 0
		}
		switch c := l.ring[l.hand]; {
		case c.batch == l.batch || c.touched:
			l.hand++
		case c.recent:
			c.recent = false
			l.hand++
		default:
			l.remove(c) // another takes its place
		}
	}
	l.full = l.batch
}
