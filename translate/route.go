package translate

import (
	"fmt"
	"strings"

	"banyan/event"
	"banyan/wal"
)

// change is one row change as rules see it: its rows are captured and masked.
type change struct {
	ordinal  int64
	seq      int // its place among the delivered changes of the transaction
	op       wal.Op
	t        *table
	old, new row
	outcome  outcome
	by       string // rule that decided, where no part has one
	parts    []*part
	// elsewhere is set where another entry of a chain counts the change.
	elsewhere bool
	noted     []TracePart // instead of parts, where those are not kept
	claimed   bool        // kept with a parked aggregate of the same transaction
}

// outcome is what became of a change. The larger one counts where several
// aggregates see the same change.
type outcome uint8

const (
	undecided outcome = iota
	ignored
	absorbed
	used
	parked
)

func (o outcome) String() string {
	return [...]string{"undecided", "ignored", "absorbed", "used", "parked"}[o]
}

// partKind says how a change meets an aggregate.
type partKind uint8

const (
	plain    partKind = iota
	rekeyOut          // the root row leaves this key
	rekeyIn           // and arrives at this one
	moveOut           // a child row leaves this aggregate
	moveIn            // and arrives at this one
)

// target is one aggregate that a change goes to, before anything is applied.
type target struct {
	t    *utable
	op   wal.Op // as the aggregate sees it: a child that moves is deleted here and inserted there
	kind partKind
	ref  event.Ref
	mate int // index of the other target of a move or rekey, or -1
	// maybe is set where the store knows several aggregates for the row, because
	// some of them are parked: it may not be there.
	maybe bool
	// lost is why no aggregate could be found; ref is then one made up for the row.
	lost string
}

// route says which aggregates a change concerns, and keeps the links of child
// rows as they are after it. An orphan that the rules ignore goes nowhere:
// ignoredBy is then its rule.
func route(c *change, links *linkMap, dst []target) (targets []target, ignoredBy string, err error) {
	for _, t := range c.t.roles {
		if c.op == wal.Truncate {
			return nil, "", fmt.Errorf("table %s: a truncate has no single target", c.t.name)
		}
		if t.parent == nil {
			dst, err = routeRoot(c, t, dst)
		} else {
			var by string
			if dst, by, err = routeChild(c, t, links, dst); by != "" {
				ignoredBy = by
			}
		}
		if err != nil {
			return nil, "", err
		}
	}
	return dst, ignoredBy, nil
}

func (t *utable) captureKey(captured row) (key string, ok bool) {
	if captured == nil {
		return "", false
	}
	parts := make([]string, len(t.key))
	for i, k := range t.key {
		v := captured[t.take[k]]
		if v.kind != valText {
			return "", false
		}
		parts[i] = v.s
	}
	return event.JoinKey(parts...), true
}

func (c *change) noKey(t *utable) error {
	return &SchemaError{c.t.name, "", fmt.Sprintf("the %s at ordinal %d does not carry the row's key (%v)", c.op, c.ordinal, keyNames(t)),
		"the key columns must be part of the replica identity (ALTER TABLE ... REPLICA IDENTITY); until then take the table out"}
}

func routeRoot(c *change, t *utable, dst []target) ([]target, error) {
	ref := event.Ref{Aggregate: t.u.name}
	oldKey, hasOld := t.captureKey(c.old)
	newKey, hasNew := t.captureKey(c.new)
	switch {
	case c.op == wal.Delete && hasOld:
		ref.Key = oldKey
		return append(dst, target{t: t, op: wal.Delete, ref: ref, mate: -1}), nil
	case c.op == wal.Delete || !hasNew:
		return dst, c.noKey(t)
	case c.op == wal.Update && hasOld && oldKey != newKey:
		n := len(dst)
		return append(dst, target{t: t, op: wal.Delete, kind: rekeyOut, ref: event.Ref{Aggregate: t.u.name, Key: oldKey}, mate: n + 1},
			target{t: t, op: wal.Insert, kind: rekeyIn, ref: event.Ref{Aggregate: t.u.name, Key: newKey}, mate: n}), nil
	}
	ref.Key = newKey
	return append(dst, target{t: t, op: c.op, ref: ref, mate: -1}), nil
}

// captureParent finds the key of the parent's row in a captured row.
func (t *utable) captureParent(captured row) (key string, orphan, ok bool) {
	if captured == nil {
		return "", false, false
	}
	parts := make([]string, len(t.parentCols))
	for i, p := range t.parentCols {
		switch v := captured[t.take[p[0]]]; v.kind {
		case valText:
			parts[i] = v.s
		case valNull:
			return "", true, true
		default:
			return "", false, false
		}
	}
	return event.JoinKey(parts...), false, true
}

