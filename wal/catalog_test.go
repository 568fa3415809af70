package wal_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"banyan/internal/pgtest"
	"banyan/wal"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
)

const catalogSchema = `
CREATE TYPE mood AS ENUM ('sad', 'glad');
CREATE DOMAIN price AS numeric(12,3) CHECK (VALUE >= 0);
CREATE DOMAIN list_price AS price;
CREATE TABLE parents (
	id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name varchar(40) NOT NULL DEFAULT 'x', feeling mood,
	cost list_price, twice int GENERATED ALWAYS AS (2) STORED, doc text, tags text[]);
CREATE TABLE children (
	line int, parent_id int NOT NULL REFERENCES parents ON DELETE CASCADE, maybe int REFERENCES parents,
	code text NOT NULL, PRIMARY KEY (parent_id, line));
CREATE UNIQUE INDEX children_code ON children (code);
CREATE UNIQUE INDEX children_lower ON children (lower(code), line);
CREATE UNIQUE INDEX children_some ON children (code) WHERE line > 3;
CREATE UNIQUE INDEX children_maybe ON children (maybe);
ALTER TABLE children REPLICA IDENTITY USING INDEX children_code;
CREATE TABLE keyless (a int, b text);
ALTER TABLE keyless REPLICA IDENTITY FULL;
CREATE UNLOGGED TABLE scratch (id int PRIMARY KEY);
CREATE TABLE days (at date, v text, PRIMARY KEY (at)) PARTITION BY RANGE (at);
CREATE TABLE days_old PARTITION OF days FOR VALUES FROM ('2000-01-01') TO ('2020-01-01') PARTITION BY RANGE (at);
CREATE TABLE days_old_1 PARTITION OF days_old FOR VALUES FROM ('2000-01-01') TO ('2010-01-01');
CREATE TABLE days_new PARTITION OF days FOR VALUES FROM ('2020-01-01') TO ('2040-01-01');
CREATE TABLE base (id int PRIMARY KEY);
CREATE TABLE derived (extra int) INHERITS (base);
CREATE SCHEMA "Odd One";
CREATE TABLE "Odd One"."Select" ("User Id" int PRIMARY KEY, "from" text);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.keyless VALUES (1); RETURN NULL; END';
CREATE TRIGGER parents_note AFTER UPDATE ON parents FOR EACH ROW EXECUTE FUNCTION note();
CREATE PUBLICATION parts FOR TABLE parents (id, name), children WHERE (line > 1);
`

func connectAs(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(context.Background()) })
	return c
}

