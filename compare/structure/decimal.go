package structure

import (
	"math/big"
	"strconv"
	"strings"
)

// decimal is a number as it was written, without loss: digits * 10^exp. Digits
// have no zeros at their ends, so that two equal numbers have equal fields but
// for scale. The exponent is never expanded before sane says that one may:
// 1e999999999 is seven digits of JSON and a gigabyte of integer.
type decimal struct {
	valid    bool
	negative bool
	digits   string // empty is zero
	exp      int
	scale    int // decimals as written
}

// What is expanded for arithmetic; beyond, numbers are equal or differ, and
// nothing more is said of them.
const (
	saneExp    = 400
	saneDigits = 2000
	digitsExp  = 9 // of an exponent that is read at all
)

// parseDecimal reads what JSON takes for a number; what is none is not valid. A
// code such as "007" is none.
func parseDecimal(text string) decimal {
	d := decimal{}
	s, negative := strings.CutPrefix(text, "-")
	mantissa, exponent := s, ""
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		mantissa, exponent = s[:i], s[i+1:]
		if exponent == "" {
			return d
		}
	}
	whole, fraction, point := strings.Cut(mantissa, ".")
	if whole == "" || point && fraction == "" || !onlyDigits(whole+fraction) || len(whole) > 1 && whole[0] == '0' {
		return d
	}
	exp := 0
	if exponent != "" {
		bare := strings.TrimLeft(exponent, "+-")
		n, err := strconv.Atoi(exponent)
		if err != nil || len(bare) > digitsExp || len(exponent)-len(bare) > 1 {
			return d
		}
		exp = n
	}
	digits := strings.TrimLeft(whole+fraction, "0")
	full := len(digits)
	digits = strings.TrimRight(digits, "0")
	d = decimal{valid: true, negative: negative && digits != "", digits: digits, scale: max(0, len(fraction)-exp)}
	if digits != "" {
		d.exp = exp - len(fraction) + full - len(digits)
	}
	return d
}

func onlyDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// shift is d * 10^-scale, written with scale decimals.
func (d decimal) shift(scale int) decimal {
	if d.digits != "" {
		d.exp -= scale
	}
	d.scale = scale
	return d
}

func (d decimal) equal(o decimal) bool {
	return d.valid && o.valid && d.negative == o.negative && d.digits == o.digits && d.exp == o.exp
}

// plain is one text for all ways to write a number, with whole numbers as one
// writes them.
func (d decimal) plain() string {
	const longest = 18
	if d.exp < 0 || d.exp > longest {
		return d.canonical()
	}
	if d.digits == "" {
		return "0"
	}
	sign := ""
	if d.negative {
		sign = "-"
	}
	return sign + d.digits + strings.Repeat("0", d.exp)
}

// canonical is one text for all ways to write a number.
func (d decimal) canonical() string {
	sign := ""
	if d.negative {
		sign = "-"
	}
	return sign + d.digits + "e" + strconv.Itoa(d.exp)
}

// sane says whether arithmetic with d costs little.
func (d decimal) sane() bool {
	return d.valid && len(d.digits) <= saneDigits && d.exp <= saneExp && d.exp >= -saneExp-saneDigits
}

// rat needs sane.
func (d decimal) rat() *big.Rat {
	n, ok := new(big.Int).SetString("0"+d.digits, 10)
	if !ok {
		return new(big.Rat)
	}
	if d.negative {
		n.Neg(n)
	}
	if d.exp >= 0 {
		return new(big.Rat).SetInt(n.Mul(n, power(d.exp)))
	}
	return new(big.Rat).SetFrac(n, power(-d.exp))
}

func power(n int) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil) }

// apart is |a-b|, nil where that is not worked out.
func apart(a, b decimal) *big.Rat {
	if !a.sane() || !b.sane() {
		return nil
	}
	d := new(big.Rat).Sub(a.rat(), b.rat())
	return d.Abs(d)
}

// apartText is apart with the decimals that it needs.
func apartText(a, b decimal) string {
	d := apart(a, b)
	if d == nil {
		return ""
	}
	text := d.FloatString(max(0, -a.exp, -b.exp))
	if strings.Contains(text, ".") {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return text
}

// rounded reports whether one of two different numbers may be the other,
// rounded: see Rounding.
func rounded(a, b decimal) bool {
	d := apart(a, b)
	if d == nil || a.scale == b.scale || a.scale > saneDigits || b.scale > saneDigits {
		return false
	}
	halves := new(big.Rat).SetFrac(big.NewInt(1), power(min(a.scale, b.scale)))
	return d.Add(d, d).Cmp(halves) <= 0
}

// tolerance is how far numbers may be apart; nil parts allow nothing.
type tolerance struct {
	absolute, relative *big.Rat
}

// allows is symmetric: a share is of the larger of both.
func (t *tolerance) allows(a, b decimal) bool {
	d := apart(a, b)
	if t == nil || d == nil {
		return false
	}
	if t.absolute != nil && d.Cmp(t.absolute) <= 0 {
		return true
	}
	if t.relative == nil {
		return false
	}
	x, y := a.rat(), b.rat()
	if x.Abs(x).Cmp(y.Abs(y)) < 0 {
		x = y
	}
	return d.Cmp(x.Mul(x, t.relative)) <= 0
}
