package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"banyan/expression"
	"banyan/internal/pgtest"
	"banyan/money"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares a text with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// TestValidateSaysAllAtOnce: each of these tables has several faults.
func TestValidateSaysAllAtOnce(t *testing.T) {
	long := strings.Repeat("n", 64)
	tables := []Table{
		{},
		{Name: "Order Lines", Columns: []Column{{Name: "id", Type: "bigserial"}, {Name: "id", Type: "int8"}, {Name: "", Type: ""}, {Name: "9", Type: "varchar()"}}, Key: []string{"id", "id", "nr"}},
		{Name: long, Columns: []Column{{Name: long, Type: "numeric(3,4)", NotNull: true}, {Name: "ctid", Type: "text[]"}, {Name: "banyan_x", Type: "timestamptz(3)"}}, Key: []string{long}},
		{
			Name: "banyan_orders",
			Columns: []Column{{Name: "id", Type: "int", NotNull: true}, {Name: "doc", Type: "jsonb", NotNull: true}, {Name: "at", Type: "TIMESTAMP  with time ZONE"},
				{Name: "price", Type: "money"}, {Name: "code", Type: "char(3)"}, {Name: "span", Type: "interval"}, {Name: "n", Type: "numeric(5"}, {Name: "v", Type: "varchar(0)"}, {Name: "i", Type: "integer(4)"}, {Name: "k", Type: "color"}},
			Key:     []string{"doc"},
			Indexes: []Index{{}, {Columns: []string{"doc", "gone"}}, {Columns: []string{"id"}}, {Columns: []string{"id"}, Unique: true}},
			Retain:  &Retention{Column: "id"},
		},
		{Name: "twice", Columns: []Column{{Name: "id", Type: "uuid", NotNull: true}}, Key: []string{"id"}, Retain: &Retention{Column: "when", For: time.Hour}},
		{Name: "twice", Columns: []Column{{Name: "id", Type: "uuid", NotNull: true}}, Key: []string{"id"}},
	}
	golden(t, "faults.txt", Validate(tables).Error()+"\n")
	for _, table := range append(slices.Clone(testTables), Table{Name: "banyan_timers", Hidden: true, Columns: []Column{{Name: "banyan_id", Type: "text", NotNull: true}}, Key: []string{"banyan_id"}}) {
		if faults := table.Validate(); faults != nil {
			t.Errorf("a good table: %v", faults)
		}
	}
	if faults := Validate(testTables); faults != nil {
		t.Errorf("good tables: %v", faults)
	}
	var faults Faults
	if _, err := NewLive("s", tables, LiveOptions{}); !errors.As(err, &faults) {
		t.Errorf("NewLive gives %v", err)
	}
	if _, err := NewBulk(tables, BulkOptions{}); !errors.As(err, &faults) {
		t.Errorf("NewBulk gives %v", err)
	}
	if _, err := NewBulk(testTables, BulkOptions{Dir: "no such folder"}); err == nil {
		t.Error("NewBulk takes a folder that is not there")
	}
}

func dec(s string) money.Decimal {
	d, err := money.ParseNumber(s)
	if err != nil {
		panic(err)
	}
	return d
}