func TestInspect(t *testing.T) {
	db := pgtest.New(t, pgtest.Options{SQL: catalogSchema})
	cat, err := wal.Inspect(context.Background(), db.Conn(t))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, tab := range cat.Tables {
		names = append(names, tab.FullName()+" "+string(tab.Kind))
	}
	want := []string{"Odd One.Select ordinary", "public.base ordinary", "public.children ordinary", "public.days partitioned",
		"public.days_new partition", "public.days_old partitioned", "public.days_old_1 partition", "public.derived ordinary",
		"public.keyless ordinary", "public.parents ordinary", "public.scratch ordinary"}
	if d := cmp.Diff(want, names); d != "" {
		t.Errorf("tables (-want +got):\n%s", d)
	}
	if cat.Version < 140000 || cat.Settings["wal_level"] != "logical" || !cat.Role.Superuser || !cat.Role.Connect {
		t.Errorf("server facts: version %d, settings %v, role %+v", cat.Version, cat.Settings, cat.Role)
	}
	if len(cat.Unseen) > 0 {
		t.Errorf("the superuser could not see %v", cat.Unseen)
	}

	parents := cat.Find("public.parents")
	columns := map[string]wal.CatalogColumn{}
	for _, c := range parents.Columns {
		columns[c.Name] = c
	}
	if c := columns["cost"]; c.TypeName != "public.list_price" || c.BaseType != "numeric" || c.BaseTypMod-4 != 12<<16|3 {
		t.Errorf("domain over domain: %+v", c)
	}
	if c := columns["feeling"]; !slices.Equal(c.Labels, []string{"sad", "glad"}) || c.Toastable {
		t.Errorf("enum: %+v", c)
	}
	if c := columns["id"]; c.Identity != "a" || !c.NotNull || c.Toastable {
		t.Errorf("identity: %+v", c)
	}
	if c := columns["name"]; c.Declared != "character varying(40)" || c.Default == "" || !c.Toastable {
		t.Errorf("varchar: %+v", c)
	}
	if c := columns["twice"]; !c.Generated {
		t.Errorf("generated: %+v", c)
	}
	if len(parents.Triggers) != 1 || parents.Triggers[0].Function != "public.note" || !strings.Contains(parents.Triggers[0].Source, "INSERT INTO") {
		t.Errorf("triggers: %+v", parents.Triggers)
	}

	children := cat.Find("public.children")
	wantIndexes := []wal.UniqueIndex{
		{Name: "children_pkey", Columns: []string{"parent_id", "line"}, Primary: true, Usable: true},
		{Name: "children_code", Columns: []string{"code"}, Usable: true, ReplicaIdentity: true},
		{Name: "children_lower", Expression: true},
		{Name: "children_maybe", Columns: []string{"maybe"}, Nullable: true},
		{Name: "children_some", Columns: []string{"code"}, Partial: true},
	}
	if d := cmp.Diff(wantIndexes, children.Indexes); d != "" {
		t.Errorf("indexes (-want +got):\n%s", d)
	}
	wantKeys := []wal.ForeignKey{
		{Name: "children_maybe_fkey", Columns: []string{"maybe"}, References: "public.parents", Referenced: []string{"id"}, Nullable: true, OnDelete: 'a'},
		{Name: "children_parent_id_fkey", Columns: []string{"parent_id"}, References: "public.parents", Referenced: []string{"id"}, OnDelete: 'c'},
	}
	if d := cmp.Diff(wantKeys, children.ForeignKeys); d != "" {
		t.Errorf("foreign keys (-want +got):\n%s", d)
	}
	if got := children.IdentityColumns(); !slices.Equal(got, []string{"code"}) {
		t.Errorf("replica identity of children = %v", got)
	}
	if got := cat.Find("public.keyless"); got.Key() != nil || !got.Updatable() {
		t.Errorf("keyless: key %v, updatable %v", got.Key(), got.Updatable())
	}
	if !cat.Find("public.scratch").Unlogged {
		t.Error("scratch is not seen as unlogged")
	}
	if got := cat.Find("public.days_old_1"); got.PartitionOf != "public.days_old" || got.Root != "public.days" || !slices.Equal(got.PrimaryKey, []string{"at"}) {
		t.Errorf("leaf: %+v", got)
	}
	if got := cat.Leaves(cat.Find("public.days")); len(got) != 2 {
		t.Errorf("leaves of days: %d", len(got))
	}
	if got := cat.Find("public.base"); !slices.Equal(got.InheritedBy, []string{"public.derived"}) {
		t.Errorf("inherited by: %v", got.InheritedBy)
	}
	wantPub := wal.CatalogPublication{Name: "parts", Owner: "postgres", Insert: true, Update: true, Delete: true, Truncate: true,
		Tables: []string{"public.children", "public.parents"}, Narrowed: []string{"public.children", "public.parents"}}
	if d := cmp.Diff([]wal.CatalogPublication{wantPub}, cat.Publications); d != "" {
		t.Errorf("publications (-want +got):\n%s", d)
	}
}

func TestCatalogTable(t *testing.T) {
	db := pgtest.New(t, pgtest.Options{SQL: catalogSchema})
	cat, err := wal.Inspect(context.Background(), db.Conn(t))
	if err != nil {
		t.Fatal(err)
	}
	got, err := cat.Table("public.children", []string{"code", "parent_id", "line"})
	if err != nil {
		t.Fatal(err)
	}
	want := []wal.Column{
		{Name: "line", TypeOID: 23, TypMod: -1, TypeName: "integer", NotNull: true, Key: 2},
		{Name: "parent_id", TypeOID: 23, TypMod: -1, TypeName: "integer", NotNull: true, Key: 1},
		{Name: "code", TypeOID: 25, TypMod: -1, TypeName: "text", NotNull: true, Identity: true},
	}
	if d := cmp.Diff(want, got.Columns); d != "" {
		t.Errorf("columns (-want +got):\n%s", d)
	}
	if got.ReplicaIdentity != 'i' || got.FullName() != "public.children" || got.OID == 0 {
		t.Errorf("table: %+v", got)
	}
	if all, err := cat.Table("public.parents", nil); err != nil || all.Column("twice") >= 0 || len(all.Columns) != 6 {
		t.Errorf("all columns: %+v, %v", all, err)
	}
	for _, bad := range []struct {
		table   string
		columns []string
		says    string
	}{
		{"public.nowhere", nil, "no such table"},
		{"public.parents", []string{"id", "nme"}, `"nme" does not exist`},
		{"public.parents", []string{"twice"}, "generated"},
	} {
		if _, err := cat.Table(bad.table, bad.columns); err == nil || !strings.Contains(err.Error(), bad.says) {
			t.Errorf("Table(%s, %v) = %v, want an error with %q", bad.table, bad.columns, err, bad.says)
		}
	}
}

