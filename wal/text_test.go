package wal_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"banyan/internal/pgtest"
	"banyan/wal"
)

// types are values of many types, two rows of each where one is odd.
var types = []struct{ name, first, second string }{
	{"bool", "true", "false"}, {"smallint", "-32768", "32767"}, {"integer", "-1", "2147483647"}, {"bigint", "-9223372036854775808", "9007199254740993"},
	{"real", "'0.1'", "'-Infinity'"}, {"double precision", "'0.1'", "'NaN'"}, {"numeric", "'NaN'", "123456789012345678901234567890.000100"}, {"numeric(12,3)", "2.5", "-0.001"},
	{"numeric(5,-2)", "12345", "'1e4'"}, {"money", "'12.34'", "'-1'"}, {"text", "''", "E'a\\tb\\n\\\\ \"é\" 🌸'"}, {"varchar(5)", "'ab'", "'abcde'"}, {"char(5)", "'ab'", "'é'"}, {`"char"`, "'x'", `'\377'`},
	{"name", "'n'", "'N'"}, {"bytea", `'\x00ff'`, "''"}, {"date", "'infinity'", "'0044-03-15 BC'"}, {"time", "'24:00'", "'01:02:03.000004'"}, {"timetz", "'10:00+05:30'", "'24:00-3'"},
	{"timestamp", "'2024-02-29 12:00:00.1'", "'-infinity'"}, {"timestamptz", "'2024-02-29 12:00:00.123456+05:30'", "'0001-01-01 BC'"}, {"timestamp(0)", "'2024-01-01 00:00:00.7'", "'294276-12-31'"},
	{"interval", "'1 year -3 days 04:05:06.7'", "'-00:00:01'"}, {"uuid", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "'00000000-0000-0000-0000-000000000000'"},
	{"json", `'{"b": 1,  "a" : [null]}'`, "'1e5'"}, {"jsonb", `'{"b": 1,  "a" : [null]}'`, "'1e5'"}, {"xml", "'<a>&amp;</a>'", "'x'"},
	{"int[]", "'{1,NULL,3}'", "'[2:3][1:1]={{1},{2}}'"}, {"text[]", `'{"a,b","c\"d",NULL,"NULL",""}'`, "'{}'"}, {"timestamptz[]", "'{2024-02-29 12:00+02}'", "'{}'"}, {"numeric(4,1)[]", "'{1,2.25}'", "'{NaN}'"},
	{"inet", "'10.0.0.1/8'", "'::1'"}, {"cidr", "'10.0.0.0/8'", "'::/0'"}, {"macaddr", "'08-00-2b-01-02-03'", "'000000000000'"}, {"bit(3)", "B'101'", "B'000'"}, {"varbit", "B'1'", "B''"},
	{"point", "'(0.1,2)'", "'(NaN,1e300)'"}, {"box", "'(1,2),(0,0)'", "'(1,1),(1,1)'"}, {"path", "'[(0,0),(1,1)]'", "'((0,0))'"}, {"circle", "'<(0,0),1>'", "'<(0.1,0),0>'"},
	{"int4range", "'[1,5]'", "'empty'"}, {"tstzrange", "'[2024-01-01 00:00+02,)'", "'(,)'"}, {"int4multirange", "'{[1,2],[5,6]}'", "'{}'"}, {"tsvector", "'a fat cat'", "'''it''''s'':1A'"}, {"tsquery", "'a & !b'", "'x <-> y'"},
	{"pg_lsn", "'0/1A2B3C8'", "'FFFFFFFF/0'"}, {"regclass", "'pg_catalog.pg_class'", "'sales.\"odd name\"'"}, {"regtype", "'integer'", "'sales.mood'"}, {"oid", "'4294967295'", "'0'"}, {"xid8", "'1'", "'18446744073709551615'"},
	{"sales.mood", "'so so'", "'Größe'"}, {"sales.amount", "1.005", "0"}, {"sales.pair", "ROW(1, 'a,b')", "ROW(NULL, '')"}, {"sales.mood[]", "'{\"so so\"}'", "'{}'"}, {"sales.pair[]", `ARRAY[ROW(1,'x"y')::sales.pair]`, "'{}'"},
}

// What a snapshot reads is to the byte what the stream carries, also where the
// role has settings of its own for how values look.
func TestSnapshotTextIsTheStreamsText(t *testing.T) {
	var columns, first, second []string
	names := []string{"id"}
	for i, ty := range types {
		name := fmt.Sprintf("c%d", i)
		names = append(names, name)
		columns = append(columns, name+" "+ty.name)
		first = append(first, ty.first)
		second = append(second, ty.second)
	}
	db := pgtest.New(t)
	db.Exec(t, fmt.Sprintf(`CREATE SCHEMA sales; ALTER DATABASE %[1]s SET datestyle = 'German'; ALTER DATABASE %[1]s SET timezone = 'Asia/Kolkata';
		ALTER DATABASE %[1]s SET intervalstyle = 'sql_standard'; ALTER DATABASE %[1]s SET bytea_output = 'escape'; ALTER DATABASE %[1]s SET extra_float_digits = -3;
		ALTER DATABASE %[1]s SET search_path = sales, public; ALTER DATABASE %[1]s SET statement_timeout = '10min'`, db.Name))
	r := newRig(t, db, wal.Capture{"sales.all types": names}, `
		CREATE TYPE mood AS ENUM ('so so', 'Größe'); CREATE DOMAIN amount AS numeric(12,2) CHECK (VALUE >= 0); CREATE TYPE pair AS (n int, t text);
		CREATE TABLE "odd name" (); CREATE TABLE "all types" (id int PRIMARY KEY, `+strings.Join(columns, ", ")+`)`)
	s := r.open()
	null := slices.Repeat([]string{"NULL"}, len(types))
	for i, values := range [][]string{first, second, null} {
		r.exec(fmt.Sprintf(`INSERT INTO "all types" VALUES (%d, %s)`, i, strings.Join(values, ", ")))
	}
	table := tableOf(t, db, "sales.all types")
	snap, err := wal.LiveSnapshot(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Close()
	var rows []wal.Row
	u := wal.Unit{Aggregate: "All", Root: wal.UnitTable{Table: table, Key: []int{0}}}
	if err := snap.Read(t.Context(), u, wal.Range{}, func(tree *wal.Tree) error {
		rows = append(rows, tree.Row)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for i, tx := range r.upTo(s, 3) {
		c, err := firstChange(tx)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(table.Columns, c.Table.Columns); diff != "" {
			t.Fatalf("the columns: -catalog +stream:\n%s", diff)
		}
		for k := range c.New {
			if got, want := c.New[k], rows[i][k]; got.Kind != want.Kind || string(got.Bytes) != string(want.Bytes) {
				t.Errorf("column %s: the snapshot has %q, the stream %q", table.Columns[k].TypeName, want.Bytes, got.Bytes)
			}
		}
		if i == 0 { // and they are the forms that we mean, not those of the database's settings
			for k, want := range map[string]string{"timestamp with time zone": "2024-02-29 06:30:00.123456+00", "bytea": `\x00ff`, "interval": "1 year -3 days +04:05:06.7",
				"double precision": "0.1", "date": "infinity", "regclass": "pg_class", "sales.amount": "1.01", "character": "ab   "} {
				at := slices.IndexFunc(table.Columns, func(c wal.Column) bool { return c.TypeName == k })
				if got := string(c.New[at].Bytes); got != want {
					t.Errorf("%s is written %q, want %q", k, got, want)
				}
			}
		}
	}
}
