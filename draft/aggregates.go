package draft

import (
	"fmt"
	"slices"
	"strings"

	"banyan/wal"
)

// adopt makes tables parts of others where the keys say so. A table is a part
// of another when it names exactly one row of it, always, by the other's key,
// and looks like a part: by its name, by a key that begins with the other's
// key, or by being deleted with it.
func (d *drafter) adopt() {
	for _, t := range d.tables {
		t.parent, t.link, t.why = d.bestParent(t)
	}
	// A circle has no top: all its tables stand for themselves.
	for _, t := range d.tables {
		seen := map[*table]bool{}
		for up := t; up != nil && !seen[up]; up = up.parent {
			seen[up] = true
			if up.parent == t {
				for loop := t; loop.parent != nil; {
					loop.parent, loop = nil, loop.parent
				}
				break
			}
		}
	}
	for _, t := range d.tables {
		if t.parent == nil {
			continue
		}
		t.parent.children = append(t.parent.children, t)
		d.guess(t.FullName(), "part of "+t.parent.FullName(), t.why)
	}
	for _, t := range d.tables {
		nameChildren(t)
	}
}

// bestParent weighs the candidates: a name that begins with the other's is the
// strongest sign, a key that does the next, ON DELETE CASCADE the weakest. Two
// that weigh the same mean that there is no single one.
func (d *drafter) bestParent(t *table) (*table, wal.ForeignKey, string) {
	type candidate struct {
		table  *table
		link   wal.ForeignKey
		weight int
		why    []string
	}
	var best []candidate
	perTable := map[string]int{}
	for _, fk := range t.ForeignKeys {
		perTable[fk.References]++
	}
	for _, fk := range t.ForeignKeys {
		p := d.byName[fk.References]
		if p == nil || p == t || fk.Nullable || !sameNames(fk.Referenced, p.key) || perTable[fk.References] > 1 ||
			len(intersect(fk.Columns, t.columns)) < len(fk.Columns) {
			continue
		}
		c := candidate{table: p, link: fk}
		if prefix := namePrefix(t.Name, p.Name); prefix != "" {
			c.weight += 4
			c.why = append(c.why, fmt.Sprintf("its name begins with %s", prefix))
		}
		if len(t.key) >= len(fk.Columns) && sameNames(t.key[:len(fk.Columns)], fk.Columns) {
			c.weight += 2
			c.why = append(c.why, "its key begins with the key of "+p.FullName())
		}
		if fk.OnDelete == 'c' && !standsAlone(t) {
			c.weight++
			c.why = append(c.why, "it is deleted with its "+p.FullName())
		}
		if c.weight == 0 || len(best) > 0 && c.weight < best[0].weight {
			continue
		}
		if len(best) > 0 && c.weight > best[0].weight {
			best = nil
		}
		best = append(best, c)
	}
	if len(best) != 1 {
		return nil, wal.ForeignKey{}, ""
	}
	b := best[0]
	return b.table, b.link, strings.Join(b.why, ", and ") + fmt.Sprintf("; %s always names one", strings.Join(b.link.Columns, ", "))
}

// namePrefix returns the singular of the parent's name where the child's name
// begins with it and goes on: order_items begins with order.
func namePrefix(child, parent string) string {
	c, p := words(child), words(parent)
	if len(p) == 0 || len(c) <= len(p) {
		return ""
	}
	for i := range p {
		if c[i] != p[i] && c[i] != singular(p[i]) {
			return ""
		}
	}
	return strings.Join(last(p, singular), "_")
}

// standsAlone reports whether the table is plainly a thing of its own, so that
// ON DELETE CASCADE, which frameworks write everywhere, proves nothing.
func standsAlone(t *table) bool {
	ws := last(words(t.Name), singular)
	if len(ws) > 0 && births[ws[len(ws)-1]] != "" {
		return true
	}
	return slices.ContainsFunc(t.Columns, func(c wal.CatalogColumn) bool { return statusLike(t, &c) })
}

func sameNames(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for _, n := range a {
		if !slices.Contains(b, n) {
			return false
		}
	}
	return true
}

// notAs are the names that expressions use for something else.
var notAs = wordSet(`new old state op key last changed`)

// nameChildren chooses the names under which the children stand in the state.
func nameChildren(t *table) {
	taken := map[string]bool{}
	for _, c := range t.columns {
		taken[c] = true
	}
	for _, c := range t.children {
		ws := words(c.Name)
		short := ws
		if prefix := namePrefix(c.Name, t.Name); prefix != "" {
			short = ws[len(words(t.Name)):]
		}
		short = last(short, plural)
		for _, try := range []string{strings.Join(short, "_"), strings.Join(ws, "_"), strings.Join(words(c.Schema+"_"+c.Name), "_")} {
			if c.as = try; fits(try) && !taken[try] {
				break
			}
		}
		if !fits(c.as) {
			c.as = "rows"
		}
		c.as = unique(c.as, func(n string) bool { return taken[n] })
		taken[c.as] = true
	}
}

func fits(name string) bool {
	return name != "" && !notAs[name] && (name[0] < '0' || name[0] > '9') && len(name) < 60
}

// unique appends the first number that makes the name free.
func unique(name string, taken func(string) bool) string {
	if !taken(name) {
		return name
	}
	for n := 2; ; n++ {
		if try := fmt.Sprintf("%s%d", name, n); !taken(try) {
			return try
		}
	}
}

// name gives every root its aggregate and its topic. Tables of the schema
// public are named first, so that theirs are the short names.
func (d *drafter) name() {
	roots := d.roots()
	slices.SortStableFunc(roots, func(a, b *table) int {
		switch {
		case (a.Schema == "public") == (b.Schema == "public"):
			return 0
		case a.Schema == "public":
			return -1
		}
		return 1
	})
	aggregates, topics := map[string]bool{}, map[string]bool{}
	for _, t := range roots {
		ws := words(t.Name)
		one := last(ws, singular)
		t.nameWhy = "one row of " + t.FullName()
		t.aggregate = fitAggregate(pascal(one))
		if aggregates[t.aggregate] {
			t.aggregate = fitAggregate(pascal(append(words(t.Schema), one...)))
			t.nameWhy += ", with its schema because the short name is taken"
		}
		t.aggregate = unique(t.aggregate, func(n string) bool { return aggregates[n] })
		aggregates[t.aggregate] = true
		d.guess(t.FullName(), "aggregate "+t.aggregate, t.nameWhy)

		topic := strings.Join(last(ws, plural), "_")
		if topic == "" {
			topic = strings.ToLower(t.aggregate)
		}
		topic = topic[:min(len(topic), 100)]
		if topics[topic] {
			topic = strings.Join(append(words(t.Schema), topic), "_")
		}
		if topic == "watermarks" || topic == "latest" {
			topic += "_rows" // those endings are Banyan's own
		}
		topic = unique(topic, func(n string) bool { return topics[n] })
		topics[topic] = true
		t.topic = d.source + "." + topic
	}
}

// fitAggregate makes a name of a letter and up to forty letters and digits, so
// that what the events add still fits.
func fitAggregate(name string) string {
	if name == "" {
		name = "Thing"
	}
	if name[0] < 'A' || name[0] > 'Z' {
		name = "T" + name
	}
	return name[:min(len(name), 40)]
}