// A role that may connect and nothing else sees the same structure, and no
// privilege.
func TestInspectWithoutPrivileges(t *testing.T) {
	db := pgtest.New(t, pgtest.Options{SQL: catalogSchema})
	db.Exec(t, `CREATE ROLE "nobody `+db.Name+`" LOGIN`)
	t.Cleanup(func() { db.Exec(t, `DROP ROLE "nobody `+db.Name+`"`) })
	whole, err := wal.Inspect(context.Background(), db.Conn(t))
	if err != nil {
		t.Fatal(err)
	}
	conn := connectAs(t, db.UserURL("nobody "+db.Name, ""))
	if _, err := conn.Exec(context.Background(), "SET default_transaction_read_only = on"); err != nil {
		t.Fatal(err)
	}
	little, err := wal.Inspect(context.Background(), conn)
	if err != nil {
		t.Fatal(err)
	}
	if little.Role.Superuser || little.Role.Replication || little.Role.SchemaUsage["Odd One"] {
		t.Errorf("role: %+v", little.Role)
	}
	for i, tab := range little.Tables {
		if tab.Select || tab.Owned || tab.Columns[0].Select {
			t.Errorf("%s: privileges out of nothing", tab.FullName())
		}
		// Apart from privileges the picture is the same.
		tab.Select, tab.Owned = whole.Tables[i].Select, whole.Tables[i].Owned
		for j := range tab.Columns {
			tab.Columns[j].Select = true
		}
		if d := cmp.Diff(whole.Tables[i], tab); d != "" {
			t.Errorf("%s (-superuser +nobody):\n%s", tab.FullName(), d)
		}
	}
	if len(little.Tables) != len(whole.Tables) {
		t.Errorf("saw %d tables of %d", len(little.Tables), len(whole.Tables))
	}
}

// Grants on single columns count, and all of them together are as good as one
// on the table.
func TestInspectColumnGrants(t *testing.T) {
	db := pgtest.New(t, pgtest.Options{SQL: `CREATE TABLE t (a int PRIMARY KEY, b text, c text); CREATE TABLE u (a int PRIMARY KEY)`})
	role := pgx.Identifier{"reader " + db.Name}.Sanitize()
	db.Exec(t, `CREATE ROLE `+role+` LOGIN; GRANT SELECT (a, b) ON t TO `+role+`; GRANT SELECT (a) ON u TO `+role)
	t.Cleanup(func() { db.Exec(t, `DROP OWNED BY `+role+`; DROP ROLE `+role) })
	cat, err := wal.Inspect(context.Background(), connectAs(t, db.UserURL("reader "+db.Name, "")))
	if err != nil {
		t.Fatal(err)
	}
	tab := cat.Find("public.t")
	if tab.Select || !tab.Column("b").Select || tab.Column("c").Select || !cat.Find("public.u").Select {
		t.Errorf("t: select %v, b %v, c %v; u: %v", tab.Select, tab.Column("b").Select, tab.Column("c").Select, cat.Find("public.u").Select)
	}
}

// A table that somebody holds ACCESS EXCLUSIVE does not stop the inspection;
// the one thing that needs a lock is named.
func TestInspectBesideALock(t *testing.T) {
	db := pgtest.New(t, pgtest.Options{SQL: catalogSchema})
	holder := db.Conn(t)
	ctx := context.Background()
	tx, err := holder.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(ctx)
	if _, err := tx.Exec(ctx, "LOCK TABLE public.parents IN ACCESS EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	cat, err := wal.Inspect(ctx, db.Conn(t))
	if err != nil {
		t.Fatal(err)
	}
	if tab := cat.Find("public.parents"); tab == nil || len(tab.Columns) != 7 {
		t.Errorf("parents: %+v, unseen %v", tab, cat.Unseen)
	}
	for _, u := range cat.Unseen {
		if !strings.HasPrefix(u, "the defaults: ") && !strings.HasPrefix(u, "the check constraints: ") {
			t.Errorf("unseen: %s", u)
		}
	}
}

// A CHECK that lists values tells them, in whatever way it was written; any
// other check tells nothing.
func TestAllowedValues(t *testing.T) {
	db := pgtest.New(t, pgtest.Options{SQL: `CREATE DOMAIN word AS text;
		CREATE TABLE t (id int PRIMARY KEY,
			plain text CHECK (plain IN ('a', 'it''s', 'x]y, ''z')), "Odd One" varchar(9) CHECK ("Odd One" IN ('p', 'q')),
			either text CHECK (either = 'a' OR either = 'b'), "not" text CHECK ("not" NOT IN ('a')), pair text CHECK (pair IN ('a', 'b') AND pair <> 'b'),
			long text CHECK (length(long) > 2), one text CHECK (one IN ('only')), number int CHECK (number IN (1, 2)), padded char(3) CHECK (padded IN ('ab', 'c')),
			other text CHECK (other = ANY ('{a,b}'::text[])), two text, CHECK (two IN ('a') OR plain = 'a'))`})
	cat, err := wal.Inspect(context.Background(), db.Conn(t))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	for _, c := range cat.Find("public.t").Columns {
		if c.Allowed != nil {
			got[c.Name] = c.Allowed
		}
	}
	want := map[string][]string{"plain": {"a", "it's", "x]y, 'z"}, "Odd One": {"p", "q"}, "padded": {"ab", "c"}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("allowed values (-want +got):\n%s", d)
	}
}
