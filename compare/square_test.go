package compare

import (
	"encoding/json"
	"math/big"
	"testing"

	"pgregory.net/rapid"
)

func TestSquaresAreExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s Square
		want := new(big.Int)
		var added []int64
		limit := new(big.Int).Lsh(big.NewInt(1), 128)
		for _, d := range rapid.SliceOfN(wild, 0, 40).Draw(t, "differences") {
			square := new(big.Int).Mul(big.NewInt(d), big.NewInt(d))
			if sum := new(big.Int).Add(want, square); sum.Cmp(limit) >= 0 {
				continue // a book cannot get there: see maxVolume
			}
			want.Add(want, square)
			s.Add(d)
			added = append(added, d)
		}
		if s.big().Cmp(want) != 0 {
			t.Fatalf("the squares of %d make %s, want %s", added, s.big(), want)
		}
		if f, _ := new(big.Float).SetInt(want).Float64(); s.Float() != f {
			t.Fatalf("%s as a float is %g, want %g", want, s.Float(), f)
		}
		raw, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var again Square
		if err := json.Unmarshal(raw, &again); err != nil || again != s {
			t.Fatalf("%s is read as %s: %v", raw, again.big(), err)
		}
		for _, d := range added {
			s.Sub(d)
		}
		if s != (Square{}) {
			t.Fatalf("taken away again %s is left", s.big())
		}
	})
}

func TestASquareIsReadStrictly(t *testing.T) {
	for _, raw := range []string{`5`, `"-1"`, `"x"`, `""`, `"1.5"`, `"340282366920938463463374607431768211456"`, `null`, `{}`} {
		s := Square{hi: 1}
		if err := json.Unmarshal([]byte(raw), &s); err == nil && raw != "null" {
			t.Errorf("%s is read as %s", raw, s.big())
		}
	}
	var s Square
	if err := json.Unmarshal([]byte(`"340282366920938463463374607431768211455"`), &s); err != nil || s != (Square{^uint64(0), ^uint64(0)}) {
		t.Errorf("the largest is read as %s: %v", s.big(), err)
	}
}
