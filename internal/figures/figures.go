// Package figures writes numbers and tables the way people read them: counts
// with commas, bytes in binary units, durations without needless digits, rows
// in aligned columns. It changes when the look of our output does; what is
// shown, and where it comes from, is its caller's business. Nothing of it is
// meant for machines: they get JSON.
package figures

import (
	"fmt"
	"strconv"
	"time"
)

// Thousands writes 1234567 as "1,234,567".
func Thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Size writes a number of bytes as "1.5 GiB".
func Size(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/unit, 0
	for ; f >= unit && i < 4; i++ {
		f /= unit
	}
	return fmt.Sprintf("%.1f %ciB", f, "KMGTP"[i])
}

// Round takes the digits off a duration that nobody reads: what is below a
// millisecond, from a second on below a tenth, from a minute on below a second.
func Round(d time.Duration) time.Duration {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond)
	case d < time.Minute:
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Second)
}
