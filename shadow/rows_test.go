package shadow

import (
	"encoding/json"
	"testing"

	"github.com/jackc/pgx/v5/pgtype"
	"pgregory.net/rapid"

	"banyan/compare"
)

// Rows are written by hand for speed: they must be what encoding/json writes, or a row
// of an older version would differ from one that says the same.
func TestRowsAreWhatEncodingJSONWrites(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := drawer{t}
		c := &compare.Cluster{Guest: d.yes(), Orders: d.n(), Lines: d.n(), Control: d.n(), Diff: d.n(), Known: d.n(), Rise: d.n(), Fall: d.n(),
			Highest: d.n(), Owed: d.n(), Segments: rapid.MapOfN(rapid.String(), rapid.Custom(func(t *rapid.T) compare.Part {
				d := drawer{t}
				return compare.Part{Orders: d.n(), Control: d.n(), Diff: d.n()}
			}), 0, 4).Draw(t, "segments")}
		d.same("cluster", c, appendCluster(nil, c))
		p := &compare.Product{Code: d.text(), Description: d.text(), Lines: d.n(), Pieces: d.n(), Control: d.n(), Diff: d.n(), Known: d.known(),
			Lowest: d.n(), Highest: d.n(), All: d.moments(), Registered: d.moments(),
			Months: rapid.MapOfN(rapid.OneOf(rapid.Int32(), rapid.Int32Range(24_000, 24_400)), rapid.Custom(func(t *rapid.T) compare.Sales {
				d := drawer{t}
				return compare.Sales{Pieces: d.n(), Control: d.n()}
			}), 0, 40).Draw(t, "months")}
		d.same("product", p, appendProduct(nil, p))
		m := &compare.Move{Lines: d.n(), Pieces: d.n(), Control: d.n(), Candidate: d.n(), Known: d.known()}
		d.same("move", m, appendMove(nil, m))
		day := &compare.Day{Orders: d.n(), Lines: d.n(), Control: d.n(), Diff: d.n(), Known: d.n()}
		d.same("day", day, appendDay(nil, day))
	})
}

func TestKnownProductsAreWhatEncodingJSONWrites(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := drawer{t}
		p := &product{List: d.price(), Prev: d.price(), Tier: d.price(), Cost: d.price(), Code: d.text(), Description: d.text(), TierQuantity: d.n()}
		if d.yes() {
			n := d.n()
			p.Stock = &n
		}
		for range rapid.IntRange(0, 40).Draw(t, "days") {
			p.Demand.add(rapid.Int32Range(-40, 40).Draw(t, "day"), rapid.Int64Range(0, 5).Draw(t, "pieces"))
			p.Refused.add(rapid.Int32Range(14_000, 14_090).Draw(t, "day"), rapid.Int64Range(1, 1<<62).Draw(t, "pieces"))
		}
		d.same("known", p, appendProductRow(nil, p))
	})
}

// Many rows share their memory, and the next batch uses it again; pgx reads the arrays.
func TestRowsShareMemory(t *testing.T) {
	r := &rowsOf{}
	types := pgtype.NewMap()
	for range 3 {
		r.reset()
		for i := range 500 {
			r.put("a", string(rune('a'+i%26)), i)
			r.end(appendMove(r.begin("b", ""), &compare.Move{Lines: int64(i)}))
		}
		columns, err := r.done()
		if err != nil {
			t.Fatal(err)
		}
		var kinds []string
		var keys, data [][]byte
		for i, c := range []struct {
			oid  uint32
			into any
		}{{pgtype.TextArrayOID, &kinds}, {pgtype.ByteaArrayOID, &keys}, {pgtype.ByteaArrayOID, &data}} {
			if err := types.Scan(c.oid, pgtype.BinaryFormatCode, columns[i], c.into); err != nil {
				t.Fatalf("column %d: %v", i, err)
			}
		}
		if len(kinds) != 1000 || len(keys) != 1000 || len(data) != 1000 {
			t.Fatalf("%d, %d and %d rows", len(kinds), len(keys), len(data))
		}
		for i := range 500 {
			var n int
			var m compare.Move
			if err := json.Unmarshal(data[2*i], &n); err != nil || n != i || string(keys[2*i]) != string(rune('a'+i%26)) || kinds[2*i] != "a" {
				t.Fatalf("row %d is %s %q %s", 2*i, kinds[2*i], keys[2*i], data[2*i])
			}
			if err := json.Unmarshal(data[2*i+1], &m); err != nil || m.Lines != int64(i) || len(keys[2*i+1]) != 0 || kinds[2*i+1] != "b" {
				t.Fatalf("row %d is %s %q %s", 2*i+1, kinds[2*i+1], keys[2*i+1], data[2*i+1])
			}
		}
	}
	r.put("a", "", func() {})
	if _, err := r.done(); err == nil {
		t.Error("what cannot be written is no fault")
	}
}

type drawer struct{ t *rapid.T }

func (d drawer) n() int64 {
	return rapid.OneOf(rapid.Just(int64(0)), rapid.Int64Range(-1000, 1000), rapid.Int64()).Draw(d.t, "n")
}

func (d drawer) yes() bool { return rapid.Bool().Draw(d.t, "yes") }

// text draws among others what encoding/json escapes for the sake of browsers.
func (d drawer) text() string {
	return rapid.OneOf(rapid.StringMatching(`[A-Z0-9 ]{0,12}`), rapid.String(), rapid.StringMatching("[a<>&\"\\\\\u2028\t\n\x00é]{0,6}"),
		rapid.Just("\xff\xfeü")).Draw(d.t, "text")
}

func (d drawer) known() compare.Known {
	return compare.Known{Lines: d.n(), Control: d.n(), Candidate: d.n(), Cost: d.n()}
}

func (d drawer) moments() compare.Moments {
	return compare.Moments{N: d.n(), X: d.n(), Y: d.n(), XX: d.n(), XY: d.n(), YY: d.n()}
}

func (d drawer) price() price {
	return price{Units: d.n(), Scale: rapid.IntRange(-1, 9).Draw(d.t, "scale"), Currency: d.text(), Known: d.yes(), Fine: d.yes()}
}

func (d drawer) same(what string, v any, got []byte) {
	d.t.Helper()
	want, err := json.Marshal(v)
	if err != nil {
		d.t.Fatal(err)
	}
	if string(want) != string(got) {
		d.t.Fatalf("%s:\nencoding/json %s\nwe            %s", what, want, got)
	}
}
