package wal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Access names what capturing needs in the source database besides the slot: a
// role that may log in, replicate and read the captured columns, and a
// publication of the captured tables. Both are made by the owner of the tables.
//
// The publication has no column lists: with one, the owner could no longer drop
// a listed column, and nobody would see an added one. Columns that are not
// captured are dropped by the reader, and the role's grants do not include
// them, so that no query of ours can read them.
type Access struct {
	Role        string
	Publication string
	Slot        string // for Teardown
	Capture     Capture
}

// Statement is one step of a plan. SQL has no semicolon at its end.
type Statement struct {
	SQL string
	Why string
}

// Plan is what must be run, in order, each statement once. It is empty where
// everything is as it should be.
type Plan struct {
	Statements []Statement
	// Obstacles says why the role that asked cannot run the plan itself.
	Obstacles []string
}

// SetupError lists why the tables cannot be published as they are.
type SetupError struct{ Problems []string }

func (e *SetupError) Error() string { return "cannot set up: " + strings.Join(e.Problems, "; ") }

// Setup compares what exists with what is needed and returns what is missing.
// It changes nothing. Tables whose updates and deletes the publication would
// break are refused with a *SetupError.
func (a Access) Setup(ctx context.Context, conn *pgx.Conn) (*Plan, error) {
	cat, err := Inspect(ctx, conn)
	if err != nil {
		return nil, err
	}
	if problems := a.problems(cat); problems != nil {
		return nil, &SetupError{Problems: problems}
	}
	has, err := readGrants(ctx, conn, a.Role)
	if err != nil {
		return nil, err
	}
	p := &Plan{}
	a.planRole(p, cat, has)
	a.planGrants(p, cat, has)
	a.planPublication(p, cat)
	return p, nil
}

// problems says what about the captured tables forbids publishing them.
func (a Access) problems(cat *Catalog) []string {
	var problems []string
	if len(a.Capture) == 0 {
		problems = append(problems, "no table is to be captured")
	}
	for _, name := range a.Capture.tables() {
		if _, err := cat.Table(name, a.Capture[name]); err != nil {
			problems = append(problems, err.Error())
			continue
		}
		t := cat.Find(name)
		parts := []*CatalogTable{t}
		if t.Kind == KindPartitioned {
			// The server checks the leaf that a row lies in; the stream reads the
			// key as the root has it.
			parts = append(parts, cat.Leaves(t)...)
		}
		for _, leaf := range parts {
			switch {
			case leaf.Kind == KindForeign:
				problems = append(problems, fmt.Sprintf("table %s is a foreign table: its changes are not in this server's WAL", leaf.FullName()))
			case leaf.Unlogged:
				problems = append(problems, fmt.Sprintf("table %s is unlogged: its changes are not in the WAL (ALTER TABLE %s SET LOGGED)", leaf.FullName(), quote(leaf.Schema, leaf.Name)))
			case !leaf.Updatable():
				problems = append(problems, fmt.Sprintf("table %s has no replica identity: once it is published, the server refuses every UPDATE and DELETE of it; "+
					"leave it out, add a primary key, or ALTER TABLE %s REPLICA IDENTITY USING INDEX or FULL", leaf.FullName(), quote(leaf.Schema, leaf.Name)))
			}
		}
	}
	if pub := findPublication(cat, a.Publication); pub != nil && pub.AllTables {
		problems = append(problems, fmt.Sprintf("publication %q is FOR ALL TABLES: it would break updates of tables without a key; choose another name", a.Publication))
	}
	return problems
}

func findPublication(cat *Catalog, name string) *CatalogPublication {
	for i := range cat.Publications {
		if cat.Publications[i].Name == name {
			return &cat.Publications[i]
		}
	}
	return nil
}

func (p *Plan) add(why, sql string, args ...any) {
	p.Statements = append(p.Statements, Statement{SQL: fmt.Sprintf(sql, args...), Why: why})
}

func (p *Plan) obstacle(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(p.Obstacles, text) {
		p.Obstacles = append(p.Obstacles, text)
	}
}

