package translate

import (
	"context"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"banyan/internal/pgtest"

	"github.com/jackc/pgx/v5"
)

var typeRow = regexp.MustCompile("(?m)^\\| `([^`]+)`[^|]* \\| `([^`]+)` \\| `(.+)` \\|$")

// TestTypesAreAsDocumented runs every row of docs/types.md through Postgres.
func TestTypesAreAsDocumented(t *testing.T) {
	doc, err := os.ReadFile("../docs/types.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := typeRow.FindAllStringSubmatch(string(doc), -1)
	if len(rows) < 60 {
		t.Fatalf("found %d rows in docs/types.md", len(rows))
	}
	db := pgtest.New(t, pgtest.Options{})
	conn, err := db.Pool(t).Acquire(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	ctx := context.Background()
	for _, sql := range []string{`CREATE EXTENSION hstore`, `CREATE TYPE mood AS ENUM ('sad', 'happy')`, `CREATE DOMAIN posint AS integer CHECK (VALUE > 0)`,
		`CREATE TYPE pair AS (a integer, b text)`,
		`SET datestyle='ISO'`, `SET intervalstyle='postgres'`, `SET timezone='UTC'`, `SET extra_float_digits=3`, `SET bytea_output='hex'`, `SET lc_monetary='C'`} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	for _, r := range rows {
		typ, literal, want := r[1], r[2], r[3]
		var name, text string
		// The column's type as the catalog names it, and the value as the log has it.
		if _, err := conn.Exec(ctx, `DROP TABLE IF EXISTS x`); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Exec(ctx, `CREATE TABLE x AS SELECT (`+literal+`)::`+typ+` AS v`); err != nil {
			t.Errorf("%s %s: %v", typ, literal, err)
			continue
		}
		err := conn.QueryRow(ctx, `SELECT format_type(atttypid, NULL), (SELECT format('%s', v) FROM x) FROM pg_attribute WHERE attrelid = 'x'::regclass AND attname = 'v'`,
			pgx.QueryExecModeSimpleProtocol).Scan(&name, &text)
		if err != nil {
			t.Errorf("%s %s: %v", typ, literal, err)
			continue
		}
		c := codecOf(name)
		got, err := c.appendJSON(nil, text)
		if err != nil {
			t.Errorf("%s %s: %v", typ, literal, err)
			continue
		}
		if string(got) != want || !json.Valid(got) {
			t.Errorf("%s %s (text %s) is %s, documented is %s", typ, literal, text, got, want)
		}
		if _, err := c.value(text); err != nil && !strings.Contains(text, "BC") {
			t.Errorf("%s %s in an expression: %v", typ, literal, err)
		}
	}
}

func TestMoneyColumnsNeverRound(t *testing.T) {
	c := codec{kind: kindMoney, scale: 2, unit: "GBP"}
	if got, err := c.appendJSON(nil, "2.550"); err != nil || string(got) != `{"amount":255,"scale":2,"currency":"GBP"}` {
		t.Errorf("2.550 = %s, %v", got, err)
	}
	for _, text := range []string{"2.555", "NaN", "99999999999999999999"} {
		if got, err := c.appendJSON(nil, text); err == nil {
			t.Errorf("%s = %s", text, got)
		}
	}
}

func TestBadTextIsRefused(t *testing.T) {
	for name, texts := range map[string][]string{
		"integer": {"", "01", "1.0", "x"}, "boolean": {"true"}, "bytea": {"abc", `\x0`}, "jsonb": {"{", "\xff"}, "text": {"\xff"},
		"integer[]": {"{1", "{1,}", "{1}x", "1", "{", `{"1`, "{,1}"}, "double precision": {"1e", "--1"},
	} {
		c := codecOf(name)
		for _, text := range texts {
			if got, err := c.appendJSON(nil, text); err == nil {
				t.Errorf("%s %q = %s", name, text, got)
			}
		}
	}
}
