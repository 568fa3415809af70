package draft

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"banyan/wal"
)

const (
	mostValues   = 20 // of a status; more than that is no status
	longestValue = 60 // bytes of one
)

var statusWords = wordSet(`status state stage phase lifecycle`)

// statusLike reports whether the column's name and type are those of a status.
// The state of an address is none.
func statusLike(t *table, c *wal.CatalogColumn) bool {
	ws := words(c.Name)
	if len(ws) == 0 || len(ws) > 3 || !statusWords[ws[len(ws)-1]] || c.Generated {
		return false
	}
	if ws[len(ws)-1] == "state" && slices.ContainsFunc(t.Columns, func(o wal.CatalogColumn) bool {
		return hasAny(strings.ToLower(o.Name), "city", "zip", "postcode", "postal_code", "country", "street")
	}) {
		return false
	}
	return c.Labels != nil || c.BaseType == "text" || c.BaseType == "character varying" || c.BaseType == "character"
}

// flagLike returns the word that a boolean column says of the thing when it is
// true: paid, is_shipped.
func flagLike(c *wal.CatalogColumn) string {
	ws := words(c.Name)
	if len(ws) > 1 && (ws[0] == "is" || ws[0] == "was" || ws[0] == "has") {
		ws = ws[1:]
	}
	if c.TypeName != "boolean" || len(ws) != 1 || !isParticiple(ws[0]) || gone[ws[0]] {
		return ""
	}
	return ws[0]
}

var gone = wordSet(`deleted removed archived discarded`)

// softLike reports whether the column marks a row as gone that is still there.
func softLike(c *wal.CatalogColumn) bool {
	ws := words(c.Name)
	if len(ws) > 1 && ws[0] == "is" {
		ws = ws[1:]
	}
	if len(ws) == 0 || !gone[ws[0]] {
		return false
	}
	if isTime(c) {
		return len(ws) == 2 && (ws[1] == "at" || ws[1] == "on") && !c.NotNull
	}
	return c.TypeName == "boolean" && len(ws) == 1
}

func isTime(c *wal.CatalogColumn) bool {
	return c.TypeName == "timestamp without time zone" || c.TypeName == "timestamp with time zone" || c.TypeName == "date"
}

// observe looks for columns whose values tell of events, and at the values.
func (d *drafter) observe(ctx context.Context, t *table, samples Sampler) error {
	if t.parent != nil {
		return nil // a part's status is told by its aggregate's change
	}
	for _, name := range t.columns {
		c := t.Column(name)
		switch {
		case slices.Contains(t.key, name):
		case softLike(c) && t.soft == "":
			t.soft, t.softWhy = name, name+" says that the row counts as gone"
		case flagLike(c) != "":
			t.statuses = append(t.statuses, status{column: name, isBool: true, values: []string{flagLike(c)}, why: "the flag " + name})
		case statusLike(t, c):
			s, err := d.values(ctx, t, c, samples)
			if err != nil {
				return err
			}
			t.statuses = append(t.statuses, s)
		}
	}
	return nil
}

// values finds what a status may be: the labels of an enum, the list of a check
// constraint, else what is seen. A padded char is sampled, because the check
// lists its values without their padding.
func (d *drafter) values(ctx context.Context, t *table, c *wal.CatalogColumn, samples Sampler) (status, error) {
	s := status{column: c.Name}
	if c.Labels != nil && len(c.Labels) <= mostValues {
		s.values, s.why = c.Labels, "the labels of its type "+c.TypeName
		return s, nil
	}
	if c.Allowed != nil && len(c.Allowed) <= mostValues && c.BaseType != "character" {
		s.values, s.why = c.Allowed, "the values that its CHECK allows"
		return s, nil
	}
	values, all, err := samples.Values(ctx, t.CatalogTable, c.Name, mostValues+1)
	if ctx.Err() != nil {
		return s, ctx.Err()
	}
	if err != nil {
		s.why = "its values could not be sampled: " + oneLine(err.Error())
		return s, nil
	}
	where := "the values seen in a sample; rarer ones are missing here"
	if all {
		where = "the values that its rows have now"
	}
	s.why = where
	switch {
	case len(values) == 0:
		s.why = "the table has no rows yet, so its values are not known"
	case len(values) > mostValues:
		s.why = fmt.Sprintf("it has more than %d values, so it is taken for no status", mostValues)
	default:
		for _, v := range values {
			if v != "" && len(v) <= longestValue && utf8.ValidString(v) {
				s.values = append(s.values, v)
			}
		}
	}
	return s, nil
}