// TestCoerce says for values of expressions what each type makes of them.
func TestCoerce(t *testing.T) {
	noon := time.Date(2010, 12, 1, 12, 0, 0, 0, time.UTC)
	amount := money.Amount{Amount: 2550, Scale: 3, Currency: "GBP"}
	values := []any{
		nil, true, int64(0), int64(-32769), int64(math.MaxInt64), dec("5.00"), dec("2.550"), dec("-0.0001"), dec("123456789012345678901234567890.5"), amount,
		"", "12", "12.50", "1e3", "abc", "ÄÖÜ", "a\x00b", "\xff", "true", "NaN", "infinity", "2010-12-01", "2010-12-01T12:00:00Z", "2010-12-01T14:00:00.000001+02:00", "2010-12-01 12:00:00", "0044-03-15 BC", "2010-13-01",
		"018F3D5E-7b1c-7000-8000-0123456789ab", "018f3d5e7b1c700080000123456789ab", `\x00ff`, `\x0`,
		json.Number("1.50"), json.Number("-12e1"), json.Number("0x1"), noon, noon.Truncate(24 * time.Hour), noon.Add(1), expression.EndOfTime, noon.In(time.FixedZone("", 7200)), expression.DateOf(noon), 90 * time.Second,
		[]any{int64(1), "x", nil, amount, dec("1.10")}, map[string]any{"b": int64(1), "a": map[string]any{}}, json.RawMessage(` {"b":1.0,"a":"\u0041","b":2e2} `), json.RawMessage(`{"a":"\u0000"}`), json.RawMessage(`{"a":1}}`), json.RawMessage(""), json.RawMessage("null"),
		[]byte{0, 1}, 1.5, math.NaN(), 1e300, struct{}{},
	}
	types := []string{"smallint", "bigint", "numeric", "numeric(5,2)", "boolean", "text", "varchar(2)", "uuid", "date", "timestamp", "timestamptz", "jsonb", "bytea", "real", "double precision"}
	var out strings.Builder
	for _, typ := range types {
		table := Table{Name: "t", Columns: []Column{{Name: "k", Type: "int", NotNull: true}, {Name: "c", Type: typ}}, Key: []string{"k"}}
		fmt.Fprintf(&out, "%s\n", typ)
		refused := map[string][]string{}
		for _, v := range values {
			got, err := Coerce(table, "c", v)
			var bad *ValueError
			switch {
			case errors.As(err, &bad):
				refused[bad.Reason] = append(refused[bad.Reason], bad.Value)
			case err != nil:
				t.Errorf("%s %v: %v", typ, v, err)
			default:
				fmt.Fprintf(&out, "  %-14s %-50s %T %s\n", typeName(v), show(v), got, show(got))
			}
		}
		for _, reason := range slices.Sorted(maps.Keys(refused)) {
			fmt.Fprintf(&out, "  refused, %s:\n      %s\n", reason, strings.Join(refused[reason], " | "))
		}
	}
	golden(t, "coerce.txt", out.String())
}

func TestRowRefuses(t *testing.T) {
	table := Table{Name: "t", Columns: []Column{{Name: "a", Type: "text", NotNull: true}, {Name: "b", Type: "text"}, {Name: "n", Type: "int", NotNull: true}}, Key: []string{"a"}, Indexes: []Index{{Columns: []string{"n", "b"}}}}
	s := mustShape(t, table)
	wide := strings.Repeat("x", maxIndexed+1)
	for want, row := range map[string]Row{
		"column t.n cannot hold NULL: it may not be NULL":     {"a", nil, nil},
		"an index over it can hold 2600 bytes":                {"a", wide, int64(1)},
		"column t.a cannot hold \"xxx":                        {wide, "b", int64(1)},
		"a row of table t has 2 values for 3 columns":         {"a", "b"},
		"column t.n cannot hold \"x\": it is no number":       {"a", "b", "x"},
		"column t.n cannot hold 2147483648: it is beyond int": {"a", "b", int64(1 << 31)},
	} {
		if _, err := s.Row(row); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40v gives %v, want %s", row, err, want)
		}
	}
	given := Row{"a", "b", "12"}
	row, err := s.Row(given)
	if err != nil || row[2] != int64(12) || given[2] != "12" {
		t.Errorf("%v becomes %v, %v; what is given must not change", given, row, err)
	}
	fits := Row{"a", nil, int64(1)}
	if row, err := s.Row(fits); err != nil || &row[0] != &fits[0] {
		t.Errorf("a row that fits is copied: %v, %v", row, err)
	}
	if _, err := s.Key("a", "b"); err == nil {
		t.Error("a key of too many values")
	}
	if _, err := s.Key(nil); err == nil {
		t.Error("a key of NULL")
	}
	if _, err := s.Coerce(3, nil); err == nil {
		t.Error("a column that is not there")
	}
}

