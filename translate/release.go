package translate

import (
	"context"
	"fmt"
	"slices"

	"banyan/event"
	"banyan/wal"
)

// Release tells the entries of one parked chain, in order, under the rules as
// they are now. The events keep the ids they would have had; their Position is
// at.Position. It stops at the first entry that still does not fit: Released
// says how many entries are done, and why the next is not; what is done has
// been put and must be taken out of the chain in the same store transaction.
// Counts move from Parked to what became of the changes.
func (e *Engine) Release(ctx context.Context, past Past, chain []event.Parked, at ReleasePoint, put Put) (Released, error) {
	var out Released
	if len(chain) == 0 {
		return out, nil
	}
	ref := chain[0].Ref
	if e.Rules.byName[ref.Aggregate] == nil {
		out.Reason = fmt.Sprintf("the rules have no aggregate %s", ref.Aggregate)
		out.Detail = "discard it; an ignore or a rule that absorbs the table keeps later ones from parking"
		return out, nil
	}
	s := e.session(ctx, past, put)
	a, err := s.agg(ref)
	if err != nil {
		return out, err
	}
	a.parked = false
	for i := range chain {
		if chain[i].Ref != ref {
			return out, fmt.Errorf("release %s/%s: entry %d belongs to %s/%s", ref.Aggregate, ref.Key, i, chain[i].Aggregate, chain[i].Key)
		}
		t, err := DecodeParked(chain[i].Body)
		if err != nil {
			return out, err
		}
		reason, detail, err := s.release(a, t, &chain[i], at)
		if err != nil {
			return out, err
		}
		if reason != "" {
			out.Reason, out.Detail = reason, detail
			break
		}
		out.Done++
	}
	return out, s.flush()
}

// release tells one entry; a reason says why it does not fit.
func (s *session) release(a *agg, t *ParkedTx, entry *event.Parked, at ReleasePoint) (reason, detail string, err error) {
	if t.Kind != "changes" {
		return s.releaseSnapshot(a, t, at)
	}
	if len(t.Changes) == 0 {
		return t.Left, "discard it", nil
	}
	meta := txMeta{xid: t.XID, commit: wal.LSN(t.LSN), end: wal.LSN(t.EndLSN), at: t.Time, generation: t.Generation, position: &at.Position}
	all := make([]*change, 0, len(t.Changes))
	var own []*change
	for i := range t.Changes {
		c, ok := s.e.reread(t, &t.Changes[i])
		if !ok {
			if t.Changes[i].Own {
				return fmt.Sprintf("table %s is not captured any more", t.Tables[t.Changes[i].Table].Name), "name it in banyan.yaml again, or discard", nil
			}
			continue
		}
		c.seq = i
		all = append(all, c)
		if t.Changes[i].Own {
			own = append(own, c)
		}
	}
	w := s.work(meta, own)
	w.reached = lazyIndex(len(s.e.Rules.reaches), all)
	w.only = &a.ref
	for _, c := range own {
		targets, ok := t.Changes[c.seq].targets(a)
		if !ok {
			return fmt.Sprintf("table %s is not where it was in %s", c.t.name, a.u.name), "discard it: the aggregate is recorded anew", nil
		}
		if err := w.addTargets(c, targets); err != nil {
			return "", "", err
		}
	}
	w.evaluateAll()
	for _, x := range w.order {
		if x.stuck() {
			x.revert()
			return x.reason, x.detail, nil
		}
	}
	return "", "", s.released(w, t, own)
}

// targets are the kept change's parts in the aggregate.
func (p *ParkedChange) targets(a *agg) ([]target, bool) {
	var out []target
	for _, part := range p.Parts {
		i := slices.IndexFunc(a.u.tables, func(t *utable) bool { return t.path() == part.Path })
		if i < 0 {
			return nil, false
		}
		out = append(out, target{t: a.u.tables[i], op: wal.Op(part.Op), kind: partKind(part.Kind), ref: a.ref, mate: -1, maybe: part.Maybe, lost: part.Lost})
	}
	return out, true
}

// released adds what a released entry gives to the step.
func (s *session) released(w *work, t *ParkedTx, own []*change) error {
	w.tellExtras()
	w.addCauses(nil)
	s.addEvents(w)
	for _, c := range own {
		if !t.Changes[c.seq].Counted {
			continue
		}
		if len(c.parts) == 0 && c.outcome == undecided {
			if len(c.t.roles) > 0 || c.t.ignored != nil {
				c.outcome = ignored
			} else {
				// It waited with this key, and no event has taken it after all.
				entry, err := w.parkChange(c)
				if err != nil {
					return err
				}
				s.step.Parked = append(s.step.Parked, entry)
				continue
			}
		}
		c.decide()
		s.count(c.t.name, c.outcome)
		n := s.step.Counts[c.t.name]
		n.Changes--
		n.Parked--
		s.step.Counts[c.t.name] = n
	}
	return nil
}

func (s *session) releaseSnapshot(a *agg, t *ParkedTx, at ReleasePoint) (reason, detail string, err error) {
	id := event.ID{Source: s.e.Source, Aggregate: a.ref.Aggregate, Key: a.ref.Key, Position: event.Position{Generation: t.Generation, LSN: t.LSN, Snapshot: t.Snapshot}}
	var e *event.Event
	if t.Kind == "absent" {
		if !a.exists() {
			return "", "", nil
		}
		if e, err = s.removed(a, id); err != nil {
			return err.Error(), unfit, nil
		}
	} else {
		seen := &agg{u: a.u, ref: a.ref, tables: make([][]*arow, len(a.u.tables))}
		if err := seen.readBody(t.State); err != nil {
			return "", "", err
		}
		if seen.size > maxAggregate {
			return fmt.Sprintf("the aggregate is larger than %d MiB", maxAggregate>>20), "split it: fewer children, or fewer columns in its state", nil
		}
		if e, err = s.recorded(a, seen.tables, id, false); err != nil {
			return err.Error(), unfit, nil
		}
	}
	a.snapshot = max(a.snapshot, t.Snapshot)
	a.dirty = true
	if e != nil {
		e.Time, e.Position = t.Time, at.Position
		s.step.Events = append(s.step.Events, *e)
	}
	return "", "", nil
}

// reread makes a change of a kept one. Columns that the rules name since then
// are missing; columns masked since then are masked now.
func (e *Engine) reread(t *ParkedTx, p *ParkedChange) (*change, bool) {
	kept := t.Tables[p.Table]
	tb := e.Rules.tables[kept.Name]
	if tb == nil {
		return nil, false
	}
	read := func(values []ParkedValue) row {
		if values == nil {
			return nil
		}
		out := make(row, len(tb.names))
		for i, name := range tb.names {
			j := slices.Index(kept.Columns, name)
			if j < 0 || j >= len(values) {
				out[i].kind = valMissing
				continue
			}
			out[i] = val{values[j].Text, values[j].Kind}
			if m := tb.cols[i].mask; m != "" && out[i].kind == valText && !kept.Masked[j] {
				out[i] = masked(m, out[i], e.Rules.Config.maskKey())
			}
		}
		return out
	}
	return &change{ordinal: p.Ordinal, op: opNames[p.Op], t: tb, old: read(p.Old), new: read(p.New)}, true
}
