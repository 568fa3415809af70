package rebuild

import (
	"fmt"
	"iter"
	"strings"

	"banyan/projections/state"
)

// maxExamples is how many rows of a table are shown where none is asked for.
const maxExamples = 10

// comparer compares two sides of one table row by row. Both yield their rows in
// the order of keys, so neither has to be in memory.
type comparer struct {
	shape    *state.Shape
	examples int
	counted  func(n int64) // is told now and then how many rows were looked at
}

// keyedDifference is a Difference with the key it is about.
type keyedDifference struct {
	Difference
	key state.Key
}

// compare fills report. want is what should be, got what is there.
func (c *comparer) compare(report *TableReport, want, got iter.Seq2[state.Entry, error]) ([]keyedDifference, error) {
	w, stopW := pull(want)
	defer stopW()
	g, stopG := pull(got)
	defer stopG()
	var shown []keyedDifference
	looked := int64(0)
	for {
		if w.err != nil {
			return nil, fmt.Errorf("read the rows that the history makes: %w", w.err)
		}
		if g.err != nil {
			return nil, fmt.Errorf("read the rows of the database: %w", g.err)
		}
		if !w.ok && !g.ok {
			break
		}
		var d *keyedDifference
		switch {
		case !g.ok || w.ok && w.e.Key < g.e.Key:
			report.Missing++
			d = c.difference("missing", w.e.Key, w.e.Row, nil)
			w.step()
		case !w.ok || g.e.Key < w.e.Key:
			report.Rows++
			report.Extra++
			d = c.difference("extra", g.e.Key, nil, g.e.Row)
			g.step()
		default:
			report.Rows++
			if state.Equal(w.e.Row, g.e.Row) {
				report.Proved++
			} else {
				report.Different++
				d = c.difference("different", w.e.Key, w.e.Row, g.e.Row)
			}
			w.step()
			g.step()
		}
		if d != nil && len(shown) < c.examples {
			shown = append(shown, *d)
		}
		if looked++; looked%4096 == 0 && c.counted != nil {
			c.counted(4096)
		}
	}
	if c.counted != nil {
		c.counted(looked % 4096)
	}
	return shown, nil
}

// puller steps through one side.
type puller struct {
	next func() (state.Entry, error, bool)
	e    state.Entry
	err  error
	ok   bool
}

func pull(seq iter.Seq2[state.Entry, error]) (*puller, func()) {
	next, stop := iter.Pull2(seq)
	p := &puller{next: next}
	p.step()
	return p, stop
}

func (p *puller) step() { p.e, p.err, p.ok = p.next() }

func (c *comparer) difference(kind string, key state.Key, want, got state.Row) *keyedDifference {
	t := c.shape.Table()
	d := keyedDifference{key: key, Difference: Difference{Table: t.Name, Key: c.keyText(key), Kind: kind}}
	for i, col := range t.Columns {
		if want != nil && got != nil && state.Equal(want[i:i+1], got[i:i+1]) {
			continue
		}
		diff := ColumnDiff{Column: col.Name}
		if want != nil {
			diff.Want = state.Text(want[i])
		}
		if got != nil {
			diff.Got = state.Text(got[i])
		}
		d.Columns = append(d.Columns, diff)
	}
	return &d
}

// keyText writes a key as "customer_id=42, day=2026-01-01".
func (c *comparer) keyText(key state.Key) string {
	values, err := c.shape.Parse(key)
	if err != nil {
		return fmt.Sprintf("%q", string(key))
	}
	parts := make([]string, len(values))
	for i, v := range values {
		parts[i] = c.shape.Table().Key[i] + "=" + state.Text(v)
	}
	return strings.Join(parts, ", ")
}