// keyTypes are all types that a key can have.
var keyTypes = []string{"smallint", "integer", "bigint", "numeric", "numeric(12,3)", "boolean", "text", "varchar(12)", "uuid", "date", "timestamp", "timestamptz", "bytea", "real", "double precision"}

// TestKeysAreInjectiveAndOrdered: for keys of two columns of any types, keys are
// equal where the values are, in the order that Postgres gives their rows, and
// Parse gives the values back.
func TestKeysAreInjectiveAndOrdered(t *testing.T) {
	db := pgtest.New(t)
	conn, err := pgx.Connect(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	n := 0
	rapid.Check(t, func(r *rapid.T) {
		n++
		table := Table{
			Name:    fmt.Sprintf("t%d", n),
			Columns: []Column{{Name: "a", Type: rapid.SampledFrom(keyTypes).Draw(r, "a"), NotNull: true}, {Name: "b", Type: rapid.SampledFrom(keyTypes).Draw(r, "b"), NotNull: true}},
			Key:     []string{"a", "b"},
		}
		s, err := Compile(table)
		if err != nil {
			r.Fatal(err)
		}
		bulk, err := NewBulk([]Table{table}, BulkOptions{})
		if err != nil {
			r.Fatal(err)
		}
		defer bulk.Close()
		for range rapid.IntRange(2, 40).Draw(r, "rows") {
			row := Row{keyValue(r, &s.columns[0]), keyValue(r, &s.columns[1])}
			if err := bulk.Rows(table.Name).Put(row); err != nil {
				r.Fatal(err)
			}
		}
		for _, sql := range append(CreateSQL("public", []Table{table}), KeySQL("public", []Table{table})...) {
			if _, err := conn.Exec(t.Context(), sql); err != nil {
				r.Fatal(err)
			}
		}
		// Two keys for one row would make the primary key fail.
		if err := bulk.Copy(t.Context(), conn, "public", nil); err != nil {
			r.Fatal(err)
		}
		var last Key
		rows := 0
		for e, err := range Scan(t.Context(), conn, "public", table) {
			if err != nil {
				r.Fatal(err)
			}
			if rows > 0 && e.Key <= last {
				r.Fatalf("Postgres gives %v after %q", e.Row, last)
			}
			last = e.Key
			rows++
			values, err := s.Parse(e.Key)
			if err != nil {
				r.Fatal(err)
			}
			if again, err := s.Key(values...); err != nil || again != e.Key {
				r.Fatalf("%v becomes %q, %v, %q", e.Row, e.Key, values, again)
			}
		}
		if rows != bulk.Len(table.Name) {
			r.Fatalf("one key for two rows: %d rows of %d", bulk.Len(table.Name), rows)
		}
	})
}

func keyValue(r *rapid.T, c *column) any {
	if c.kind == kindNumeric && c.precision == 0 {
		return decimals(6).Draw(r, "numeric")
	}
	if c.kind == kindBytea {
		return rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 'a', 0xff}), 0, 3).Draw(r, "bytes")
	}
	return value(r, c)
}

// TestParseRefuses: a Key that no row of the table has is an error, and never a
// panic.
func TestParseRefuses(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		table := Table{Name: "t", Columns: []Column{{Name: "a", Type: rapid.SampledFrom(keyTypes).Draw(r, "a"), NotNull: true}, {Name: "b", Type: rapid.SampledFrom(keyTypes).Draw(r, "b"), NotNull: true}}, Key: []string{"a", "b"}}
		s, err := Compile(table)
		if err != nil {
			r.Fatal(err)
		}
		k := Key(rapid.SliceOfN(rapid.OneOf(rapid.Byte(), rapid.SampledFrom([]byte{0, 1, 2, 0x80, 0xff})), 0, 30).Draw(r, "key"))
		values, err := s.Parse(k)
		if err != nil {
			return
		}
		again, err := s.Key(values...)
		if err != nil {
			r.Fatalf("%q becomes %v, which is no key: %v", k, values, err)
		}
		back, err := s.Parse(again)
		if err != nil || !Equal(back, values) {
			r.Fatalf("%q becomes %v becomes %q becomes %v, %v", k, values, again, back, err)
		}
	})
}

