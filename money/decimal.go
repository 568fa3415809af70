package money

import (
	"fmt"
	"math/big"
	"strings"
)

// Decimal is an exact decimal number of any size: a price times a quantity, a
// rate, a sum over lines. It is immutable; the zero Decimal is 0.
type Decimal struct {
	units *big.Int // nil is 0
	scale int
}

// maxDigits bounds what ParseNumber takes: Postgres' numeric has at most 131072
// digits before the point and 16383 after it.
const maxDigits = 150_000

// NewDecimal is units * 10^-scale. A negative scale is taken as 0.
func NewDecimal(units int64, scale int) Decimal {
	return Decimal{big.NewInt(units), max(scale, 0)}
}

// ParseNumber reads a decimal as Postgres prints numerics: no exponent, no NaN,
// no Infinity.
func ParseNumber(text string) (Decimal, error) {
	whole, fraction, _ := strings.Cut(text, ".")
	digits := strings.TrimLeft(whole, "+-")
	if len(whole)-len(digits) > 1 || len(digits)+len(fraction) == 0 || len(text) > maxDigits || !onlyDigits(digits) || !onlyDigits(fraction) {
		return Decimal{}, fmt.Errorf("%.40q is not a decimal number", text)
	}
	units, ok := new(big.Int).SetString(whole+fraction, 10)
	if !ok {
		return Decimal{}, fmt.Errorf("%.40q is not a decimal number", text)
	}
	return Decimal{units, len(fraction)}, nil
}

func onlyDigits(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

func (d Decimal) int() *big.Int {
	if d.units == nil {
		return new(big.Int)
	}
	return d.units
}

func (d Decimal) at(scale int) *big.Int {
	if scale == d.scale {
		return d.int()
	}
	return new(big.Int).Mul(d.int(), power(scale-d.scale))
}

func power(n int) *big.Int {
	return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil)
}

// Add gives d+e.
func (d Decimal) Add(e Decimal) Decimal {
	scale := max(d.scale, e.scale)
	return Decimal{new(big.Int).Add(d.at(scale), e.at(scale)), scale}
}

// Sub gives d-e.
func (d Decimal) Sub(e Decimal) Decimal { return d.Add(e.Neg()) }

// Neg gives -d.
func (d Decimal) Neg() Decimal { return Decimal{new(big.Int).Neg(d.int()), d.scale} }

// Mul gives d*e, exactly.
func (d Decimal) Mul(e Decimal) Decimal {
	return Decimal{new(big.Int).Mul(d.int(), e.int()), d.scale + e.scale}
}

// Cmp compares values: 1.0 and 1.00 are equal.
func (d Decimal) Cmp(e Decimal) int {
	scale := max(d.scale, e.scale)
	return d.at(scale).Cmp(e.at(scale))
}

// Int64 gives d as units*10^-scale; ok is false where the units are no int64.
func (d Decimal) Int64() (units int64, scale int, ok bool) {
	if d.units == nil {
		return 0, d.scale, true
	}
	return d.units.Int64(), d.scale, d.units.IsInt64()
}

// Scale is the number of decimals that String writes.
func (d Decimal) Scale() int { return d.scale }

// Sign is -1, 0 or 1.
func (d Decimal) Sign() int { return d.int().Sign() }

// Round gives d with the given number of decimals. What lies exactly between
// two is rounded away from zero: this is the only rounding rule of the house.
func (d Decimal) Round(scale int) Decimal {
	if scale < 0 {
		scale = 0
	}
	if scale >= d.scale {
		return Decimal{d.at(scale), scale}
	}
	unit := power(d.scale - scale)
	quotient, rest := new(big.Int).QuoRem(d.int(), unit, new(big.Int))
	if rest.Abs(rest).Lsh(rest, 1).Cmp(unit) >= 0 {
		quotient.Add(quotient, big.NewInt(int64(d.Sign())))
	}
	return Decimal{quotient, scale}
}

// Amount gives d as an amount of the given scale, or a *NotFitError.
func (d Decimal) Amount(scale int, currency string) (Amount, error) {
	return ParseDecimal(d.String(), scale, currency)
}

// String writes the number with all its decimals, zeros included: "12.340".
func (d Decimal) String() string {
	text := d.int().String()
	if d.scale == 0 {
		return text
	}
	sign := ""
	if text[0] == '-' {
		sign, text = "-", text[1:]
	}
	if len(text) <= d.scale {
		text = strings.Repeat("0", d.scale-len(text)+1) + text
	}
	return sign + text[:len(text)-d.scale] + "." + text[len(text)-d.scale:]
}
