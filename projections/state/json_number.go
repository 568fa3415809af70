package state

import (
	"bytes"
	"fmt"
	"strconv"
)

func (c *canonicalizer) number() error {
	from := c.at
	for c.at < len(c.in) {
		b := c.in[c.at]
		if b != '-' && b != '+' && b != '.' && b != 'e' && b != 'E' && (b < '0' || b > '9') {
			break
		}
		c.at++
	}
	literal := c.in[from:c.at]
	if !validNumber(string(literal)) {
		c.at = from
		return c.fail("a number is not written as JSON wants it")
	}
	var err error
	if c.out, err = appendNumber(c.out, literal); err != nil {
		c.at = from
		return c.fail(err.Error())
	}
	return nil
}

// validNumber checks the grammar of a number in JSON.
func validNumber(s string) bool {
	digits := func() int {
		n := 0
		for n < len(s) && s[n] >= '0' && s[n] <= '9' {
			n++
		}
		s = s[n:]
		return n
	}
	if s != "" && s[0] == '-' {
		s = s[1:]
	}
	zero := s != "" && s[0] == '0'
	if n := digits(); n == 0 || zero && n > 1 {
		return false
	}
	if s != "" && s[0] == '.' {
		s = s[1:]
		if digits() == 0 {
			return false
		}
	}
	if s != "" && (s[0] == 'e' || s[0] == 'E') {
		s = s[1:]
		if s != "" && (s[0] == '+' || s[0] == '-') {
			s = s[1:]
		}
		if digits() == 0 {
			return false
		}
	}
	return s == ""
}

// appendNumber writes a valid number as Postgres' numeric prints it: without an
// exponent, zeros behind the point kept, no negative zero.
func appendNumber(dst, literal []byte) ([]byte, error) {
	negative := literal[0] == '-'
	if negative {
		literal = literal[1:]
	}
	mantissa, power := literal, 0
	if e := bytes.IndexAny(literal, "eE"); e >= 0 {
		var err error
		mantissa = literal[:e]
		if power, err = strconv.Atoi(string(literal[e+1:])); err != nil || power > maxWholeDigits || power < -maxDecimals {
			return dst, fmt.Errorf("a number has more digits than numeric can hold")
		}
	}
	whole, fraction, _ := bytes.Cut(mantissa, []byte("."))
	if len(bytes.Trim(mantissa, "0.")) == 0 {
		negative = false
	}
	if negative {
		dst = append(dst, '-')
	}
	if power == 0 && len(whole)+len(fraction) < maxDecimals {
		return append(dst, mantissa...), nil
	}
	digits := append(bytes.Clone(whole), fraction...)
	point := len(whole) + power // digits before the point
	scale := max(len(fraction)-power, 0)
	for point > len(digits) {
		digits = append(digits, '0')
	}
	if point <= 0 {
		digits = append(bytes.Repeat([]byte{'0'}, 1-point), digits...)
		point = 1
	}
	front := bytes.TrimLeft(digits[:point], "0")
	if len(front) == 0 {
		front = []byte{'0'}
	}
	if len(front) > maxWholeDigits || scale > maxDecimals {
		return dst, fmt.Errorf("a number has more digits than numeric can hold")
	}
	dst = append(dst, front...)
	if scale > 0 {
		dst = append(append(dst, '.'), digits[point:]...)
	}
	return dst, nil
}