func TestCanonicalJSON(t *testing.T) {
	db := pgtest.New(t)
	conn, err := pgx.Connect(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	alphabet := []string{"{", "}", "[", "]", ",", ":", `"`, `"a"`, `"b"`, `"aa"`, "1", "-", "0", ".5", "e3", "E-2", "true", "null", " ", "\n", `\u0041`, `\ud834\udd1e`, `\ud834`, `\u0000`, `\/`, `\q`, "\x01", "ä", "\xff", `""`, `"x":`, "1.50"}
	rapid.Check(t, func(r *rapid.T) {
		var text string
		if rapid.Bool().Draw(r, "valid") {
			text = string(rawJSON(r).(json.RawMessage))
		} else {
			text = strings.Join(rapid.SliceOfN(rapid.SampledFrom(alphabet), 0, 8).Draw(r, "pieces"), "")
		}
		ours, err := canonicalJSON(json.RawMessage(text))
		var theirs string
		pgErr := conn.QueryRow(t.Context(), "SELECT $1::text::jsonb::text", text).Scan(&theirs)
		if (err == nil) != (pgErr == nil) {
			r.Fatalf("%q: we say %v, Postgres says %v", text, err, pgErr)
		}
		if err != nil {
			return
		}
		if again, err := canonicalJSON(json.RawMessage(theirs)); err != nil || !bytes.Equal(ours, again) {
			r.Fatalf("%q becomes %s; through Postgres %s, %v", text, ours, again, err)
		}
		if again, err := canonicalJSON(ours); err != nil || !bytes.Equal(ours, again) || cap(ours) == len(ours) && &again[0] != &ours[0] {
			r.Fatalf("%s is not canonical: %s, %v", ours, again, err)
		}
	})
	for _, deep := range []string{strings.Repeat("[", maxDepth+2), "1e200000", "1e-20000", "0." + strings.Repeat("1", maxDecimals+1)} {
		if _, err := canonicalJSON(json.RawMessage(deep)); err == nil {
			t.Errorf("%.20s... is taken", deep)
		}
	}
}

func TestEqualIsExact(t *testing.T) {
	at := time.Unix(0, 0)
	equal := []Row{{nil, int64(1), dec("1.50"), at.UTC(), json.RawMessage(`{}`), []byte{1}, math.NaN(), "x", true}, {nil, int64(1), dec("1.50"), at.In(time.FixedZone("", 60)), json.RawMessage(`{}`), []byte{1}, math.NaN(), "x", true}}
	if !Equal(equal[0], equal[1]) {
		t.Error("equal rows are not")
	}
	for i, other := range []any{int64(0), "1", dec("1.5"), at.Add(1), json.RawMessage(`[]`), []byte{2}, math.Copysign(0, -1), "y", false} {
		changed := slices.Clone(equal[0])
		changed[i] = other
		if Equal(equal[0], changed) || Equal(changed, equal[0]) {
			t.Errorf("%v equals %v", equal[0], changed)
		}
	}
	if Equal(nil, Row{}) || !Equal(nil, nil) || Equal(Row{nil}, Row{nil, nil}) {
		t.Error("rows of different lengths are equal, or none is not equal to none")
	}
	if !Equal(Row{dec("123456789012345678901.5")}, Row{dec("123456789012345678901.5")}) || Equal(Row{dec("123456789012345678901.5")}, Row{dec("123456789012345678901.6")}) {
		t.Error("large numbers")
	}
}