// engineEvents are made without a rule: by snapshots, re-keying and removal.
var engineEvents = []string{"Recorded", "Corrected", "Removed", "Rekeyed"}

// refusals are values with which a thing can be born dead.
var refusals = wordSet(`rejected refused declined failed denied invalid`)

// rules writes the event rules of one aggregate. The order matters: the first
// that fits a change makes its event.
func (d *drafter) rules(t *table) {
	for _, e := range engineEvents {
		d.types[t.aggregate+e] = true
	}
	changed, deleted := d.newType(t.aggregate+"Changed"), d.newType(t.aggregate+"Deleted")
	birth, birthWhy, participle := d.birth(t)
	var parts []string
	for _, c := range t.family() {
		if !slices.Contains(parts, c.FullName()) {
			parts = append(parts, c.FullName())
		}
	}
	updatedAt := ""
	for _, b := range t.bookkeeping {
		if isTime(t.Column(b)) && updatedAt == "" {
			updatedAt = b
		}
	}
	byStatus := d.statusRules(t, participle, updatedAt)
	for _, r := range byStatus {
		// What is stored as refused at once was never placed.
		if r.on == "insert" {
			t.events = append(t.events, r)
		}
	}
	t.events = append(t.events, rule{event: birth, on: "insert", occurredAt: d.birthTime(t, participle), absorb: parts, why: birthWhy})
	if t.soft != "" {
		t.events = append(t.events, d.softRule(t, updatedAt, parts))
	}
	for _, r := range byStatus {
		if r.on == "update" {
			t.events = append(t.events, r)
		}
	}
	t.events = append(t.events, rule{event: changed, on: "update", when: differs, occurredAt: ref("new", updatedAt), absorb: parts,
		why: "any other change of the row"})
	t.events = append(t.events, rule{event: deleted, on: "delete", absorb: parts, why: "the row is deleted"})
	for _, c := range t.family() {
		for _, op := range []string{"insert", "update", "delete"} {
			r := rule{event: changed, on: op, child: c.FullName(), absorb: parts, why: "a row of " + c.FullName() + " changes by itself"}
			if op == "update" {
				r.when = differs
			}
			t.events = append(t.events, r)
		}
	}
	for _, c := range append([]*table{t}, t.family()...) {
		if c.bookkeeping == nil {
			continue
		}
		g := ignored{only: c.bookkeeping, reason: "nothing of the business changes with " + strings.Join(c.bookkeeping, ", ")}
		if c != t {
			g.child = c.FullName()
		}
		t.ignores = append(t.ignores, g)
	}
	for i := range t.events {
		if len(t.events[i].absorb) == 0 {
			t.events[i].absorb = nil
		}
		e := t.events[i]
		d.guess(t.aggregate, "event "+e.event, e.why)
	}
}

// differs is the condition that an update changes what the state names: a row
// compares by the columns of its state. An update that changes nothing, or only
// what is not kept, is then no event.
const differs = "new != old"

// newType reserves an event type and returns it, with a number where it is
// taken: a type is one thing over all aggregates.
func (d *drafter) newType(name string) string {
	name = unique(name, func(n string) bool { return d.types[n] })
	d.types[name] = true
	return name
}