// above finds the aggregate that a child row's parent columns name.
func (t *utable) above(captured row, links *linkMap) (refs []event.Ref, orphan bool) {
	key, orphan, ok := t.captureParent(captured)
	if !ok || orphan {
		return nil, orphan
	}
	if t.parent.parent == nil {
		return []event.Ref{{Aggregate: t.u.name, Key: key}}, false
	}
	return links.get(event.RowRef{Table: t.parent.table.name, Key: key}, t.u.name), false
}

// unknownKey begins the key that is made up for a row whose aggregate is not
// known.
const unknownKey = "?"

// MadeUp reports whether a key of these parts was made up for a child row whose
// aggregate is not known: nothing in the database has it, and a discard of its
// chain has nothing to record anew. The chain of a row without any aggregate has
// its table's full name for an aggregate instead.
func MadeUp(parts []string) bool {
	return len(parts) == 3 && parts[0] == unknownKey && strings.Contains(parts[1], ".")
}

func routeChild(c *change, t *utable, links *linkMap, dst []target) ([]target, string, error) {
	newKey, hasNew := t.captureKey(c.new)
	oldKey, hasOld := t.captureKey(c.old)
	if c.op == wal.Delete && !hasOld || c.op != wal.Delete && !hasNew {
		return dst, "", c.noKey(t)
	}
	if !hasOld {
		oldKey = newKey
	}
	own := event.RowRef{Table: t.table.name, Key: oldKey}
	var from, to []event.Ref
	var orphan bool
	if c.op != wal.Insert {
		if from = links.get(own, t.u.name); len(from) == 0 {
			from, _ = t.above(c.old, links)
		}
	}
	if c.op != wal.Delete {
		var ok bool
		if _, _, ok = t.captureParent(c.new); ok {
			to, orphan = t.above(c.new, links)
		} else {
			to = from // an unchanged TOAST column names the parent
		}
	}
	links.move(t, own, newKey, from, to)
	n := len(dst)
	switch {
	case len(from) == 0 && len(to) == 0:
		if t.orphans && (orphan || c.op == wal.Delete) {
			return dst, t.u.name + "." + t.path() + ".orphans", nil
		}
		made := event.Ref{Aggregate: t.u.name, Key: event.JoinKey(unknownKey, t.table.name, own.Key)}
		return append(dst, target{t: t, op: c.op, ref: made, mate: -1, lost: "the aggregate that the row belongs to is not known"}), "", nil
	case c.op == wal.Insert:
		return append(dst, target{t: t, op: wal.Insert, ref: to[0], mate: -1}), "", nil
	case len(to) == 0:
		for _, ref := range from {
			dst = append(dst, target{t: t, op: wal.Delete, ref: ref, mate: -1, maybe: len(from) > 1})
		}
		return dst, "", nil
	case len(from) == 0 && t.orphans:
		return append(dst, target{t: t, op: wal.Insert, ref: to[0], mate: -1}), "", nil
	case len(from) > 1:
		for _, ref := range from {
			if ref != to[0] {
				dst = append(dst, target{t: t, op: wal.Delete, ref: ref, mate: -1, maybe: true})
			}
		}
		return append(dst, target{t: t, op: wal.Update, ref: to[0], mate: -1, maybe: true}), "", nil
	case len(from) == 0 || from[0] == to[0]:
		return append(dst, target{t: t, op: wal.Update, ref: to[0], mate: -1}), "", nil
	}
	return append(dst, target{t: t, op: wal.Delete, kind: moveOut, ref: from[0], mate: n + 1},
		target{t: t, op: wal.Insert, kind: moveIn, ref: to[0], mate: n}), "", nil
}

// linkMap knows which aggregates child rows belong to: what the store says,
// with the changes since.
type linkMap struct {
	m       map[event.RowRef][]event.Ref
	emptied map[string]bool // tables truncated by the transaction: the store's links are void
}

func (l *linkMap) get(row event.RowRef, aggregate string) []event.Ref {
	refs := l.m[row]
	for i := range refs {
		if refs[i].Aggregate != aggregate {
			var own []event.Ref
			for _, r := range refs {
				if r.Aggregate == aggregate {
					own = append(own, r)
				}
			}
			return own
		}
	}
	return refs
}

// set replaces the links of one row to one kind of aggregate.
func (l *linkMap) set(row event.RowRef, aggregate string, to []event.Ref) {
	var kept []event.Ref
	for _, r := range l.m[row] {
		if r.Aggregate != aggregate {
			kept = append(kept, r)
		}
	}
	l.m[row] = append(kept, to...)
}

func (l *linkMap) move(t *utable, own event.RowRef, newKey string, from, to []event.Ref) {
	if newKey != "" && newKey != own.Key {
		l.set(own, t.u.name, nil)
		own.Key = newKey
	}
	if len(from) == 1 && len(to) == 1 && from[0] == to[0] && len(l.get(own, t.u.name)) == 1 {
		return
	}
	l.set(own, t.u.name, to)
}
