package doctor

import (
	"fmt"
	"slices"
	"strings"

	"banyan/wal"
)

func (e *examination) tables() {
	for name := range e.opts.Tables {
		if e.cat.Find(name) == nil {
			e.find(Finding{ID: "no-table", Severity: Error, Object: name,
				Message: "the configuration names " + name + ", which the database does not have",
				Why:     "names are schema.name, as Postgres stores them, without quotes"})
		}
	}
	seen := map[string]bool{}
	users := 0
	for _, t := range e.cat.Tables {
		full := t.FullName()
		if seen[full] {
			e.find(Finding{ID: "ambiguous-name", Severity: e.severity(t), Object: full,
				Message: "two tables are called " + full + " once their schema and name are joined",
				Why:     "the configuration cannot tell them apart; rename a schema or a table, or leave both out"})
		}
		seen[full] = true
		if t.Extension != "" {
			continue
		}
		users++
		if t.Kind == wal.KindForeign {
			e.foreign(t)
			continue
		}
		e.identity(t)
		if t.Root != "" {
			continue // the rest is said of the root
		}
		e.kind(t)
		e.columns(t)
		e.parents(t)
		e.recorders(t)
		if t.Filtered {
			e.find(Finding{ID: "row-security", Severity: e.severity(t), Object: full,
				Message: "row security hides rows of " + full + " from the role " + e.cat.Role.Name,
				Why:     "the WAL carries all rows and a snapshot only those that the policies let through: the two would never agree",
				Fix:     []string{"ALTER ROLE " + Quote(e.cat.Role.Name) + " BYPASSRLS"}})
		}
	}
	if users == 0 {
		e.find(Finding{ID: "no-tables", Severity: Warning, Object: "database " + e.cat.Database,
			Message: "the database " + e.cat.Database + " has no table of a user",
			Why:     "there is nothing to make events of; is it the right database?"})
	}
}

func (e *examination) foreign(t *wal.CatalogTable) {
	sev := Info
	if _, captured := e.use(t); captured {
		sev = Error
	}
	e.find(Finding{ID: "foreign-table", Severity: sev, Object: t.FullName(),
		Message: t.FullName() + " is a foreign table",
		Why:     "its rows live on another server and are in that server's WAL; leave it out here"})
}

// kind looks at what a table is besides a plain heap.
func (e *examination) kind(t *wal.CatalogTable) {
	full := t.FullName()
	if t.Unlogged {
		e.find(Finding{ID: "unlogged", Severity: e.severity(t), Object: full,
			Message: full + " is unlogged",
			Why:     "its changes are not in the WAL and make no event; SET LOGGED writes the whole table once and locks it meanwhile",
			Fix:     []string{"ALTER TABLE " + QuoteTable(t) + " SET LOGGED"}})
	}
	if t.Kind == wal.KindPartitioned {
		e.find(Finding{ID: "partitioned", Severity: Info, Object: full,
			Message: fmt.Sprintf("%s is partitioned (%s); its changes are published under its own name", full, plural(len(e.cat.Leaves(t)), "partition", "partitions")),
			Why: "rows that come or go because a partition is attached, detached, dropped or truncated are in no change that can be read: " +
				"take a new snapshot of the table after that"})
	}
	if len(t.InheritedBy) > 0 {
		sev := e.severity(t)
		if sev == Error {
			sev = Warning
		}
		e.find(Finding{ID: "inherited", Severity: sev, Object: full,
			Message: full + " is inherited by " + list(t.InheritedBy) + "; it is published and read without their rows (ONLY)",
			Why:     "a key is unique in one table of the family only, so a row of a child could not be told from one of the parent; name the children as tables of their own where they are wanted"})
	}
}

