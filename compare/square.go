package compare

import (
	"encoding/json"
	"fmt"
	"math/big"
	"math/bits"
)

// Square is a sum of squares of Units, exact, up to 2^128. The zero Square is 0.
type Square struct{ hi, lo uint64 }

// Add adds the square of d.
func (s *Square) Add(d Units) {
	n := size(d)
	hi, lo := bits.Mul64(n, n)
	var carry uint64
	s.lo, carry = bits.Add64(s.lo, lo, 0)
	s.hi, _ = bits.Add64(s.hi, hi, carry)
}

// Sub takes the square of d, which was added before, away again.
func (s *Square) Sub(d Units) {
	n := size(d)
	hi, lo := bits.Mul64(n, n)
	var borrow uint64
	s.lo, borrow = bits.Sub64(s.lo, lo, 0)
	s.hi, _ = bits.Sub64(s.hi, hi, borrow)
}

// Float is the sum as the nearest float, for statistics.
func (s Square) Float() float64 {
	f, _ := new(big.Float).SetInt(s.big()).Float64()
	return f
}

func (s Square) big() *big.Int {
	n := new(big.Int).SetUint64(s.hi)
	return n.Lsh(n, 64).Or(n, new(big.Int).SetUint64(s.lo))
}

// MarshalJSON writes the sum as a decimal text, which no reader of JSON rounds.
func (s Square) MarshalJSON() ([]byte, error) { return json.Marshal(s.big().String()) }

// UnmarshalJSON reads what MarshalJSON writes.
func (s *Square) UnmarshalJSON(raw []byte) error {
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return err
	}
	n, ok := new(big.Int).SetString(text, 10)
	if !ok || n.Sign() < 0 || n.BitLen() > 128 {
		return fmt.Errorf("%q is no sum of squares", text)
	}
	s.lo = new(big.Int).And(n, new(big.Int).SetUint64(^uint64(0))).Uint64()
	s.hi = n.Rsh(n, 64).Uint64()
	return nil
}

// size is an amount without its sign: that of the least int64 too.
func size(u Units) uint64 {
	if u < 0 {
		return -uint64(u)
	}
	return uint64(u)
}
