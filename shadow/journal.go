package shadow

import (
	"encoding/json"
	"strconv"

	"banyan/compare"
	"banyan/expression"
)

// Entry is one comparison as the journal keeps it: the same order gives the same
// bytes, whenever it is compared with the same candidate.
type Entry struct {
	At      string      `json:"at"` // topic/partition/offset
	Event   string      `json:"event"`
	Order   string      `json:"order"`
	AsOf    string      `json:"asOf"`
	Day     int32       `json:"day"` // business day from 1970-01-01
	Cluster string      `json:"cluster"`
	Reason  string      `json:"reason,omitempty"` // of an order without lines
	Lines   []EntryLine `json:"lines"`
}

// EntryLine is one line of an Entry; prices in compare.Units.
type EntryLine struct {
	Line      int64          `json:"line"`
	Product   string         `json:"product"`
	Quantity  int64          `json:"quantity"`
	Currency  string         `json:"currency"`
	Control   compare.Units  `json:"control"`
	Candidate compare.Units  `json:"candidate"`
	Paid      compare.Units  `json:"paid"`
	Quoted    compare.Units  `json:"quoted"`
	Cause     compare.Cause  `json:"cause,omitempty"`
	Rule      string         `json:"rule,omitempty"`
	Reason    compare.Reason `json:"reason,omitempty"`
}

// appendEntry writes a comparison as encoding/json would write its Entry.
func appendEntry(b []byte, c *comparison) []byte {
	o := &c.order
	b = append(b, `{"at":`...)
	b = expression.AppendText(b, At(o.Topic, o.Partition, o.Offset))
	b = append(b, `,"event":`...)
	b = expression.AppendText(b, o.Event)
	b = append(b, `,"order":`...)
	b = expression.AppendText(b, c.e.ID.Key)
	b = append(b, `,"asOf":`...)
	b = expression.AppendText(b, AsOf(c.e.Position))
	b = append(b, `,"day":`...)
	b = strconv.AppendInt(b, int64(o.Day), 10)
	b = append(b, `,"cluster":`...)
	b = expression.AppendText(b, o.Cluster)
	if len(o.Lines) == 0 {
		b = append(b, `,"reason":`...)
		b = expression.AppendText(b, string(o.Reason))
	}
	b = append(b, `,"lines":[`...)
	for i := range o.Lines {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendEntryLine(b, &o.Lines[i])
	}
	return append(b, `]}`...)
}

func appendEntryLine(b []byte, n *compare.Line) []byte {
	number := func(name string, v int64) {
		b = append(b, name...)
		b = strconv.AppendInt(b, v, 10)
	}
	text := func(name, v string) {
		b = append(b, name...)
		b = expression.AppendText(b, v)
	}
	number(`{"line":`, n.Line)
	text(`,"product":`, n.Product)
	number(`,"quantity":`, n.Quantity)
	text(`,"currency":`, n.Currency)
	number(`,"control":`, n.Control)
	number(`,"candidate":`, n.Candidate)
	number(`,"paid":`, n.Paid)
	number(`,"quoted":`, n.Quoted)
	if n.Cause != "" {
		text(`,"cause":`, string(n.Cause))
	}
	if n.Rule != "" {
		text(`,"rule":`, n.Rule)
	}
	if n.Reason != "" {
		text(`,"reason":`, string(n.Reason))
	}
	return append(b, '}')
}

// ParseEntry reads an entry of the journal.
func ParseEntry(raw []byte) (Entry, error) {
	var e Entry
	err := json.Unmarshal(raw, &e)
	return e, err
}
