package token_test

import (
	"encoding/json"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"banyan/event"
	"banyan/token"
)

func TestTokenIsReadAsItIsWritten(t *testing.T) {
	for text, want := range map[string]token.Token{
		"1:0/1A2B3C8": {Generation: 1, LSN: 0x1A2B3C8}, "2:0/0": {Generation: 2}, "12:FFFFFFFF/FFFFFFFF": {Generation: 12, LSN: 1<<64 - 1}, "3:A/0": {Generation: 3, LSN: 10 << 32},
	} {
		if got, err := token.Parse(text); err != nil || got != want || got.String() != text {
			t.Errorf("%s is read as %s, %v", text, got, err)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		want := token.Token{Generation: rapid.IntRange(1, 1<<31-1).Draw(t, "generation"), LSN: rapid.Uint64().Draw(t, "LSN")}
		got, err := token.Parse(want.String())
		if err != nil || got != want {
			t.Fatalf("%s is read as %s, %v", want, got, err)
		}
		var again struct{ Token token.Token }
		b, err := json.Marshal(map[string]token.Token{"Token": want})
		if err != nil || json.Unmarshal(b, &again) != nil || again.Token != want {
			t.Fatalf("%s is read from JSON as %s, %v", b, again.Token, err)
		}
	})
}

func TestMalformedTokensAreNamed(t *testing.T) {
	for _, text := range []string{"", "wanted", "1", "1:", "1:0", "1:0/", ":0/1", "0:0/1", "-1:0/1", "+1:0/1", "1:0/1.0", "1:0/1.", "1:0/G", "1:0/1FFFFFFFF", "1:0/-1", " 1:0/1", "1:0/1 ", "1.5:0/1", "1:0/1/2", "99999999999999999999:0/1"} {
		got, err := token.Parse(text)
		if err == nil {
			t.Errorf("%q is read as %s", text, got)
		} else if !strings.Contains(err.Error(), `"`+text+`"`) || !strings.Contains(err.Error(), "1:0/1A2B3C8") {
			t.Errorf("the error names not the value, or not the form: %v", err)
		}
	}
	if _, err := token.Parse(strings.Repeat("9", 1000)); err == nil || len(err.Error()) > 200 {
		t.Errorf("of a long value it says %v", err)
	}
	var into struct{ T token.Token }
	if err := json.Unmarshal([]byte(`{"T": "1:0"}`), &into); err == nil {
		t.Error("JSON with a malformed token is read")
	}
	if err := json.Unmarshal([]byte(`{"T": ""}`), &into); err != nil || into.T != (token.Token{}) {
		t.Errorf("no token is read as %s, %v", into.T, err)
	}
}

func TestGenerationsOrderFirst(t *testing.T) {
	at := func(generation int, lsn uint64) *event.Watermark {
		return &event.Watermark{Generation: generation, LSN: lsn}
	}
	for _, tc := range []struct {
		t      token.Token
		w      *event.Watermark
		passed bool
	}{
		{token.Token{Generation: 1, LSN: 10}, at(1, 9), false},
		{token.Token{Generation: 1, LSN: 10}, at(1, 10), true},
		{token.Token{Generation: 1, LSN: 10}, at(1, 11), true},
		{token.Token{Generation: 1, LSN: 10}, at(2, 1), true},
		{token.Token{Generation: 2, LSN: 10}, at(1, 1000), false},
		{token.Token{Generation: 1, LSN: 1 << 63}, at(1, 1<<63-1), false},
	} {
		if got := tc.t.Passed(tc.w); got != tc.passed {
			t.Errorf("token %s passed by watermark %s: %t", tc.t, token.Of(tc.w), got)
		}
		if a, b := tc.t.Compare(token.Of(tc.w)), token.Of(tc.w).Compare(tc.t); a != -b {
			t.Errorf("token %s and %s compare as %d and %d", tc.t, token.Of(tc.w), a, b)
		}
	}
}
