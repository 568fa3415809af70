package quote

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// ParseAsOf reads a position in the form of AsOf, "1:0/1A2B3C8": the generation of
// the source and an LSN as Postgres prints it, without the ordinal that an event's
// position ends with. Errors name the value, cut to a length that can be shown, and
// the right form.
func ParseAsOf(text string) (generation int, lsn uint64, err error) {
	bad := func() (int, uint64, error) {
		return 0, 0, fmt.Errorf("%s: want generation:LSN, such as 1:0/1A2B3C8", strconv.Quote(cut(text)))
	}
	gen, rest, ok := strings.Cut(text, ":")
	hi, lo, ok2 := strings.Cut(rest, "/")
	if !ok || !ok2 {
		return bad()
	}
	g, err := strconv.ParseUint(gen, 10, 31)
	if err != nil || g < 1 {
		return bad()
	}
	h, err := strconv.ParseUint(hi, 16, 32)
	if err != nil {
		return bad()
	}
	l, err := strconv.ParseUint(lo, 16, 32)
	if err != nil {
		return bad()
	}
	return int(g), h<<32 | l, nil
}

// FormatAsOf writes what ParseAsOf reads.
func FormatAsOf(generation int, lsn uint64) string {
	return fmt.Sprintf("%d:%X/%X", generation, uint32(lsn>>32), uint32(lsn))
}

// CompareAsOf says with -1, 0 or 1 whether position a stands before b, at it or
// after it. Generations order first.
func CompareAsOf(a, b string) (int, error) {
	ag, al, err := ParseAsOf(a)
	if err != nil {
		return 0, err
	}
	bg, bl, err := ParseAsOf(b)
	if err != nil {
		return 0, err
	}
	return cmp.Or(cmp.Compare(ag, bg), cmp.Compare(al, bl)), nil
}

// cut shortens a value to what can be shown.
func cut(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}
