package translate

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"banyan/wal"
)

// binding says how rows of one wal.Table become rows of a captured table.
type binding struct {
	table *table
	from  []int // captured column to column of the wal.Table
}

// find looks a captured table up by its name, or, where it was renamed before or
// after the rules were compiled, by its number. It gives nil for a table that is
// not captured.
func (r *Rules) find(now *wal.Table) *table {
	if t := r.tables[now.FullName()]; t != nil {
		return t
	}
	for _, t := range r.list {
		if now.OID != 0 && t.source.OID == now.OID {
			return t
		}
	}
	return nil
}

// Renamed says what the rules call a captured table that has another name in
// the stream; "" where it has the same, or is not captured.
func (r *Rules) Renamed(now *wal.Table) string {
	if t := r.find(now); t != nil && t.name != now.FullName() {
		return t.name
	}
	return ""
}

// bind finds the captured columns in a table as it is now. It gives nil for a
// table that is not captured.
func (r *Rules) bind(now *wal.Table) (*binding, error) {
	t := r.find(now)
	if t == nil {
		return nil, nil
	}
	b := &binding{table: t, from: make([]int, len(t.names))}
	for i, name := range t.names {
		at := now.Column(name)
		if at < 0 {
			return nil, &SchemaError{t.name, name, "the column that the rules name is gone",
				"name it in banyan.yaml as it is called now, or take it out (of tables and aggregates), or put it back, and start again"}
		}
		if got := typeName(now.Columns[at]); got != t.cols[i].typeName {
			return nil, &SchemaError{t.name, name, fmt.Sprintf("the type was %s and is now %s", t.cols[i].typeName, got),
				"start again, so that banyan.yaml is checked against the new type and the aggregates with the column are read again"}
		}
		b.from[i] = at
	}
	return b, t.identified(now)
}

// identified makes sure that updates and deletes still tell which row they
// mean: under another replica identity a changed key would come without the
// old one.
func (t *table) identified(now *wal.Table) error {
	known := slices.ContainsFunc(now.Columns, func(c wal.Column) bool { return c.Identity })
	if !known || now.ReplicaIdentity == 'f' {
		return nil // without one the database itself refuses them
	}
	for _, role := range t.roles {
		for _, name := range keyNames(role) {
			if at := now.Column(name); at >= 0 && !now.Columns[at].Identity {
				return &SchemaError{t.name, name, "it is a key, and no longer in the table's replica identity",
					"ALTER TABLE ... REPLICA IDENTITY DEFAULT or FULL; changes since then do not tell their rows: then cdc repair"}
			}
		}
	}
	return nil
}

// read makes a captured row of a row image. Masks are applied here, at the
// door: nothing behind it ever sees a masked value. All texts of the row share
// one allocation.
func (b *binding) read(image wal.Row, maskKey string) row {
	if image == nil {
		return nil
	}
	n := 0
	for _, at := range b.from {
		if at < len(image) {
			n += len(image[at].Bytes)
		}
	}
	buf := make([]byte, 0, n)
	for _, at := range b.from {
		if at < len(image) {
			buf = append(buf, image[at].Bytes...)
		}
	}
	all, out := string(buf), make(row, len(b.from))
	for i, at := range b.from {
		if at >= len(image) {
			out[i].kind = valAbsent
			continue
		}
		v := &image[at]
		out[i].kind = uint8(v.Kind)
		if v.Kind != wal.Text {
			continue
		}
		out[i].s, all = all[:len(v.Bytes)], all[len(v.Bytes):]
		if m := b.table.cols[i].mask; m != "" {
			out[i] = masked(m, out[i], maskKey)
		}
	}
	return out
}

// masked hides a value: drop makes it NULL, hash its HMAC-SHA-256 in hex, which
// still tells equal values from different ones.
func masked(mask string, v val, key string) val {
	if mask == "drop" {
		return val{}
	}
	h := hmac.New(sha256.New, []byte(key))
	h.Write([]byte(v.s))
	return val{hex.EncodeToString(h.Sum(nil)), valText}
}

func (c *Config) maskKey() string {
	if c.Source.MaskKey != "" {
		return c.Source.MaskKey
	}
	return c.Source.Name
}
