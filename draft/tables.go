package draft

import (
	"fmt"
	"slices"
	"strings"

	"banyan/doctor"
	"banyan/wal"
)

// choose decides whether the table is captured, and which of its columns.
func (d *drafter) choose(c *wal.CatalogTable) {
	if c.Root != "" {
		return // its rows come under the root's name
	}
	full := c.FullName()
	leave := func(reason string) {
		d.left = append(d.left, leftOut{full, reason})
		d.guess(full, "left out", reason)
	}
	if reason := d.unfit(c); reason != "" {
		leave(reason)
		return
	}
	t := &table{CatalogTable: c, key: c.Key(), money: map[string]int{}}
	for _, name := range t.key {
		if word := secret(c.Column(name), false); word != "" {
			leave(fmt.Sprintf("its key %s looks like a secret (%s), and a key stands in every event's id", name, word))
			return
		}
	}
	if what, reason := doctor.Records(c); what != doctor.NoRecord {
		says := map[doctor.Record]string{
			doctor.Outbox:    "it seems to hold events that the application writes itself",
			doctor.Audit:     "it seems to record changes of other tables, which are told already",
			doctor.Technical: "it seems to serve the application and not the business",
		}
		leave(says[what] + ", by " + reason)
		return
	}
	d.sortColumns(t)
	d.tables = append(d.tables, t)
	d.byName[full] = t
}

// unfit says why a table cannot be captured at all, or "".
func (d *drafter) unfit(c *wal.CatalogTable) string {
	same := 0
	for _, o := range d.cat.Tables {
		if o.FullName() == c.FullName() {
			same++
		}
	}
	key := c.Key()
	switch {
	case c.Extension != "":
		return "it belongs to the extension " + c.Extension
	case c.Kind == wal.KindForeign:
		return "it is a foreign table: its rows are in another server's WAL"
	case c.Unlogged:
		return "it is unlogged: its changes are not in the WAL"
	case same > 1:
		return "another table has the same name once schema and name are joined"
	case len(key) == 0:
		return "it has no key: nothing tells its rows apart, and publishing it would break its updates and deletes"
	case c.Filtered:
		return "row security hides rows of it from the role " + d.cat.Role.Name
	}
	if root := c.IdentityColumns(); c.Kind == wal.KindPartitioned && len(root) > 0 && !sameNames(intersect(key, root), key) {
		return "its replica identity lacks its key (" + strings.Join(key, ", ") + "): nobody could tell which row was deleted"
	}
	for _, leaf := range d.cat.Leaves(c) {
		of := ""
		if leaf != c {
			of = "of its partition " + leaf.FullName() + " "
		}
		if !leaf.Updatable() {
			return "the replica identity " + of + "names nothing: publishing it would break its updates and deletes"
		}
		for _, k := range key {
			if !slices.Contains(leaf.IdentityColumns(), k) {
				return "the replica identity " + of + "lacks its key column " + k + ": nobody could tell which row was deleted"
			}
		}
	}
	return ""
}

var bookkeeping = wordSet(`updated_at updatedat updated_on last_updated last_update last_modified modified_at modifiedat modified_on
	changed_at date_modified date_updated touched_at mtime lock_version row_version rowversion`)

// sortColumns decides for every column whether it is kept and what it is.
func (d *drafter) sortColumns(t *table) {
	full := t.FullName()
	referring := map[string]bool{}
	for _, fk := range t.ForeignKeys {
		for _, c := range fk.Columns {
			referring[c] = true
		}
	}
	for i := range t.Columns {
		c := &t.Columns[i]
		omit := func(reason string) {
			t.omit = append(t.omit, reasoned{c.Name, reason})
			d.guess(full+"."+c.Name, "left out", reason)
		}
		isKey := slices.Contains(t.key, c.Name)
		if c.Generated {
			// Not in omit: for the configuration there is no such column.
			t.computed = append(t.computed, c.Name)
			d.guess(full+"."+c.Name, "left out", "generated: the WAL does not carry it")
			continue
		}
		if word := secret(c, referring[c.Name]); word != "" && !isKey {
			omit("its name looks like a secret (" + word + ")")
			continue
		}
		t.columns = append(t.columns, c.Name)
		if isKey || referring[c.Name] {
			continue
		}
		if bookkeeping[strings.ToLower(strings.ReplaceAll(c.Name, " ", "_"))] {
			t.bookkeeping = append(t.bookkeeping, c.Name)
			continue
		}
		if scale, ok := moneyScale(c); ok {
			t.money[c.Name] = scale
			d.guess(full+"."+c.Name, "money with "+fmt.Sprint(scale)+" decimals", "its name, and its type "+c.Declared)
		}
	}
}

var (
	secretWords = wordSet(`password passwd pwd passphrase passcode hash salt token tokens secret secrets apikey credential
		credentials card pan cvv cvc iban ssn otp totp pin mfa passport signature privatekey accesskey`)
	secretPairs = []string{"api key", "private key", "access key", "secret key", "bank account", "account number", "social security",
		"tax id", "national id", "recovery code", "backup code", "reset code", "session key"}
)

// secret returns the word by which a column's name looks like a secret, or "".
// A number that refers to another row is none, nor is a column named as an id
// or as the last digits, a kind, a brand.
func secret(c *wal.CatalogColumn, referring bool) string {
	if c == nil {
		return ""
	}
	ws := words(c.Name)
	if len(ws) == 0 {
		return ""
	}
	joined := " " + strings.Join(ws, " ") + " "
	for _, p := range secretPairs {
		if strings.Contains(joined, " "+p+" ") {
			return p
		}
	}
	switch c.BaseType {
	case "boolean", "date", "timestamp without time zone", "timestamp with time zone":
		return "" // whether or when there was one
	case "integer", "bigint", "smallint":
		if tail := ws[len(ws)-1]; referring || tail == "id" || tail == "count" {
			return ""
		}
	}
	for _, w := range ws {
		if secretWords[w] {
			return w
		}
	}
	return ""
}

var (
	moneyWords = wordSet(`price prices amount total subtotal cost costs fee fees balance salary wage revenue refund deposit charge
		charges payment paid due net gross discount tax vat turnover budget credit debit`)
	notMoney = wordSet(`rate percent percentage pct ratio factor quantity qty count weight number level score points days hours`)
)

// moneyScale guesses by name that a column is money. Only a numeric of a fixed
// scale will do: what does not fit a scale is parked, and a draft parks nothing.
func moneyScale(c *wal.CatalogColumn) (scale int, ok bool) {
	if c.TypeName != "numeric" || c.TypMod < 4 {
		return 0, false
	}
	precision := int(c.TypMod-4) >> 16
	scale = int(c.TypMod-4) & 0x7ff
	const digits = 18 // of an amount
	if precision > digits || scale > precision {
		return 0, false
	}
	for _, w := range words(c.Name) {
		if notMoney[w] {
			return 0, false
		}
		ok = ok || moneyWords[w]
	}
	return scale, ok
}

// intersect keeps of a what is in b too.
func intersect(a, b []string) []string {
	var out []string
	for _, n := range a {
		if slices.Contains(b, n) {
			out = append(out, n)
		}
	}
	return out
}
