package translate

import (
	"banyan/expression"
	"banyan/wal"
)

// born says whether a root row that arrives with a new key was inserted in this
// very transaction: then it is a birth like any other.
func (p *part) born() bool {
	from := p.mate
	for n := 0; from != nil && n < 1000; n++ {
		if from.x.a.parked || from.x.reason != "" || len(from.x.start[0]) > 0 {
			return false
		}
		var in *part
		for _, q := range from.x.parts {
			if q == from {
				break
			}
			if q.t.parent == nil && q.op == wal.Insert {
				in = q
			}
		}
		if in == nil {
			return false
		}
		if in.kind != rekeyIn {
			return true
		}
		from = in.mate
	}
	return false
}

// rekeyedTo tells that the root row has another key now.
func (w *work) rekeyedTo(x *aggTx, p *part) {
	key, _ := p.t.captureKey(p.c.new)
	for in := p.mate; in != nil; {
		key = in.x.a.ref.Key
		var out *part
		seen := false
		for _, q := range in.x.parts {
			seen = seen || q == in
			if seen && q.kind == rekeyOut {
				out = q
				break
			}
		}
		if out == nil || out.mate == in {
			break
		}
		in = out.mate
	}
	p.by, p.event = "", ""
	e := w.newEvent(x, p, x.a.u.rekeyed, 1)
	e.data = append(e.data, `{"rekeyedTo":`...)
	e.data = append(expression.AppendText(e.data, key), ',')
	if w.appendLast(x, e) {
		p.decide(used, "implicit: the key changed", e.text)
		x.events = append(x.events, e)
	}
}

// arrived tells that a root row has come under this key, and takes its
// children's moves with it.
func (w *work) arrived(x *aggTx, p *part) {
	e := w.newEvent(x, p, x.a.u.recorded, 1)
	origin, key := p, ""
	for origin.mate != nil {
		out := origin.mate
		var in *part
		for _, q := range out.x.parts {
			if q == out {
				break
			}
			if q.kind == rekeyIn {
				in = q
			}
		}
		key = out.x.a.ref.Key
		if in == nil || len(out.x.start[0]) > 0 {
			origin = out
			break
		}
		origin = in
	}
	if key == "" {
		key, _ = p.t.captureKey(p.c.old)
	}
	cause := e.id
	cause.Key, cause.Position.Ordinal = key, origin.c.ordinal
	e.cause = cause.String()
	e.data = append(e.data, '{')
	if !w.appendStates(x, e) {
		return
	}
	p.decide(used, "implicit: the key changed", e.text)
	x.events = append(x.events, e)
	for _, q := range x.parts {
		if q.kind == moveIn && (p.mate == nil || q.mate != nil && q.mate.x == p.mate.x) {
			q.decide(absorbed, "implicit: moved with the key", e.text)
		}
	}
}