// identity looks at what the WAL tells of an updated or deleted row.
func (e *examination) identity(t *wal.CatalogTable) {
	full := t.FullName()
	if t.Kind == wal.KindPartitioned && (len(t.IdentityColumns()) == 0 || t.ReplicaIdentity == 'f') {
		return // the partitions' own identities are what counts
	}
	key := t.Key()
	use, captured := e.use(t)
	if captured && use.Key != nil {
		key = use.Key
	}
	id := t.IdentityColumns()
	switch {
	case t.Unlogged:
	case key == nil:
		e.keyless(t, captured)
	case t.ReplicaIdentity == 'n':
		e.find(Finding{ID: "identity-nothing", Severity: e.severity(t), Object: full,
			Message: full + " has REPLICA IDENTITY NOTHING",
			Why:     "once it is published, the server refuses the monolith's own updates and deletes of it",
			Fix:     []string{e.identityFix(t)}})
	case !t.Updatable() && t.DeferrableKey():
		e.find(Finding{ID: "deferrable-key", Severity: e.severity(t), Object: full,
			Message: "the primary key of " + full + " is DEFERRABLE, which the server does not take for a replica identity",
			Why:     "once it is published, the server refuses the monolith's own updates and deletes of it",
			Fix:     []string{e.identityFix(t)}})
	case !t.Updatable():
		e.find(Finding{ID: "no-identity", Severity: e.severity(t), Object: full,
			Message: full + " has a unique index but no primary key, and its replica identity names nothing",
			Why:     "once it is published, the server refuses the monolith's own updates and deletes of it",
			Fix:     []string{e.identityFix(t)}})
	case !containsAll(id, key):
		e.find(Finding{ID: "identity-without-key", Severity: e.severity(t), Object: full,
			Message: fmt.Sprintf("the replica identity of %s is (%s), which lacks the key (%s)", full, strings.Join(id, ", "), strings.Join(key, ", ")),
			Why:     "a deleted row is told by its replica identity only, so nobody could say which one is gone",
			Fix:     []string{e.identityFix(t)}})
	case t.ReplicaIdentity == 'i':
		e.find(Finding{ID: "identity-index", Severity: Info, Object: full,
			Message: fmt.Sprintf("the replica identity of %s is an index on (%s)", full, strings.Join(id, ", ")),
			Why:     "a deleted row is told by these columns; dropping the index makes the server refuse updates and deletes"})
	case t.ReplicaIdentity == 'f' && t.DeferrableKey():
		sev := Info
		if captured {
			sev = Warning
		}
		e.find(Finding{ID: "deferrable-full", Severity: sev, Object: full,
			Message: "the primary key of " + full + " is DEFERRABLE: inside a transaction two rows may have the same key",
			Why:     "rows that exchange their keys cannot be told apart by them: such keys are parked, and `cdc parked discard` records them as they are",
			Fix:     []string{}})
	case t.ReplicaIdentity == 'f':
		f := Finding{ID: "identity-full", Severity: Info, Object: full,
			Message: full + " has REPLICA IDENTITY FULL",
			Why:     "every update and delete writes the whole old row to the WAL; Banyan does not need that, it keeps the latest state itself"}
		if t.PrimaryKey != nil && !t.DeferrableKey() {
			f.Fix = []string{"ALTER TABLE " + QuoteTable(t) + " REPLICA IDENTITY DEFAULT"}
		}
		e.find(f)
	}
}

// identityFix makes the best key the table has its replica identity.
func (e *examination) identityFix(t *wal.CatalogTable) string {
	alter := "ALTER TABLE " + QuoteTable(t) + " REPLICA IDENTITY "
	if use, captured := e.use(t); captured && use.Key != nil && !sameSet(use.Key, t.PrimaryKey) {
		for _, ix := range t.Indexes {
			if ix.Usable && containsAll(ix.Columns, use.Key) {
				return alter + "USING INDEX " + Quote(ix.Name)
			}
		}
		return alter + "FULL"
	}
	switch {
	case t.DeferrableKey():
		return alter + "FULL" // no other index has the key in it
	case t.PrimaryKey != nil:
		return alter + "DEFAULT"
	}
	for _, ix := range t.Indexes {
		if ix.Usable {
			return alter + "USING INDEX " + Quote(ix.Name)
		}
	}
	return alter + "FULL"
}

// keyless tells of a table whose rows nothing tells apart. Of the three ways
// out the fix shows the one that also lets the table become an aggregate.
func (e *examination) keyless(t *wal.CatalogTable, captured bool) {
	full := t.FullName()
	if t.ReplicaIdentity == 'f' {
		sev := Info
		if captured {
			sev = Warning
		}
		e.find(Finding{ID: "full-without-key", Severity: sev, Object: full,
			Message: full + " has no key, and REPLICA IDENTITY FULL",
			Why:     "updates and deletes go on working, but two equal rows cannot be told apart; name columns that are unique as its key, or leave it out"})
		return
	}
	fix := []string{}
	index := ""
	for _, ix := range t.Indexes {
		// A unique index that only lacks NOT NULL is the cheapest way.
		if ix.Nullable && !ix.Partial && !ix.Expression && !ix.Deferrable {
			for _, c := range ix.Columns {
				if !t.Column(c).NotNull {
					fix = append(fix, "ALTER TABLE "+QuoteTable(t)+" ALTER COLUMN "+Quote(c)+" SET NOT NULL")
				}
			}
			index = ix.Name
			break
		}
	}
	if index == "" && t.PartitionOf != "" {
		// A partition takes no column of its own.
		fix = append(fix, "ALTER TABLE "+QuoteTable(t)+" REPLICA IDENTITY FULL")
	} else if index == "" {
		column := "row_id"
		for t.Column(column) != nil {
			column += "_"
		}
		index = t.Name + "_" + column
		fix = append(fix,
			"ALTER TABLE "+QuoteTable(t)+" ADD COLUMN "+Quote(column)+" bigint GENERATED ALWAYS AS IDENTITY",
			"CREATE UNIQUE INDEX "+Quote(index)+" ON "+QuoteTable(t)+" ("+Quote(column)+")")
	}
	if index != "" {
		fix = append(fix, "ALTER TABLE "+QuoteTable(t)+" REPLICA IDENTITY USING INDEX "+Quote(index))
	}
	e.find(Finding{ID: "no-key", Severity: e.severity(t), Object: full,
		Message: full + " has no primary key and no usable unique index",
		Why: "once it is published, the server refuses the monolith's own updates and deletes of it. Three ways out: " +
			"a unique index on NOT NULL columns with REPLICA IDENTITY USING INDEX (below); REPLICA IDENTITY FULL, " +
			"which keeps the monolith working but does not tell equal rows apart; or leave the table out, as init does",
		Fix: fix})
}

