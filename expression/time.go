package expression

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Date is a day of the UTC calendar: the number of days since 1970-01-01. In
// sums and comparisons it is the instant at which the day begins.
type Date int32

const secondsPerDay = 24 * 60 * 60

// DateOf gives the UTC day of an instant.
func DateOf(t time.Time) Date {
	days := t.Unix() / secondsPerDay
	if t.Unix()%secondsPerDay < 0 {
		days--
	}
	return Date(min(max(days, math.MinInt32), math.MaxInt32))
}

// Time gives the begin of the day in UTC.
func (d Date) Time() time.Time { return time.Unix(int64(d)*secondsPerDay, 0).UTC() }

// String writes "2010-12-01"; what Postgres calls infinity, and years BC, as
// Postgres does.
func (d Date) String() string { return string(d.append(nil)) }

func (d Date) append(dst []byte) []byte {
	switch d {
	case DateOf(EndOfTime):
		return append(dst, "infinity"...)
	case DateOf(BeginOfTime):
		return append(dst, "-infinity"...)
	}
	t := d.Time()
	year := t.Year()
	if year > 0 {
		return t.AppendFormat(dst, "2006-01-02")
	}
	dst = append(dst, fmt.Sprintf("%04d", 1-year)...)
	return append(t.AppendFormat(dst, "-01-02"), " BC"...)
}

// EndOfTime and BeginOfTime are what infinity and -infinity are in expressions:
// moments after and before all that Postgres can hold, so that comparisons come
// out right.
var (
	EndOfTime   = time.Date(294277, 1, 1, 0, 0, 0, 0, time.UTC)
	BeginOfTime = time.Date(-4713, 1, 1, 0, 0, 0, 0, time.UTC)
)

// ParseTime reads what stands for an instant or a day in JSON and in Postgres'
// ISO style: 2010-12-01T08:26:00Z, 2010-12-01 08:26:00.5+02, 2010-12-01,
// 0044-03-15 BC, infinity. Without a zone it is UTC.
func ParseTime(text string) (time.Time, error) {
	if t, ok := parseUTC(text); ok {
		return t, nil
	}
	switch text {
	case "infinity":
		return EndOfTime, nil
	case "-infinity":
		return BeginOfTime, nil
	}
	bad := fmt.Errorf("%.40q is no time, want a form such as 2010-12-01T08:26:00Z or 2010-12-01", text)
	s, bc := strings.CutSuffix(text, " BC")
	day, clock, both := strings.Cut(s, " ")
	if !both {
		day, clock, both = strings.Cut(s, "T")
	}
	parts := strings.Split(day, "-")
	if len(parts) != 3 || both && clock == "" {
		return time.Time{}, bad
	}
	var ymd [3]int
	for i, p := range parts {
		n, ok := digits(p, 6)
		if !ok {
			return time.Time{}, bad
		}
		ymd[i] = n
	}
	if bc {
		ymd[0] = 1 - ymd[0]
	}
	t := time.Date(ymd[0], time.Month(ymd[1]), ymd[2], 0, 0, 0, 0, time.UTC)
	if t.Day() != ymd[2] || int(t.Month()) != ymd[1] {
		return time.Time{}, bad
	}
	if clock == "" {
		return t, nil
	}
	after, ok := parseClock(clock)
	if !ok {
		return time.Time{}, bad
	}
	return t.Add(after), nil
}

// parseUTC reads the two forms that nearly every time has, the wire's and the
// log's: 2010-12-01T08:26:00Z and 2010-12-01 08:26:00.
func parseUTC(s string) (time.Time, bool) {
	switch {
	case len(s) == 20 && s[10] == 'T' && s[19] == 'Z':
	case len(s) == 19 && s[10] == ' ':
	default:
		return time.Time{}, false
	}
	if s[4] != '-' || s[7] != '-' || s[13] != ':' || s[16] != ':' {
		return time.Time{}, false
	}
	var n [6]int
	for i, at := range [6]int{0, 5, 8, 11, 14, 17} {
		width := 2
		if i == 0 {
			width = 4
		}
		v, ok := digits(s[at:at+width], width)
		if !ok {
			return time.Time{}, false
		}
		n[i] = v
	}
	if n[1] < 1 || n[1] > 12 || n[2] < 1 || n[2] > 28 && n[2] > daysIn(n[0], n[1]) || n[3] > 23 || n[4] > 59 || n[5] > 59 {
		return time.Time{}, false
	}
	return time.Date(n[0], time.Month(n[1]), n[2], n[3], n[4], n[5], 0, time.UTC), true
}

func daysIn(year, month int) int {
	return time.Date(year, time.Month(month)+1, 0, 0, 0, 0, 0, time.UTC).Day()
}

// digits reads a number of at most width digits.
func digits(s string, width int) (int, bool) {
	if s == "" || len(s) > width {
		return 0, false
	}
	n := 0
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
	}
	return n, true
}

// parseClock reads 08:26:00.123456+05:30 as what has passed since UTC midnight.
func parseClock(clock string) (time.Duration, bool) {
	var offset time.Duration
	if s, ok := strings.CutSuffix(clock, "Z"); ok {
		clock = s
	} else if zone := strings.LastIndexAny(clock, "+-"); zone > 0 {
		unit := time.Hour
		for _, p := range strings.Split(clock[zone+1:], ":") {
			n, ok := digits(p, 2)
			if !ok {
				return 0, false
			}
			offset += time.Duration(n) * unit
			unit /= 60
		}
		if clock[zone] == '-' {
			offset = -offset
		}
		clock = clock[:zone]
	}
	parts := strings.Split(clock, ":")
	if len(parts) != 3 {
		return 0, false
	}
	h, ok1 := digits(parts[0], 2)
	m, ok2 := digits(parts[1], 2)
	whole, fraction, _ := strings.Cut(parts[2], ".")
	s, ok3 := digits(whole, 2)
	if !ok1 || !ok2 || !ok3 || h > 24 || m > 59 || s > 60 || len(fraction) > 9 {
		return 0, false
	}
	nanos := 0
	if fraction != "" {
		n, err := strconv.ParseUint(fraction+strings.Repeat("0", 9-len(fraction)), 10, 32)
		if err != nil {
			return 0, false
		}
		nanos = int(n)
	}
	return time.Duration(h)*time.Hour + time.Duration(m)*time.Minute + time.Duration(s)*time.Second + time.Duration(nanos) - offset, true
}
