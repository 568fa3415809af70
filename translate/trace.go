package translate

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"banyan/event"
	"banyan/expression"
)

// maxTraceChanges and maxTraceBytes bound the trace of one transaction.
const (
	maxTraceChanges = 2000
	maxTraceBytes   = 1 << 20
)

// TraceTx is the provenance of one transaction, read back.
type TraceTx struct {
	Generation int           `json:"generation"`
	XID        uint32        `json:"xid"`
	LSN        string        `json:"lsn"`    // commit LSN
	EndLSN     string        `json:"endLsn"` // end of the commit record
	Time       time.Time     `json:"time"`
	Rules      int           `json:"rules"` // version of the rule set
	Total      int           `json:"total"` // changes of captured tables
	Changes    []TraceChange `json:"changes"`
	// Left is true where the transaction was too large and only its first
	// changes are here.
	Left bool `json:"left"`
}

// TraceChange is one row change and what became of it. Columns are in Postgres'
// text form, null for NULL; a column that the log does not carry is not there.
type TraceChange struct {
	Ordinal int64              `json:"ordinal"`
	Table   string             `json:"table"`
	Op      string             `json:"op"`
	Key     string             `json:"key"` // of the row
	Old     map[string]*string `json:"old,omitempty"`
	New     map[string]*string `json:"new,omitempty"`
	Outcome string             `json:"outcome"`        // parked, used, absorbed or ignored
	Rule    string             `json:"rule,omitempty"` // that decided, where no aggregate did
	Parts   []TracePart        `json:"parts,omitempty"`
}

// TracePart is what the change means to one aggregate.
type TracePart struct {
	Aggregate string `json:"aggregate"`
	Key       string `json:"key"`
	Outcome   string `json:"outcome"`
	// Rule is Order.events[2] OrderPaid, Order.ignore[0]: reason, or begins
	// with "implicit:" where no rule of the file decided.
	Rule string `json:"rule,omitempty"`
	// Event is the id of the event that the change anchors or goes into.
	Event string `json:"event,omitempty"`
	// Reason says why it is parked.
	Reason string `json:"reason,omitempty"`
}

// DecodeTrace reads event.Trace.Body.
func DecodeTrace(body []byte) (*TraceTx, error) {
	b, err := decompress(body)
	if err != nil {
		return nil, fmt.Errorf("read trace: %w", err)
	}
	var t TraceTx
	if err := json.Unmarshal(b, &t); err != nil {
		return nil, fmt.Errorf("read trace: %w", err)
	}
	return &t, nil
}

// tracer writes a trace as JSON, change by change.
type tracer struct {
	dst  []byte
	n    int
	left bool
}

func (t *tracer) begin(dst []byte, m *txMeta, rules, total int) {
	t.dst = append(dst, `{"generation":`...)
	t.dst = strconv.AppendInt(t.dst, int64(m.generation), 10)
	t.dst = append(t.dst, `,"xid":`...)
	t.dst = strconv.AppendUint(t.dst, uint64(m.xid), 10)
	t.dst = append(append(append(t.dst, `,"lsn":"`...), m.commit.String()...), `","endLsn":"`...)
	t.dst = append(append(append(t.dst, m.end.String()...), `","time":"`...), m.at.Format(time.RFC3339Nano)...)
	t.dst = append(t.dst, `","rules":`...)
	t.dst = strconv.AppendInt(t.dst, int64(rules), 10)
	t.dst = append(t.dst, `,"total":`...)
	t.dst = strconv.AppendInt(t.dst, int64(total), 10)
	t.dst = append(t.dst, `,"changes":[`...)
}

func (t *tracer) field(name, value string) {
	if value != "" {
		t.dst = append(append(append(t.dst, ',', '"'), name...), '"', ':')
		t.dst = expression.AppendText(t.dst, value)
	}
}

func (t *tracer) full() bool {
	t.left = t.left || t.n >= maxTraceChanges || len(t.dst) > maxTraceBytes
	return t.left
}