func (a Access) planRole(p *Plan, cat *Catalog, has *grants) {
	role := quote(a.Role)
	before := len(p.Statements)
	switch {
	case !has.exists:
		p.add("the role that reads; give it a password with \\password or ALTER ROLE", "CREATE ROLE %s LOGIN REPLICATION", role)
	case has.superuser:
		return
	case !has.login || !has.replication:
		p.add("the role must be able to log in and to read a replication slot", "ALTER ROLE %s LOGIN REPLICATION", role)
	}
	if len(p.Statements) > before && !cat.Role.Superuser && (cat.Version < 160000 || !cat.Role.Replication || !has.mayCreateRoles) {
		p.obstacle("role %q may not make a role with REPLICATION: a superuser must run that line", cat.Role.Name)
	}
}

func (a Access) planGrants(p *Plan, cat *Catalog, has *grants) {
	if has.superuser {
		return
	}
	role := quote(a.Role)
	if !has.connect {
		p.add("to connect", "GRANT CONNECT ON DATABASE %s TO %s", quote(cat.Database), role)
		if !cat.Role.Superuser {
			p.obstacle("only the owner of database %q may grant CONNECT on it", cat.Database)
		}
	}
	schemas := map[string]bool{}
	for _, name := range a.Capture.tables() {
		schemas[cat.Find(name).Schema] = true
	}
	for _, s := range sortedNames(schemas) {
		if !has.usage[s] {
			p.add("to see the tables of the schema", "GRANT USAGE ON SCHEMA %s TO %s", quote(s), role)
		}
	}
	for _, name := range a.Capture.tables() {
		a.planSelect(p, cat.Find(name), cat, has)
	}
}

// planSelect grants the captured columns and takes back direct grants of
// others, such as an earlier setup left.
func (a Access) planSelect(p *Plan, t *CatalogTable, cat *Catalog, has *grants) {
	role, table := quote(a.Role), quote(t.Schema, t.Name)
	columns := a.Capture[t.FullName()]
	before := len(p.Statements)
	all := true
	for _, c := range t.Columns {
		all = all && (c.Generated || slices.Contains(columns, c.Name))
	}
	direct, readable := has.tables[t.OID], func(c string) bool { return has.readable[columnRef{t.OID, c}] }
	revoked := false
	if !all && direct {
		p.add("columns that are left out must not be readable", "REVOKE SELECT ON TABLE %s FROM %s", table, role)
		revoked = true
	} else if !all {
		var extra []string
		for _, c := range t.Columns {
			if has.columns[columnRef{t.OID, c.Name}] && !slices.Contains(columns, c.Name) {
				extra = append(extra, quote(c.Name))
			}
		}
		if extra != nil {
			p.add("columns that are left out must not be readable", "REVOKE SELECT (%s) ON TABLE %s FROM %s", strings.Join(extra, ", "), table, role)
		}
	}
	switch {
	case all && slices.ContainsFunc(columns, func(c string) bool { return !readable(c) }):
		p.add("to read the rows for snapshot and verify", "GRANT SELECT ON TABLE %s TO %s", table, role)
	case !all:
		var list []string
		missing := revoked
		for _, c := range t.Columns {
			if slices.Contains(columns, c.Name) {
				list = append(list, quote(c.Name))
				missing = missing || !readable(c.Name)
			}
		}
		if missing {
			p.add("to read the captured columns, and no others, for snapshot and verify", "GRANT SELECT (%s) ON TABLE %s TO %s", strings.Join(list, ", "), table, role)
		}
	}
	if len(p.Statements) > before && !t.Owned && !cat.Role.Superuser {
		p.obstacle("role %q may not grant on table %s: its owner %q must run that line", cat.Role.Name, t.FullName(), t.Owner)
	}
}

const publishOptions = "publish = 'insert, update, delete, truncate', publish_via_partition_root = true"

