package projections

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"banyan/event"
	"banyan/projections/control"
	"banyan/projections/state"
)

// Preparer makes Events of records: it decodes them, lifts old versions and has
// the Program prepare. It may be used by several goroutines at once.
type Preparer struct {
	program Program
	source  string
	slim    bool
	chains  upcasts
}

// NewPreparer checks the Program's Spec first: the error tells all that is wrong
// with it.
func NewPreparer(p Program) (*Preparer, error) {
	spec := p.Spec()
	faults := spec.faults()
	chains, bad := chainUpcasters(spec.Upcasters)
	faults = append(faults, bad...)
	if _, ok := p.(Firer); spec.Timers && !ok {
		faults = append(faults, "it sets timers, but has no method Fire")
	}
	if len(faults) > 0 {
		return nil, fmt.Errorf("projection %s: %s", cmp.Or(spec.Name, "(without a name)"), strings.Join(faults, "; "))
	}
	return &Preparer{p, spec.Source, spec.Slim, chains}, nil
}

func (s *Spec) faults() []string {
	var f []string
	if !plainName(s.Name) {
		f = append(f, fmt.Sprintf("name %q: want a plain SQL name: small letters, digits and _, at most 40", s.Name))
	}
	if s.Source == "" {
		f = append(f, "no source: whose events are these?")
	}
	if len(s.Topics) == 0 {
		f = append(f, "no topics")
	}
	for i, t := range s.Topics {
		if slices.Contains(s.Topics[:i], t) {
			f = append(f, fmt.Sprintf("topic %s stands there twice", t))
		}
		if IsLatest(t) && s.Aligned {
			f = append(f, fmt.Sprintf("topic %s: an aligned projection needs the whole history, in order; read %s", t, strings.TrimSuffix(t, ".latest")))
		}
		if IsLatest(t) && s.NotFromLatest != "" {
			f = append(f, fmt.Sprintf("topic %s holds only the latest event of each key, and this projection %s; read %s", t, s.NotFromLatest, strings.TrimSuffix(t, ".latest")))
		}
	}
	if s.Timers && !s.Aligned {
		f = append(f, "timers need one owner that sees all partitions in order: say aligned")
	}
	for _, t := range s.Tables {
		if strings.HasPrefix(t.Name, "banyan_") {
			f = append(f, fmt.Sprintf("table %s: names that begin with banyan_ are the runner's own", t.Name))
		}
	}
	return f
}

func plainName(s string) bool {
	if s == "" || len(s) > 40 || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return true
}

// Names of the hidden tables that the runner keeps beside a Program's own.
const (
	TimersTable = "banyan_timers" // pending timers
	LatestTable = "banyan_latest" // the seq of each key of a `.latest` topic
)

// AllTables gives the tables that a version of this projection has: those of the
// Spec and the hidden ones that the runner needs.
func (s Spec) AllTables() []state.Table {
	all := slices.Clone(s.Tables)
	if s.Timers {
		all = append(all, state.Table{Name: TimersTable, Key: []string{"name", "key"}, Hidden: true,
			Comment: "timers that have not fired",
			Columns: []state.Column{
				{Name: "name", Type: "text", NotNull: true}, {Name: "key", Type: "text", NotNull: true},
				{Name: "at", Type: "timestamptz", NotNull: true}, {Name: "data", Type: "jsonb"},
			}})
	}
	if slices.ContainsFunc(s.Topics, IsLatest) {
		all = append(all, state.Table{Name: LatestTable, Key: []string{"topic", "key"}, Hidden: true,
			Comment: "the seq of the latest event of each key",
			Columns: []state.Column{
				{Name: "topic", Type: "text", NotNull: true}, {Name: "key", Type: "text", NotNull: true},
				{Name: "seq", Type: "bigint", NotNull: true},
			}})
	}
	return all
}

// Prepare makes an Event of a record, in place. An error is a *Fault: the record
// is not ours. What the Program cannot prepare, or no upcaster can lift, is left
// in e.Fault.
func (p *Preparer) Prepare(e *Event, topic string, r *event.Record) error {
	var err error
	if e.Event, err = event.FromRecord(topic, r); err != nil {
		return &Fault{control.PartID{Topic: topic, Part: r.Partition}, r.Offset, err.Error(),
			"only cdc may write to this topic; find who else does", event.ErrForeign}
	}
	if e.ID.Source != p.source {
		return &Fault{control.PartID{Topic: topic, Part: r.Partition}, r.Offset, fmt.Sprintf("event %s is not of source %s", e.ID.String(), p.source),
			"two sources write to one topic, or the projection names the wrong source", event.ErrForeign}
	}
	e.Offset, e.Tombstone, e.Size, e.record = r.Offset, e.Data == nil, r.Size(), r
	if e.Fault = p.chains.lift(e); e.Fault == nil {
		e.Fault = p.prepare(e)
	}
	if p.slim {
		e.Data, e.record = nil, nil
	}
	return nil
}

func (p *Preparer) prepare(e *Event) (err error) {
	defer recovered(&err)
	return p.program.Prepare(e)
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
