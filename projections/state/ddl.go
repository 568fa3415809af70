package state

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
)

// fillfactor leaves a fifth of each page free. A projection updates the same rows
// over and over: where the new version of a row finds room in its page, Postgres
// needs no new entries in any index and cleans the old ones up in passing (HOT).
// Less than 80 costs more reading than it saves.
const fillfactor = 80

// quote makes a name safe in SQL.
func quote(names ...string) string { return pgx.Identifier(names).Sanitize() }

func quoteAll(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = quote(n)
	}
	return strings.Join(quoted, ", ")
}

// literal makes a text safe in SQL, whatever standard_conforming_strings says.
func literal(s string) string {
	s = strings.ReplaceAll(s, "\x00", "")
	s = strings.ToValidUTF8(s, string(utf8.RuneError))
	s = strings.ReplaceAll(s, "'", "''")
	if strings.Contains(s, `\`) {
		return "E'" + strings.ReplaceAll(s, `\`, `\\`) + "'"
	}
	return "'" + s + "'"
}

// CreateSQL creates the tables of a schema that exists, with their comments and
// without keys and indexes; one statement each. The tables are valid ones.
func CreateSQL(schema string, tables []Table) []string {
	var out []string
	for _, t := range tables {
		out = append(out, createTable(schema, t))
		if t.Comment != "" {
			out = append(out, "COMMENT ON TABLE "+quote(schema, t.Name)+" IS "+literal(t.Comment))
		}
		for _, c := range t.Columns {
			if c.Comment != "" {
				out = append(out, "COMMENT ON COLUMN "+quote(schema, t.Name, c.Name)+" IS "+literal(c.Comment))
			}
		}
	}
	return out
}

func createTable(schema string, t Table) string {
	isKey := map[string]bool{}
	for _, k := range t.Key {
		isKey[k] = true
	}
	lines := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		line := quote(c.Name) + " " + c.Type
		if ty, err := parseType(c.Type); err == nil {
			line = quote(c.Name) + " " + ty.String()
			if ty.collates() && isKey[c.Name] {
				line += ` COLLATE "C"`
			}
		}
		if c.NotNull {
			line += " NOT NULL"
		}
		lines[i] = "\t" + line
	}
	return fmt.Sprintf("CREATE TABLE %s (\n%s\n) WITH (fillfactor = %d)", quote(schema, t.Name), strings.Join(lines, ",\n"), fillfactor)
}

// KeySQL adds the primary keys, one statement for each table. Do it after rows
// were copied, and before a Live works on the tables.
func KeySQL(schema string, tables []Table) []string {
	out := make([]string, len(tables))
	for i, t := range tables {
		out[i] = fmt.Sprintf("ALTER TABLE %s ADD PRIMARY KEY (%s)", quote(schema, t.Name), quoteAll(t.Key))
	}
	return out
}

// IndexSQL adds the secondary indexes, one statement each, and an ANALYZE for
// each table.
func IndexSQL(schema string, tables []Table) []string {
	var out []string
	for _, t := range tables {
		for _, ix := range t.Indexes {
			unique := ""
			if ix.Unique {
				unique = "UNIQUE "
			}
			// Postgres finds a name that is free.
			out = append(out, fmt.Sprintf("CREATE %sINDEX ON %s (%s)", unique, quote(schema, t.Name), quoteAll(ix.Columns)))
		}
		out = append(out, "ANALYZE "+quote(schema, t.Name))
	}
	return out
}

// DropSQL drops the tables that exist, one statement each.
func DropSQL(schema string, tables []Table) []string {
	out := make([]string, len(tables))
	for i, t := range tables {
		out[i] = "DROP TABLE IF EXISTS " + quote(schema, t.Name)
	}
	return out
}