func (a Access) planPublication(p *Plan, cat *Catalog) {
	list := make([]string, 0, len(a.Capture))
	for _, name := range a.Capture.tables() {
		t := cat.Find(name)
		sql := quote(t.Schema, t.Name)
		if len(t.InheritedBy) > 0 && t.Kind != KindPartitioned {
			sql = "ONLY " + sql // children are tables of their own
		}
		list = append(list, sql)
	}
	pub := findPublication(cat, a.Publication)
	before := len(p.Statements)
	switch {
	case pub == nil:
		p.add("what the slot publishes: these tables and no others", "CREATE PUBLICATION %s FOR TABLE %s WITH (%s)", quote(a.Publication), strings.Join(list, ", "), publishOptions)
		if !cat.Role.Superuser && !cat.Role.Create {
			p.obstacle("role %q needs CREATE on database %q to make a publication", cat.Role.Name, cat.Database)
		}
	default:
		if !(pub.Insert && pub.Update && pub.Delete && pub.Truncate && pub.ViaRoot) {
			p.add("every kind of change, and partitions under their root's name", "ALTER PUBLICATION %s SET (%s)", quote(a.Publication), publishOptions)
		}
		if len(pub.Narrowed) > 0 || !slices.Equal(sortedCopy(pub.Tables), a.Capture.tables()) {
			p.add("what the slot publishes: these tables and no others", "ALTER PUBLICATION %s SET TABLE %s", quote(a.Publication), strings.Join(list, ", "))
		}
		if len(p.Statements) > before && pub.Owner != cat.Role.Name && !cat.Role.Superuser {
			p.obstacle("publication %q belongs to %q, who must run that line", a.Publication, pub.Owner)
		}
	}
	if len(p.Statements) == before || cat.Role.Superuser {
		return
	}
	for _, name := range a.Capture.tables() {
		if t := cat.Find(name); !t.Owned {
			p.obstacle("role %q may not publish table %s: its owner %q must run that line", cat.Role.Name, name, t.Owner)
		}
	}
}

// Teardown returns what removes the publication, the slot, the role's grants in
// this database and the role itself, as far as they exist. It changes nothing.
// The role is kept, and an obstacle says so, where another database knows it.
func (a Access) Teardown(ctx context.Context, conn *pgx.Conn) (*Plan, error) {
	cat, err := Inspect(ctx, conn)
	if err != nil {
		return nil, err
	}
	has, err := readGrants(ctx, conn, a.Role)
	if err != nil {
		return nil, err
	}
	p := &Plan{}
	if a.Slot != "" {
		slot, err := SlotInfo(ctx, conn, a.Slot)
		if _, missing := errors.AsType[*SlotMissingError](err); err != nil && !missing {
			return nil, err
		}
		if err == nil && slot.Database == cat.Database {
			p.add("the slot, so that the server may remove old WAL", "SELECT pg_catalog.pg_drop_replication_slot('%s')", strings.ReplaceAll(a.Slot, "'", "''"))
			if slot.ActivePID != 0 {
				p.obstacle("slot %q is in use by server process %d: stop that reader first", a.Slot, slot.ActivePID)
			}
		}
	}
	if pub := findPublication(cat, a.Publication); pub != nil {
		p.add("the publication", "DROP PUBLICATION %s", quote(a.Publication))
		if pub.Owner != cat.Role.Name && !cat.Role.Superuser {
			p.obstacle("publication %q belongs to %q, who must drop it", a.Publication, pub.Owner)
		}
	}
	if !has.exists || has.superuser {
		return p, nil
	}
	role := quote(a.Role)
	for _, t := range has.granted {
		p.add("the role's grants", "REVOKE ALL ON TABLE %s FROM %s", t, role)
	}
	for _, s := range has.grantedSchemas {
		p.add("the role's grants", "REVOKE ALL ON SCHEMA %s FROM %s", quote(s), role)
	}
	if has.grantedDatabase {
		p.add("the role's grants", "REVOKE ALL ON DATABASE %s FROM %s", quote(cat.Database), role)
	}
	if has.elsewhere {
		p.obstacle("role %q has grants or objects in other databases, so it stays", a.Role)
		return p, nil
	}
	p.add("the role", "DROP ROLE %s", role)
	if !cat.Role.Superuser && !has.mayCreateRoles {
		p.obstacle("role %q may not drop roles", cat.Role.Name)
	}
	return p, nil
}

func sortedNames(m map[string]bool) []string {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

func sortedCopy(s []string) []string {
	s = slices.Clone(s)
	sort.Strings(s)
	return s
}
