package shadow

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// longestRule is how many bytes of a rule's name are kept: it stands beside each line.
const longestRule = 200

// Plain makes one line of a text that a candidate has written, for people to read in a
// terminal or a table: nothing in it steers either.
func Plain(s string) string {
	plain := true
	for i := range len(s) {
		plain = plain && s[i] >= ' ' && s[i] <= '~'
	}
	if plain {
		return s
	}
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.Is(unicode.Cf, r): // what turns the direction of a text, or has no width
			return -1
		case !unicode.IsPrint(r):
			return utf8.RuneError
		}
		return r
	}, s)
}

// ruleName is the name of a rule as it is kept.
func ruleName(s string) string {
	if len(s) > longestRule {
		s = strings.ToValidUTF8(s[:longestRule], "") + "..."
	}
	return Plain(s)
}
