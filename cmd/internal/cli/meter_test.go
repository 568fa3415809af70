package cli

import (
	"strings"
	"testing"
	"time"
)

func TestMeter(t *testing.T) {
	for _, tc := range []struct {
		live bool
		want string
	}{
		{false, "copy: 2,000 of about 5,000 rows, 400/s, 7.5s to go\ncopy: 3,000 of about 6,000 rows, 300/s, 10s to go\ncopy: 7,000 of about 7,000 rows, 636/s, took 11s\n"},
		{true, "\r\x1b[Kcopy: 1,000 of about 5,000 rows, 1,000/s, 4s to go\r\x1b[Kcopy: 2,000 of about 5,000 rows, 400/s, 7.5s to go" +
			"\r\x1b[Kcopy: 3,000 of about 6,000 rows, 300/s, 10s to go\r\x1b[Kcopy: 7,000 of about 7,000 rows, 636/s\r\x1b[Kcopy: 7,000 of about 7,000 rows, 636/s, took 11s\n"},
	} {
		var b strings.Builder
		now := time.Unix(0, 0)
		m := newMeter(&Printer{err: &b, live: tc.live}, "copy", "rows", 5000, func() time.Time { return now })
		pass := func(d time.Duration) { now = now.Add(d) }
		pass(time.Second)
		m.Add(1000)
		pass(4 * time.Second)
		m.Add(1000)
		pass(5 * time.Second)
		m.Set(3000, 6000)
		pass(time.Second)
		m.Add(4000)
		m.End()
		if b.String() != tc.want {
			t.Errorf("live %t: got\n%q\nwant\n%q", tc.live, b.String(), tc.want)
		}
	}
}

func TestShortWorkIsNotShown(t *testing.T) {
	var b strings.Builder
	p := &Printer{err: &b}
	m := newMeter(p, "copy", "rows", 0, func() time.Time { return time.Unix(0, 0) })
	m.Add(5)
	m.End()
	s := p.Phases("verify")
	s.Set("read", "events", 1, 0)
	s.Set("compare", "keys", 1, 0)
	s.End()
	p.Phases("nothing").End()
	if b.Len() > 0 {
		t.Errorf("it says %q", b.String())
	}
}