// columns looks at names, generated columns and long values.
func (e *examination) columns(t *wal.CatalogTable) {
	full := t.FullName()
	use, captured := e.use(t)
	var quoted, generated, long []string
	if NeedsQuotes(t.Schema) || NeedsQuotes(t.Name) {
		quoted = append(quoted, full)
	}
	for _, c := range t.Columns {
		if NeedsQuotes(c.Name) {
			quoted = append(quoted, c.Name)
		}
		if c.Generated {
			generated = append(generated, c.Name)
		}
		if kept := !captured || use.Columns == nil || slices.Contains(use.Columns, c.Name); kept && longValues(c) {
			long = append(long, c.Name)
		}
	}
	if quoted != nil {
		e.find(Finding{ID: "quoted-name", Severity: Info, Object: full,
			Message: "SQL takes these names only in double quotes: " + list(quoted),
			Why:     "banyan.yaml names them without quotes, exactly as Postgres stores them; what setup prints quotes them"})
	}
	if strings.Contains(t.Schema, ".") || strings.Contains(t.Name, ".") {
		e.find(Finding{ID: "dotted-name", Severity: Info, Object: full,
			Message: "a name of " + full + " holds a dot",
			Why:     "schema and name are joined by a dot in banyan.yaml; the first schema and table that fit are meant"})
	}
	if generated != nil {
		sev := Info
		if captured && slices.ContainsFunc(generated, func(c string) bool { return slices.Contains(use.Columns, c) }) {
			sev = Error
		}
		e.find(Finding{ID: "generated-column", Severity: sev, Object: full,
			Message: "generated columns are not in the WAL: " + list(generated),
			Why:     "leave them out of banyan.yaml and compute them in a rule from the columns that they are made of"})
	}
	if long != nil && t.ReplicaIdentity != 'f' {
		e.find(Finding{ID: "toast", Severity: Info, Object: full,
			Message: fmt.Sprintf("long values are stored out of line (TOAST) and the replica identity of %s is %s: %s",
				full, identityName(t.ReplicaIdentity), list(long)),
			Why: "an update that does not touch such a value does not carry it. Banyan takes it from the state it keeps, " +
				"so name the column in the state where an event needs it"})
	}
}

// longValues reports whether values long enough for TOAST are to be expected.
// Every value of a variable length can get there in a row that is wide enough.
func longValues(c wal.CatalogColumn) bool {
	if !c.Toastable || c.Generated {
		return false
	}
	switch c.BaseType {
	case "numeric", "bit varying", "bit", "inet", "cidr":
		return false
	case "character varying", "character":
		const short = 500 // characters
		return c.BaseTypMod < 0 || c.BaseTypMod-4 > short
	}
	return true
}

func identityName(id byte) string {
	switch id {
	case 'd':
		return "the primary key"
	case 'i':
		return "an index"
	case 'n':
		return "NOTHING"
	}
	return "FULL"
}

// parents looks at foreign keys that may be empty.
func (e *examination) parents(t *wal.CatalogTable) {
	var maybe []string
	for _, fk := range t.ForeignKeys {
		if fk.Nullable {
			maybe = append(maybe, fmt.Sprintf("%s -> %s", strings.Join(fk.Columns, ", "), fk.References))
		}
	}
	if maybe != nil {
		e.find(Finding{ID: "nullable-parent", Severity: Info, Object: t.FullName(),
			Message: "foreign keys of " + t.FullName() + " may be empty: " + list(maybe),
			Why:     "a row without a parent has no place in the parent's aggregate, so init makes it an aggregate of its own"})
	}
}

func containsAll(all, some []string) bool {
	for _, s := range some {
		if !slices.Contains(all, s) {
			return false
		}
	}
	return true
}

func sameSet(a, b []string) bool { return containsAll(a, b) && containsAll(b, a) }
