package translate

import (
	"fmt"
	"slices"
	"strings"

	"banyan/event"
	"banyan/wal"
)

// database is a database in memory that writes a log as Postgres does: under
// the default replica identity an update carries no old row unless its key
// changes, and a delete carries the key only.
type database struct {
	tables  map[string]*wal.Table
	rows    map[string]map[string]map[string]string // table, key, column; NULL is not there
	changes []wal.Change
	script  []string // what was done, for failures
}

func newDatabase(tables []*wal.Table) *database {
	d := &database{tables: map[string]*wal.Table{}, rows: map[string]map[string]map[string]string{}}
	for _, t := range tables {
		d.tables[t.FullName()] = t
		d.rows[t.FullName()] = map[string]map[string]string{}
	}
	return d
}

func (d *database) keyCols(t *wal.Table) []string {
	var out []string
	for n := 1; ; n++ {
		i := slices.IndexFunc(t.Columns, func(c wal.Column) bool { return c.Key == n })
		if i < 0 {
			return out
		}
		out = append(out, t.Columns[i].Name)
	}
}

func (d *database) key(t *wal.Table, r map[string]string) string {
	var parts []string
	for _, c := range d.keyCols(t) {
		parts = append(parts, r[c])
	}
	return event.JoinKey(parts...)
}

// image makes a row image; toast names columns that the log leaves out.
func image(t *wal.Table, r map[string]string, toast []string) wal.Row {
	out := make(wal.Row, len(t.Columns))
	for i, c := range t.Columns {
		v, ok := r[c.Name]
		switch {
		case slices.Contains(toast, c.Name):
			out[i].Kind = wal.Unchanged
		case ok:
			out[i] = wal.Value{Kind: wal.Text, Bytes: []byte(v)}
		}
	}
	return out
}

func (d *database) keyImage(t *wal.Table, r map[string]string) wal.Row {
	out := image(t, r, nil)
	keys := d.keyCols(t)
	for i, c := range t.Columns {
		if t.ReplicaIdentity != 'f' && !slices.Contains(keys, c.Name) {
			out[i] = wal.Value{Kind: wal.Absent}
		}
	}
	return out
}

func (d *database) log(c wal.Change) {
	c.Ordinal = int64(len(d.changes))
	if c.Ordinal == 0 {
		d.script = append(d.script, "-- transaction")
	}
	line := c.Op.String() + " " + c.Table.Name
	for _, r := range []wal.Row{c.Old, c.New} {
		line += " ("
		for i, v := range r {
			if v.Kind != wal.Absent {
				line += fmt.Sprintf(" %s=%s", c.Table.Columns[i].Name, v.Bytes)
			}
		}
		line += " )"
	}
	d.script = append(d.script, line)
	d.changes = append(d.changes, c)
}

func (d *database) insert(table string, r map[string]string) error {
	t := d.tables[table]
	k := d.key(t, r)
	if d.rows[table][k] != nil {
		return fmt.Errorf("%s %s is there already", table, k)
	}
	d.rows[table][k] = r
	d.log(wal.Change{Op: wal.Insert, Table: t, New: image(t, r, nil)})
	return nil
}

func (d *database) update(table, key string, set map[string]string, null, toast []string) error {
	t := d.tables[table]
	was := d.rows[table][key]
	if was == nil {
		return fmt.Errorf("%s %s is not there", table, key)
	}
	now := map[string]string{}
	for k, v := range was {
		now[k] = v
	}
	for k, v := range set {
		now[k] = v
	}
	for _, k := range null {
		delete(now, k)
	}
	c := wal.Change{Op: wal.Update, Table: t, New: image(t, now, toast)}
	if nk := d.key(t, now); nk != key || t.ReplicaIdentity == 'f' {
		c.Old = d.keyImage(t, was)
		if nk != key && d.rows[table][nk] != nil {
			return fmt.Errorf("%s %s is there already", table, nk)
		}
		delete(d.rows[table], key)
		key = nk
	}
	d.rows[table][key] = now
	d.log(c)
	return nil
}

func (d *database) delete(table, key string) error {
	t := d.tables[table]
	was := d.rows[table][key]
	if was == nil {
		return fmt.Errorf("%s %s is not there", table, key)
	}
	delete(d.rows[table], key)
	d.log(wal.Change{Op: wal.Delete, Table: t, Old: d.keyImage(t, was)})
	return nil
}

func (d *database) truncate(table string) {
	d.rows[table] = map[string]map[string]string{}
	d.log(wal.Change{Op: wal.Truncate, Table: d.tables[table]})
}

// run reads one statement: insert T col=val..., update T key col=val..., delete
// T key, truncate T. A value may be quoted; NULL is NULL, ~ is left out of the
// log as an unchanged TOAST column.
func (d *database) run(line string) error {
	words := splitWords(line)
	if len(words) < 2 || d.tables[words[1]] == nil {
		return fmt.Errorf("%q: want insert, update, delete or truncate and a table", line)
	}
	table, rest, key := words[1], words[2:], ""
	if words[0] == "update" || words[0] == "delete" {
		if len(rest) == 0 {
			return fmt.Errorf("%q: want a key", line)
		}
		key, rest = rest[0], rest[1:]
	}
	set := map[string]string{}
	var null, toast []string
	for _, w := range rest {
		col, v, ok := strings.Cut(w, "=")
		if !ok || d.tables[table].Column(col) < 0 {
			return fmt.Errorf("%q: %q is no column=value", line, w)
		}
		switch v {
		case "NULL":
			null = append(null, col)
		case "~":
			toast = append(toast, col)
		default:
			set[col] = strings.Trim(v, "'")
		}
	}
	switch words[0] {
	case "insert":
		return d.insert(table, set)
	case "update":
		return d.update(table, key, set, null, toast)
	case "delete":
		return d.delete(table, key)
	case "truncate":
		d.truncate(table)
		return nil
	}
	return fmt.Errorf("%q: unknown statement", line)
}

func splitWords(line string) []string {
	var out []string
	var b strings.Builder
	quoted := false
	for _, r := range line {
		switch {
		case r == '\'':
			quoted = !quoted
			b.WriteRune(r)
		case r == ' ' && !quoted:
			if b.Len() > 0 {
				out = append(out, b.String())
				b.Reset()
			}
		default:
			b.WriteRune(r)
		}
	}
	if b.Len() > 0 {
		out = append(out, b.String())
	}
	return out
}

// trees reads the whole unit of an aggregate as a snapshot would.
func (d *database) trees(u wal.Unit) []*wal.Tree {
	var out []*wal.Tree
	for _, r := range d.sorted(u.Root.Table.FullName()) {
		out = append(out, d.tree(&u.Root, r))
	}
	return out
}

func (d *database) sorted(table string) []map[string]string {
	var keys []string
	for k := range d.rows[table] {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	var out []map[string]string
	for _, k := range keys {
		out = append(out, d.rows[table][k])
	}
	return out
}

func (d *database) tree(u *wal.UnitTable, r map[string]string) *wal.Tree {
	t := &wal.Tree{Row: image(u.Table, r, nil), Children: make([][]wal.Tree, len(u.Children))}
	for i := range u.Children {
		child := &u.Children[i]
		for _, cr := range d.sorted(child.Table.FullName()) {
			fits := true
			for _, p := range child.Parent {
				fits = fits && cr[child.Table.Columns[p[0]].Name] == r[u.Table.Columns[p[1]].Name]
			}
			if fits {
				t.Children[i] = append(t.Children[i], *d.tree(child, cr))
			}
		}
	}
	return t
}
