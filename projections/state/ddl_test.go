package state

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// TestDDL shows the SQL, which Postgres takes.
func TestDDL(t *testing.T) {
	tables := append([]Table{{
		Name:    strings.Repeat("t", 63),
		Columns: []Column{{Name: "order", Type: "int", NotNull: true}, {Name: strings.Repeat("c", 63), Type: "text", Comment: "'; DROP TABLE customers; --"}},
		Key:     []string{"order"},
		Indexes: []Index{{Columns: []string{strings.Repeat("c", 63)}, Unique: true}, {Columns: []string{strings.Repeat("c", 63), "order"}}},
	}}, testTables...)
	_, conn := makeTables(t, tables)
	var all []string
	for _, part := range [][]string{CreateSQL(testSchema, tables), KeySQL(testSchema, tables), IndexSQL(testSchema, tables), DropSQL(testSchema, tables)} {
		all = append(all, part...)
	}
	golden(t, "ddl.sql", strings.Join(all, ";\n")+";\n")
	if faults, err := CheckShape(t.Context(), conn, testSchema, tables); err != nil || faults != nil {
		t.Fatalf("what was just made is wrong: %v, %v", faults, err)
	}
	var comment string
	if err := conn.QueryRow(t.Context(), "SELECT obj_description('"+testSchema+".customers'::regclass)").Scan(&comment); err != nil || comment != customers.Comment {
		t.Errorf("the comment is %q, %v", comment, err)
	}
	execute(t, conn, DropSQL(testSchema, tables)...)
	execute(t, conn, DropSQL(testSchema, tables)...)
}

// TestCheckShape names every difference.
func TestCheckShape(t *testing.T) {
	_, conn := makeTables(t, []Table{wide, marks})
	execute(t, conn,
		`CREATE VIEW shipping_v1.customers AS SELECT 1`,
		`ALTER TABLE shipping_v1.wide DROP CONSTRAINT wide_pkey, ADD PRIMARY KEY (number, region)`,
		`ALTER TABLE shipping_v1.wide ALTER region TYPE text COLLATE "POSIX"`,
		`ALTER TABLE shipping_v1.wide ALTER a_price TYPE numeric(12,4), ALTER a_bool SET NOT NULL, ALTER price_key DROP NOT NULL, DROP a_real, DROP a_bigint`,
		`ALTER TABLE shipping_v1.wide ADD a_bigint int GENERATED ALWAYS AS (1) STORED, ADD extra text`,
		`CREATE UNIQUE INDEX ON shipping_v1.wide (a_text)`,
		`CREATE INDEX ON shipping_v1.wide (a_uuid)`,
		`ALTER TABLE shipping_v1.marks DROP CONSTRAINT marks_pkey`,
	)
	faults, err := CheckShape(t.Context(), conn, testSchema, append([]Table{{Name: "gone"}}, testTables...))
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "shape.txt", faults.Error()+"\n")
	if _, err := CheckShape(t.Context(), broken{}, testSchema, testTables); err == nil || !strings.Contains(err.Error(), "read the tables of schema shipping_v1") {
		t.Errorf("an error of reading is %v", err)
	}
}

// broken is a database that answers nothing.
type broken struct{}

func (broken) Query(context.Context, string, ...any) (pgx.Rows, error) {
	return nil, errors.New("no connection")
}