// birth names the event of an insert: by the word of the business where the
// thing is well known, else by a time that every row has (charged_at).
func (d *drafter) birth(t *table) (event, why, participle string) {
	ws := last(words(t.Name), singular)
	if len(ws) == 0 {
		return d.newType(t.aggregate + "Created"), "a row is inserted", "created"
	}
	noun := ws[len(ws)-1]
	if done := verbal[noun]; done != "" {
		stem := t.aggregate
		if rest := strings.TrimSuffix(stem, pascal([]string{noun})); rest != "" {
			stem = rest
		}
		return d.newType(stem + done), "the word of the business for a new " + noun, strings.ToLower(done)
	}
	said, _ := alwaysAt(t)
	if word := births[noun]; word != "" {
		return d.newType(t.aggregate + word), "the word of the business for a new " + noun, strings.ToLower(word)
	}
	if len(said) == 1 {
		return d.newType(t.aggregate + pascal(said)), "every row has the time " + said[0], said[0]
	}
	return d.newType(t.aggregate + "Created"), "a row is inserted; the business will have a better word", "created"
}

// alwaysAt lists what the times that every row has say of it, and their
// columns: charged for charged_at.
func alwaysAt(t *table) (said, columns []string) {
	for i := range t.Columns {
		c := &t.Columns[i]
		ws := words(c.Name)
		if len(ws) == 2 && (ws[1] == "at" || ws[1] == "on") && isTime(c) && c.NotNull && isParticiple(ws[0]) &&
			ws[0] != "created" && ws[0] != "inserted" && !bookkeeping[ws[0]+"_at"] && !gone[ws[0]] && slices.Contains(t.columns, c.Name) {
			said, columns = append(said, ws[0]), append(columns, c.Name)
		}
	}
	return said, columns
}

// birthTime finds the column that says when it happened.
func (d *drafter) birthTime(t *table, participle string) string {
	noun := strings.Join(last(words(t.Name), singular), "_")
	for _, try := range []string{participle + "_at", participle + "_on", noun + "_date", noun + "_time", "created_at", "created_on", "created",
		"create_date", "inserted_at", "date_created", "occurred_at", "happened_at"} {
		for _, name := range t.columns {
			if strings.Join(words(name), "_") == try && isTime(t.Column(name)) {
				return ref("new", name)
			}
		}
	}
	if _, columns := alwaysAt(t); len(columns) == 1 {
		return ref("new", columns[0])
	}
	return ""
}

// softRule tells of a row that is only marked as gone. <Aggregate>Removed is
// the engine's own word for a row that is no longer there, so this says
// Withdrawn.
func (d *drafter) softRule(t *table, updatedAt string, parts []string) rule {
	r := rule{event: d.newType(t.aggregate + "Withdrawn"), on: "update", absorb: parts, why: t.softWhy + "; the row itself is still there"}
	if isTime(t.Column(t.soft)) {
		r.when = ref("old", t.soft) + " == nil && " + ref("new", t.soft) + " != nil"
		r.occurredAt = ref("new", t.soft)
	} else {
		r.when = ref("old", t.soft) + " != true && " + ref("new", t.soft) + " == true"
		r.occurredAt = ref("new", updatedAt)
	}
	return r
}

// statusRules gives one rule for every value of every status, and for values
// that say that a thing was refused one at birth too.
func (d *drafter) statusRules(t *table, born, updatedAt string) []rule {
	var births, updates []rule
	parts := make([]string, 0, len(t.children))
	for _, c := range t.family() {
		parts = append(parts, c.FullName())
	}
	for i := range t.statuses {
		s := &t.statuses[i]
		if s.isBool {
			when := ref("old", s.column) + " != true && " + ref("new", s.column) + " == true"
			updates = append(updates, rule{event: d.valueType(t, s, s.values), on: "update", when: when, absorb: parts,
				occurredAt: d.timeOf(t, s.values[0], updatedAt), why: s.why + " becomes true"})
			continue
		}
		for _, group := range groups(s.values) {
			word := strings.Join(words(group[0]), "_")
			if word == born {
				s.why += "; " + strconv.Quote(group[0]) + " is told by the birth"
				continue
			}
			event := d.valueType(t, s, group)
			is := ref("new", s.column) + " == " + quoteExpr(group[0])
			if len(group) > 1 {
				quoted := make([]string, len(group))
				for j, v := range group {
					quoted[j] = quoteExpr(v)
				}
				is = ref("new", s.column) + " in [" + strings.Join(quoted, ", ") + "]"
			}
			why := fmt.Sprintf("%s becomes %s", s.column, strconv.QuoteToASCII(group[0]))
			at := d.timeOf(t, word, updatedAt)
			if ws := words(group[0]); len(ws) > 0 && refusals[ws[len(ws)-1]] {
				births = append(births, rule{event: event, on: "insert", when: is, absorb: parts, occurredAt: d.birthTime(t, born),
					why: fmt.Sprintf("%s is %s from the start", s.column, strconv.QuoteToASCII(group[0]))})
			}
			updates = append(updates, rule{event: event, on: "update", absorb: parts, occurredAt: at, why: why,
				when: ref("new", s.column) + " != " + ref("old", s.column) + " && " + is})
		}
	}
	return append(births, updates...)
}

