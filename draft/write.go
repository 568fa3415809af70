package draft

import (
	"fmt"
	"slices"
	"strings"

	"banyan/wal"
)

// write prints the draft.
func (d *drafter) write() []byte {
	p := &printer{}
	p.comment(0, fmt.Sprintf("A first draft of the business events of the database %q: made from its keys, names and values by `cdc init`.", d.cat.Database))
	p.comment(0, "It runs as it is. Every guess stands beside its reason: correct what the business knows better.")
	p.line(0, "version: 1")
	d.head(p)
	p.line(0, "")
	p.comment(0, "What is read. A table or column that is not named here never leaves the database.")
	p.line(0, "tables:")
	for _, t := range d.tables {
		d.writeTable(p, t)
	}
	if len(d.left) > 0 {
		p.comment(1, "Left out:")
		for _, l := range d.left {
			p.remark(1, "  ", "- "+l.table+": "+l.reason)
		}
	}
	p.line(0, "")
	p.comment(0, "What the rows mean. Of the events of an aggregate the first that fits a change is told.")
	p.line(0, "aggregates:")
	for _, t := range d.roots() {
		d.writeAggregate(p, t)
	}
	return []byte(p.b.String())
}

func (d *drafter) head(p *printer) {
	o := d.opts
	slot := strings.ReplaceAll("banyan_"+d.source, "-", "_")
	publication := slot
	if o.Slot != "" {
		slot = o.Slot
	}
	if o.Publication != "" {
		publication = o.Publication
	}
	p.line(0, "source:")
	p.line(1, "name: %s  # first part of every event's id and of every topic", yamlString(d.source))
	if url := withoutPassword(o.URL); url != "" {
		p.line(1, "url: %s  # no password here: BANYAN_SOURCE or PGPASSFILE", yamlString(url))
	}
	p.line(1, "slot: %s", yamlString(slot))
	p.line(1, "publication: %s", yamlString(publication))
	if url := withoutPassword(o.Store); url != "" {
		p.line(0, "store: {url: %s}", yamlString(url))
	}
	if len(o.Brokers) > 0 {
		p.line(0, "kafka: {brokers: %s}", yamlList(o.Brokers))
	}
	p.line(0, "unknown: park  # a change that no rule knows waits with its key; or stop")
}

func (d *drafter) writeTable(p *printer, t *table) {
	var remarks []string
	if t.Rows >= 0 {
		remarks = append(remarks, fmt.Sprintf("about %d rows", t.Rows))
	}
	if t.Kind == wal.KindPartitioned {
		remarks = append(remarks, fmt.Sprintf("with its partitions, %d now", len(d.cat.Leaves(t.CatalogTable))))
	}
	if remarks != nil {
		remarks[0] = "  # " + remarks[0]
	}
	p.line(1, "%s:%s", yamlString(t.FullName()), strings.Join(remarks, ", "))
	p.line(2, "columns: %s", yamlList(t.columns))
	if len(t.omit) > 0 {
		p.line(2, "omit:")
		for _, o := range t.omit {
			p.line(3, "%s: %s", yamlString(o.column), yamlText(o.reason))
		}
	}
	if t.computed != nil {
		p.comment(2, "not in the WAL, because the server computes them: "+strings.Join(t.computed, ", "))
	}
	if len(t.money) == 0 {
		return
	}
	currency, why := d.opts.Currency, "by their names and types"
	if currency == "" {
		currency, why = defaultCurrency, "by their names and types; the currency is a guess, the database does not say it"
	}
	p.line(2, "money:  # %s", why)
	for _, c := range sorted(t.money) {
		p.line(3, "%s: {scale: %d, currency: %s}", yamlString(c), t.money[c], yamlString(currency))
	}
}

func (d *drafter) writeAggregate(p *printer, t *table) {
	p.line(1, "%s:  # %s", yamlString(t.aggregate), printable(t.nameWhy))
	p.line(2, "table: %s", yamlString(t.FullName()))
	p.line(2, "key: %s", yamlList(t.key))
	p.line(2, "topic: %s", yamlString(t.topic))
	writeState(p, 2, t)
	writeChildren(p, 2, t)
	for _, s := range t.statuses {
		p.comment(2, "status column "+s.column+": "+s.why)
	}
	p.line(2, "events:")
	for _, e := range t.events {
		writeEvent(p, e)
	}
	if len(t.ignores) > 0 {
		p.line(2, "ignore:")
	}
	for _, g := range t.ignores {
		p.line(3, "- {on: %s, only: %s, reason: %s}", onText("update", g.child), yamlList(g.only), yamlFlow(g.reason))
	}
}

// writeState names the columns of the state where they are not all.
func writeState(p *printer, indent int, t *table) {
	if t.bookkeeping == nil {
		return
	}
	var kept []string
	for _, c := range t.columns {
		if !slices.Contains(t.bookkeeping, c) {
			kept = append(kept, c)
		}
	}
	p.line(indent, "state: %s", yamlList(kept))
}

func writeChildren(p *printer, indent int, t *table) {
	if len(t.children) == 0 {
		return
	}
	p.line(indent, "children:")
	for _, c := range t.children {
		p.comment(indent+1, c.why)
		pairs := make([]string, len(c.link.Columns))
		for i, column := range c.link.Columns {
			pairs[i] = yamlString(column) + ": " + yamlString(c.link.Referenced[i])
		}
		p.line(indent+1, "- table: %s", yamlString(c.FullName()))
		p.line(indent+2, "as: %s", yamlString(c.as))
		p.line(indent+2, "key: %s", yamlList(c.key))
		p.line(indent+2, "parent: {%s}", strings.Join(pairs, ", "))
		writeState(p, indent+2, c)
		writeChildren(p, indent+2, c)
	}
}

func onText(op, child string) string {
	if child == "" {
		return op
	}
	return fmt.Sprintf("{table: %s, op: %s}", yamlString(child), op)
}

func writeEvent(p *printer, e rule) {
	p.line(3, "- type: %s  # %s", yamlString(e.event), printable(e.why))
	p.line(4, "on: %s", onText(e.on, e.child))
	if e.when != "" {
		p.line(4, "when: %s", yamlExpr(e.when))
	}
	if e.occurredAt != "" {
		p.line(4, "occurred_at: %s", yamlExpr(e.occurredAt))
	}
	if e.absorb != nil {
		p.line(4, "absorb: %s", yamlList(e.absorb))
	}
}
