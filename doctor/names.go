package doctor

import (
	"regexp"
	"strconv"
	"strings"

	"banyan/wal"
)

// reserved are the words that cannot be the name of a table or a column without
// quotes. A test compares them with the server's own list.
var reserved = words(`all analyse analyze and any array as asc asymmetric authorization binary both case cast check collate
	collation column concurrently constraint create cross current_catalog current_date current_role current_schema
	current_time current_timestamp current_user default deferrable desc distinct do else end except false fetch for
	foreign freeze from full grant group having ilike in initially inner intersect into is isnull join lateral leading
	left like limit localtime localtimestamp natural not notnull null offset on only or order outer overlaps placing
	primary references returning right select session_user similar some symmetric system_user table tablesample then to
	trailing true union unique user using variadic verbose when where window with`)

func words(s string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(s) {
		m[w] = true
	}
	return m
}

var plainName = regexp.MustCompile(`^[a-z_][a-z0-9_$]*$`)

// NeedsQuotes reports whether SQL takes the name only in double quotes.
func NeedsQuotes(name string) bool { return !plainName.MatchString(name) || reserved[name] }

// Quote writes the name as SQL takes it, in quotes only where they are needed.
func Quote(name string) string {
	if !NeedsQuotes(name) {
		return name
	}
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}

// QuoteTable writes schema.name as SQL takes it.
func QuoteTable(t *wal.CatalogTable) string { return Quote(t.Schema) + "." + Quote(t.Name) }

func quoteAll(names []string) string {
	q := make([]string, len(names))
	for i, n := range names {
		q[i] = Quote(n)
	}
	return strings.Join(q, ", ")
}

// Literal writes a text as an SQL literal.
func literal(s string) string { return `'` + strings.ReplaceAll(s, `'`, `''`) + `'` }

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}
