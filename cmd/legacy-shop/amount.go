package main

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// amount is a sum of money in thousandths of a pound. The tables hold
// numeric(12,3) and JSON holds a decimal string; floats are never used. It is
// the shop's own: a monolith of that age has no money library.
type amount int64

// maxAmount is the largest value that numeric(12,3) can hold.
const maxAmount = amount(999_999_999_999)

// parseAmount reads a plain decimal such as "2.55" or "-11062.060". More than
// three decimals are an error unless the rest is zeros; exponents are refused.
func parseAmount(s string) (amount, error) {
	digits, negative := strings.CutPrefix(s, "-")
	whole, fraction, dotted := strings.Cut(digits, ".")
	fraction = strings.TrimRight(fraction, "0")
	if whole == "" || dotted && digits[len(digits)-1] == '.' || len(fraction) > 3 || len(whole) > 9 {
		return 0, fmt.Errorf("%q is not a decimal with at most 9 digits before and 3 after the point", s)
	}
	n, err := strconv.ParseUint(whole+fraction+"000"[len(fraction):], 10, 63)
	if err != nil {
		return 0, fmt.Errorf("%q is not a decimal number", s)
	}
	if negative {
		return -amount(n), nil
	}
	return amount(n), nil
}

// String gives the amount with two decimals, and with three where it has them.
func (a amount) String() string {
	sign, n := "", uint64(a)
	if a < 0 {
		sign, n = "-", -n
	}
	if n%10 == 0 {
		return fmt.Sprintf("%s%d.%02d", sign, n/1000, n%1000/10)
	}
	return fmt.Sprintf("%s%d.%03d", sign, n/1000, n%1000)
}

// MarshalJSON writes a decimal string, so that no reader makes a float of it.
func (a amount) MarshalJSON() ([]byte, error) { return []byte(`"` + a.String() + `"`), nil }

// UnmarshalJSON reads a decimal string or a bare JSON number, digit by digit.
func (a *amount) UnmarshalJSON(b []byte) error {
	if bytes.Equal(b, []byte("null")) {
		return nil
	}
	v, err := parseAmount(string(bytes.Trim(b, `"`)))
	if err != nil {
		return err
	}
	*a = v
	return nil
}