// timeOf finds the column that says when the thing became so.
func (d *drafter) timeOf(t *table, word, updatedAt string) string {
	for _, name := range t.columns {
		if n := strings.Join(words(name), "_"); (n == word+"_at" || n == word+"_on") && isTime(t.Column(name)) {
			return ref("new", name)
		}
	}
	return ref("new", updatedAt)
}

// groups puts values together that give the same name: "in progress" and
// "In-Progress" are one event. Order is that of the first of each.
func groups(values []string) [][]string {
	var out [][]string
	index := map[string]int{}
	for _, v := range values {
		name := strings.Join(words(v), "_")
		if name == "" {
			name = "\x00" + v // no letter in it: it stays alone
		}
		i, ok := index[name]
		if !ok {
			i = len(out)
			index[name], out = i, append(out, nil)
		}
		out[i] = append(out[i], v)
	}
	return out
}

// spoken are values that are no participles but have one.
var spoken = map[string]string{"open": "Opened", "active": "Activated", "inactive": "Deactivated", "enabled": "Enabled",
	"cancel": "Cancelled", "complete": "Completed", "void": "Voided", "draft": "Drafted", "closed": "Closed"}

// valueType names the event of a value: shipped is OrderShipped, "In Progress"
// OrderInProgress. A code of one or two letters, or a value without any, says
// nothing by itself and takes the column's name with it.
func (d *drafter) valueType(t *table, s *status, group []string) string {
	ws := words(group[0])
	column := pascal(words(s.column))
	var name string
	switch joined := strings.Join(ws, ""); {
	case joined == "":
		name = column + strconv.Itoa(slices.Index(s.values, group[0])+1)
	case len(joined) <= 2:
		name = column + pascal(ws)
	case len(ws) == 1 && spoken[ws[0]] != "":
		name = spoken[ws[0]]
	default:
		name = pascal(ws)
	}
	// Two statuses of one thing may share a value: payment_status paid.
	const longest = 62
	fit := func(n string) string { return n[:min(len(n), longest-3)] }
	for _, try := range []string{t.aggregate + name, t.aggregate + "Became" + name, t.aggregate + column + name} {
		if try = fit(try); !d.types[try] {
			d.types[try] = true
			return try
		}
	}
	return d.newType(fit(t.aggregate + column + name))
}

// ref writes a column as expressions name it; "" for no column.
func ref(row, column string) string {
	if column == "" {
		return ""
	}
	if plainColumn(column) {
		return row + "." + column
	}
	return row + "[" + quoteExpr(column) + "]"
}

var exprWords = wordSet(`not and or in contains matches startsWith endsWith let if else true false nil all none any one filter map
	count sum find len`)

func plainColumn(s string) bool {
	for i, r := range s {
		if !(r == '_' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || i > 0 && '0' <= r && r <= '9') {
			return false
		}
	}
	return s != "" && !exprWords[s]
}

// quoteExpr writes a text as a literal of the expression language.
func quoteExpr(s string) string { return strconv.Quote(s) }

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
