package shadow

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestPlain(t *testing.T) {
	for text, want := range map[string]string{
		"":                        "",
		"recent_demand":           "recent_demand",
		"Größe M, ½ Preis":        "Größe M, ½ Preis",
		"\x1b[31mred\x1b[0m":      "\ufffd[31mred\ufffd[0m",
		"two\nlines\tand\r\nmore": "two lines and  more",
		"\u202etxt.exe\u2066":     "txt.exe",
		"a\u200bb\x00\x9b":        "ab\ufffd\ufffd",
	} {
		if got := Plain(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	long := ruleName(strings.Repeat("é", 500))
	if len(long) > longestRule+3 || !strings.HasSuffix(long, "é...") || !utf8.ValidString(long) {
		t.Errorf("a long name: %q", long)
	}
}
