// Package money is arithmetic of amounts that is always exact.
//
// An Amount is an integer number of units of 10^-Scale of a currency: 2.550
// pounds at scale 3 are {2550, 3, "GBP"}. A text that does not fit the scale is
// refused, never rounded; there is no floating point anywhere. Where a rule of
// business must round, Decimal.Round is the one way to do it: half away from
// zero, as on paper (2.5 becomes 3, -2.5 becomes -3).
package money

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strconv"
)

// MaxScale is the largest scale of an Amount: 10^18 is the largest power of ten
// that an int64 can hold.
const MaxScale = 18

// Amount is a sum of money: Amount units of 10^-Scale of Currency, an ISO 4217
// code. The zero Amount has no currency and is no sum of money.
type Amount struct {
	Amount   int64  `json:"amount"`
	Scale    int    `json:"scale"`
	Currency string `json:"currency"`
}

// ErrCurrency is returned by sums of amounts in different currencies.
var ErrCurrency = errors.New("amounts are in different currencies")

// ErrOverflow is returned by sums that an int64 cannot hold.
var ErrOverflow = errors.New("amount is too large")

// NotFitError says that a decimal has no exact form as an Amount of the scale.
type NotFitError struct {
	Text   string
	Scale  int
	Reason string
}

func (e *NotFitError) Error() string {
	return fmt.Sprintf("%q is no amount with %d decimals: %s", e.Text, e.Scale, e.Reason)
}

// ParseDecimal reads a decimal as Postgres prints it ("12.340", "-7", "1e3" is
// none) into an Amount of the given scale. What has digits below the scale
// other than zeros, is no number (NaN, Infinity), or is too large gives a
// *NotFitError.
func ParseDecimal(text string, scale int, currency string) (Amount, error) {
	bad := func(reason string) (Amount, error) {
		return Amount{}, &NotFitError{Text: text, Scale: scale, Reason: reason}
	}
	if scale < 0 || scale > MaxScale {
		return bad("the scale must be 0 to 18")
	}
	s, negative := text, false
	if s != "" && (s[0] == '-' || s[0] == '+') {
		s, negative = s[1:], s[0] == '-'
	}
	var n uint64
	digits, fraction, point := 0, 0, false
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '.' && !point:
			point = true
			continue
		case c < '0' || c > '9':
			return bad("it is not a decimal number")
		}
		digits++
		if point {
			if fraction == scale {
				if c != '0' {
					return bad("it has more decimals")
				}
				continue
			}
			fraction++
		}
		if n > math.MaxInt64/10 {
			return bad("it is too large")
		}
		n = n*10 + uint64(c-'0')
	}
	if digits == 0 {
		return bad("it is not a decimal number")
	}
	for ; fraction < scale; fraction++ {
		if n > math.MaxInt64/10 {
			return bad("it is too large")
		}
		n *= 10
	}
	if n > math.MaxInt64 {
		return bad("it is too large")
	}
	a := Amount{Amount: int64(n), Scale: scale, Currency: currency}
	if negative {
		a.Amount = -a.Amount
	}
	return a, nil
}

// Number writes the amount as a decimal without its currency: "2.550".
func (a Amount) Number() string {
	if a.Scale <= 0 {
		return strconv.FormatInt(a.Amount, 10)
	}
	return a.Decimal().String()
}

// String writes "2.550 GBP".
func (a Amount) String() string { return a.Number() + " " + a.Currency }

// Decimal is the amount as a plain number.
func (a Amount) Decimal() Decimal { return NewDecimal(a.Amount, a.Scale) }

// AppendJSON appends {"amount":2550,"scale":3,"currency":"GBP"}.
func (a Amount) AppendJSON(dst []byte) []byte {
	dst = append(dst, `{"amount":`...)
	dst = strconv.AppendInt(dst, a.Amount, 10)
	dst = append(dst, `,"scale":`...)
	dst = strconv.AppendInt(dst, int64(a.Scale), 10)
	dst = append(dst, `,"currency":`...)
	dst = strconv.AppendQuoteToASCII(dst, a.Currency)
	return append(dst, '}')
}

// Rescale gives the same sum at another scale; to a smaller one only where
// nothing is lost, else a *NotFitError.
func (a Amount) Rescale(scale int) (Amount, error) {
	if scale == a.Scale {
		return a, nil
	}
	return ParseDecimal(a.Number(), scale, a.Currency)
}

// Add gives a+b at the larger of the two scales. Different currencies give
// ErrCurrency, a sum that does not fit ErrOverflow.
func (a Amount) Add(b Amount) (Amount, error) {
	a, b, err := align(a, b)
	if err != nil {
		return Amount{}, err
	}
	sum := a.Amount + b.Amount
	if (sum > a.Amount) != (b.Amount > 0) {
		return Amount{}, fmt.Errorf("%s + %s: %w", a, b, ErrOverflow)
	}
	a.Amount = sum
	return a, nil
}

// Sub gives a-b; see Add.
func (a Amount) Sub(b Amount) (Amount, error) {
	if b.Amount == math.MinInt64 {
		return Amount{}, fmt.Errorf("%s - %s: %w", a, b, ErrOverflow)
	}
	b.Amount = -b.Amount
	return a.Add(b)
}

// Times gives a*n, or ErrOverflow.
func (a Amount) Times(n int64) (Amount, error) {
	hi, lo := bits.Mul64(abs(a.Amount), abs(n))
	if hi != 0 || lo > math.MaxInt64 {
		return Amount{}, fmt.Errorf("%s * %d: %w", a, n, ErrOverflow)
	}
	negative := (a.Amount < 0) != (n < 0)
	a.Amount = int64(lo)
	if negative {
		a.Amount = -a.Amount
	}
	return a, nil
}

// Cmp compares two amounts of one currency, whatever their scales: -1, 0 or 1.
func (a Amount) Cmp(b Amount) (int, error) {
	if a.Currency != b.Currency {
		return 0, fmt.Errorf("%s and %s: %w", a, b, ErrCurrency)
	}
	if a.Scale == b.Scale {
		switch {
		case a.Amount < b.Amount:
			return -1, nil
		case a.Amount > b.Amount:
			return 1, nil
		}
		return 0, nil
	}
	return a.Decimal().Cmp(b.Decimal()), nil
}

func align(a, b Amount) (Amount, Amount, error) {
	if a.Currency != b.Currency {
		return a, b, fmt.Errorf("%s and %s: %w", a, b, ErrCurrency)
	}
	if a.Scale == b.Scale {
		return a, b, nil
	}
	scale := max(a.Scale, b.Scale)
	x, err := a.Rescale(scale)
	if err != nil {
		return a, b, fmt.Errorf("%s at scale %d: %w", a, scale, ErrOverflow)
	}
	y, err := b.Rescale(scale)
	if err != nil {
		return a, b, fmt.Errorf("%s at scale %d: %w", b, scale, ErrOverflow)
	}
	return x, y, nil
}

func abs(n int64) uint64 {
	if n < 0 {
		return -uint64(n)
	}
	return uint64(n)
}
