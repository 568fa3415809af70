package event_test

import (
	"slices"
	"strings"
	"testing"

	"banyan/event"
)

func TestIDText(t *testing.T) {
	for _, tt := range []struct {
		id   event.ID
		text string
	}{
		{event.ID{Source: "shop", Aggregate: "Order", Key: "1234", Position: event.Position{Generation: 1, LSN: 0x1A2B3C8}}, "shop/Order/1234@1:0/1A2B3C8.0"},
		{event.ID{Source: "shop", Aggregate: "Order", Key: "1", Position: event.Position{Generation: 2, LSN: 0x16_B374D848, Ordinal: 17}}, "shop/Order/1@2:16/B374D848.17"},
		{event.ID{Source: "shop", Aggregate: "Stock", Key: event.JoinKey("a/b", "x,y", "ü@%", ""), Position: event.Position{Generation: 1, LSN: 255, Snapshot: 3}}, "shop/Stock/a%2Fb,x%2Cy,%C3%BC%40%25,@1:0/FF.s3"},
	} {
		if got := tt.id.String(); got != tt.text {
			t.Errorf("String() = %q, want %q", got, tt.text)
		}
		back, err := event.ParseID(tt.text)
		if err != nil || back != tt.id {
			t.Errorf("ParseID(%q) = %+v, %v; want %+v", tt.text, back, err, tt.id)
		}
	}
	parts, err := event.SplitKey("a%2Fb,x%2Cy,%C3%BC%40%25,")
	if want := []string{"a/b", "x,y", "ü@%", ""}; err != nil || !slices.Equal(parts, want) {
		t.Errorf("SplitKey = %q, %v; want %q", parts, err, want)
	}
}

func TestParseIDRefuses(t *testing.T) {
	for _, s := range []string{
		"", "shop", "shop/Order/1", "shop/Order@1:0/1.0", "/Order/1@1:0/1.0", "shop//1@1:0/1.0", "shop/Order/1/2@1:0/1.0",
		"shop/Order/1@0:0/1.0", "shop/Order/1@1:0.0", "shop/Order/1@1:0/1", "shop/Order/1@1:0/1.-1", "shop/Order/1@1:0/1.s0",
		"shop/Order/1@1:0/1FFFFFFFF.0", "shop/Order/%zz@1:0/1.0", "shop/Order/1@1:g/1.0",
	} {
		if id, err := event.ParseID(s); err == nil {
			t.Errorf("ParseID(%q) = %+v, want an error", s, id)
		} else if s != "" && !strings.Contains(err.Error(), "such as") && !strings.Contains(err.Error(), "escape") {
			t.Errorf("ParseID(%q): %v: does not say what would be right", s, err)
		}
	}
}

func TestPositionsOrderAsCommitted(t *testing.T) {
	want := []string{"1:0/1.5", "1:0/2.s1", "1:0/2.s2", "1:0/2.0", "1:0/2.9", "1:0/2.10", "1:1/0.0", "2:0/1.0"}
	var got []event.Position
	for _, i := range []int{3, 7, 0, 5, 2, 6, 1, 4} {
		p, err := event.ParsePosition(want[i])
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, p)
	}
	slices.SortFunc(got, event.Position.Compare)
	for i, p := range got {
		if p.String() != want[i] {
			t.Fatalf("position %d is %s, want %s", i, p, want[i])
		}
	}
}

func FuzzID(f *testing.F) {
	f.Add("shop/Order/1234@1:0/1A2B3C8.0")
	f.Add("shop/Stock/a%2Fb,x@2:16/B374D848.s1")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := event.ParseID(s)
		if err != nil {
			return
		}
		again, err := event.ParseID(id.String())
		if err != nil || again != id {
			t.Fatalf("%q became %q, then %+v, %v", s, id, again, err)
		}
	})
}

func FuzzKey(f *testing.F) {
	f.Add("a", "b,c/@%")
	f.Fuzz(func(t *testing.T, a, b string) {
		parts, err := event.SplitKey(event.JoinKey(a, b))
		if err != nil || len(parts) != 2 || parts[0] != a || parts[1] != b {
			t.Fatalf("%q %q became %q, %v", a, b, parts, err)
		}
	})
}