// change adds a change whose outcome is decided.
func (t *tracer) change(c *change) {
	if t.full() {
		return
	}
	if t.n > 0 {
		t.dst = append(t.dst, ',')
	}
	t.n++
	t.dst = strconv.AppendInt(append(t.dst, `{"ordinal":`...), c.ordinal, 10)
	t.field("table", c.t.name)
	t.field("op", c.op.String())
	t.field("key", c.key())
	t.row("old", c.t, c.old, c.parts)
	t.row("new", c.t, c.new, nil)
	t.field("outcome", c.outcome.String())
	t.field("rule", c.by)
	if len(c.parts)+len(c.noted) > 0 {
		t.dst = append(t.dst, `,"parts":[`...)
		for i, p := range c.parts {
			if i > 0 {
				t.dst = append(t.dst, ',')
			}
			t.part(p.trace())
		}
		for i, p := range c.noted {
			if i > 0 {
				t.dst = append(t.dst, ',')
			}
			t.part(p)
		}
		t.dst = append(t.dst, ']')
	}
	t.dst = append(t.dst, '}')
}

func (p *part) trace() TracePart {
	t := TracePart{Aggregate: p.x.a.ref.Aggregate, Key: p.x.a.ref.Key, Outcome: "parked", Reason: p.x.reason}
	if !p.x.stuck() {
		t.Outcome, t.Rule, t.Event, t.Reason = p.outcome.String(), p.by, p.event, ""
	}
	return t
}

func (t *tracer) part(p TracePart) {
	t.dst = append(t.dst, `{"aggregate":"`...)
	t.dst = append(append(t.dst, p.Aggregate...), '"')
	t.field("key", p.Key)
	t.field("outcome", p.Outcome)
	t.field("rule", p.Rule)
	t.field("event", p.Event)
	t.field("reason", p.Reason)
	t.dst = append(t.dst, '}')
}

// row adds a row's known columns. Where the log has no old row, the one that an
// aggregate kept serves.
func (t *tracer) row(name string, tb *table, r row, parts []*part) {
	cols := tb.cols
	if r == nil {
		for _, p := range parts {
			if p.old != nil {
				r, cols = p.old.vals, p.t.cols
				break
			}
		}
	}
	if r == nil {
		return
	}
	t.dst = append(append(append(t.dst, ',', '"'), name...), `":{`...)
	first := true
	for i, v := range r {
		if !v.known() {
			continue
		}
		if !first {
			t.dst = append(t.dst, ',')
		}
		first = false
		t.dst = append(t.dst, cols[i].label...)
		if v.kind == valNull {
			t.dst = append(t.dst, "null"...)
		} else {
			t.dst = expression.AppendText(t.dst, v.s)
		}
	}
	t.dst = append(t.dst, '}')
}

// key is the row's own key, for people.
func (c *change) key() string {
	r := c.new
	if r == nil {
		r = c.old
	}
	if r == nil {
		return ""
	}
	cols := c.t.key
	if len(cols) == 0 && len(c.t.roles) > 0 {
		cols = nil
		for _, k := range c.t.roles[0].key {
			cols = append(cols, c.t.roles[0].take[k])
		}
	}
	parts := make([]string, len(cols))
	for i, k := range cols {
		parts[i] = r[k].s
	}
	return event.JoinKey(parts...)
}

func (t *tracer) end() []byte {
	t.dst = append(t.dst, `],"left":`...)
	t.dst = strconv.AppendBool(t.dst, t.left)
	return append(t.dst, '}')
}

// addTrace adds the trace of the work's transaction to the step.
func (s *session) addTrace(w *work, total int) error {
	var t tracer
	t.begin(s.e.buf[:0], &w.meta, s.e.Rules.Version, total)
	for _, c := range w.changes {
		t.change(c)
	}
	return s.putTrace(&t, &w.meta)
}

func (s *session) putTrace(t *tracer, m *txMeta) error {
	s.e.buf = t.end()
	body, err := compress(s.e.buf)
	if err != nil {
		return fmt.Errorf("write trace: %w", err)
	}
	s.bytes += len(body)
	s.step.Traces = append(s.step.Traces, event.Trace{Generation: m.generation, CommitLSN: uint64(m.commit), XID: m.xid, Time: m.at, Body: body})
	return nil
}
