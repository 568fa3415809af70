package projections_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"banyan/event"
	"banyan/money"
	"banyan/projections"
	"banyan/projections/state"
)

type everything struct {
	ID      int64           `db:"id,key"`
	Sub     string          `db:"sub,key"`
	Small   int16           `db:"small"`
	Amount  money.Decimal   `db:"amount,type=numeric(12,3)"`
	Name    *string         `db:"name"`
	City    string          `db:"city,null"`
	Open    bool            `db:"open"`
	At      time.Time       `db:"at"`
	Tags    json.RawMessage `db:"tags"`
	Raw     []byte          `db:"raw"`
	Ratio   float64         `db:"ratio"`
	private int
	NotHere string
}

// What a fold stores in a row it finds there again, NULLs and all.
func TestFoldKeepsItsRow(t *testing.T) {
	name := "Ada"
	var want, found everything
	p, err := projections.Fold[everything]{Name: "all", Source: "shop", Topics: []string{orders},
		Apply: func(row *everything, e *projections.Event) (projections.Decision, error) {
			found = *row
			switch e.Type {
			case "Removed":
				return projections.Remove, nil
			case "Ignored":
				row.City = "elsewhere"
				return projections.Ignore, nil
			}
			*row = want
			return projections.Keep, nil
		}}.Program()
	if err != nil {
		t.Fatal(err)
	}
	space, err := state.NewBulk(p.Spec().AllTables(), state.BulkOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer space.Close()
	a, err := projections.NewApplier(p, space, nil, event.Position{})
	if err != nil {
		t.Fatal(err)
	}
	apply := func(typ string) {
		t.Helper()
		e := &projections.Event{Event: event.Event{ID: event.ID{Source: "shop", Aggregate: "A", Key: "7,a%2Cb"}, Type: typ, Topic: orders, Data: json.RawMessage(`{}`)}}
		if err := p.Prepare(e); err != nil {
			t.Fatal(err)
		}
		if err := a.Apply(e); err != nil {
			t.Fatal(err)
		}
	}
	same := cmp.AllowUnexported(everything{}, money.Decimal{})
	check := func(want everything) {
		t.Helper()
		apply("Ignored")
		found.private, found.NotHere = 0, ""
		if found.Amount.Cmp(want.Amount) != 0 {
			t.Errorf("amount %s, want %s", found.Amount, want.Amount)
		}
		found.Amount = want.Amount
		if d := cmp.Diff(want, found, same, cmp.Comparer(func(a, b money.Decimal) bool { return a.Cmp(b) == 0 })); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	}
	key := everything{ID: 7, Sub: "a,b"}
	check(key)
	want = everything{ID: 7, Sub: "a,b", Small: -3, Amount: money.NewDecimal(12345, 3), Name: &name, City: "Leeds", Open: true,
		At: time.Date(2026, 5, 6, 7, 8, 9, 123000, time.UTC), Tags: json.RawMessage(`{"a":1}`), Raw: []byte{0, 255}, Ratio: 0.5}
	apply("Kept")
	check(want)
	want = everything{ID: 99, Sub: "moved", At: want.At} // a fold cannot move its row
	apply("Kept")
	want.ID, want.Sub = 7, "a,b"
	check(want)
	apply("Removed")
	check(key)
}

func TestFoldRefusesAStruct(t *testing.T) {
	type none struct{ A int }
	type bad struct {
		A int `db:"a,key"`
		B any `db:"b"`
		C int `db:"c,unique"`
		D int `db:"d,key,null"`
		e int `db:"e"`
	}
	type keyless struct {
		A int `db:"a"`
	}
	_ = bad{}.e
	for _, tt := range []struct {
		make func() error
		want []string
	}{
		{func() error { return foldOf[none]() }, []string{`db:"customer_id,key"`}},
		{func() error { return foldOf[keyless]() }, []string{"is a key"}},
		{func() error { return foldOf[int]() }, []string{"no struct"}},
		{func() error { return foldOf[bad]() }, []string{"field B", "interface {}", "field C", `"unique"`, "field D", "never NULL", "field e", "not exported"}},
	} {
		err := tt.make()
		if err == nil {
			t.Errorf("no error, want %q", tt.want)
			continue
		}
		for _, want := range tt.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%v: does not say %q", err, want)
			}
		}
	}
}

func foldOf[S any]() error {
	_, err := projections.Fold[S]{Name: "x", Source: "shop", Topics: []string{orders},
		Apply: func(*S, *projections.Event) (projections.Decision, error) { return projections.Keep, nil }}.Program()
	return err
}

func TestDecode(t *testing.T) {
	type open struct {
		State map[string]any
		Rest  projections.Rest
	}
	type closed struct {
		State struct{ Amount money.Amount }
	}
	e := &projections.Event{Event: event.Event{Type: "T", Data: json.RawMessage(
		`{"occurredAt":"2026-01-01","state":{"amount":{"amount":9007199254740993,"scale":2,"currency":"GBP"}},"changed":[],"ratio":0.1000}`)}}
	o, err := projections.Decode[open](e)
	if err != nil {
		t.Fatal(err)
	}
	if got := o.State["amount"].(map[string]any)["amount"].(json.Number); got != "9007199254740993" {
		t.Errorf("digits are lost: %s", got)
	}
	if len(o.Rest) != 3 || string(o.Rest["ratio"]) != "0.1000" || string(o.Rest["occurredAt"]) != `"2026-01-01"` {
		t.Errorf("the rest is %v", o.Rest)
	}
	c, err := projections.Decode[closed](e)
	if err != nil || c.State.Amount.Amount != 9007199254740993 || c.State.Amount.Currency != "GBP" {
		t.Errorf("got %+v, %v", c, err)
	}
	if _, err := projections.Decode[[]int](e); err == nil || !strings.Contains(err.Error(), "data of T") {
		t.Errorf("got %v", err)
	}
	for _, data := range []string{`{"state":{}} {}`, `{"state"`} {
		e.Data = json.RawMessage(data)
		if _, err := projections.Decode[open](e); err == nil {
			t.Errorf("%s is read", data)
		}
	}
	e.Data = nil
	if _, err := projections.Decode[closed](e); err != nil {
		t.Errorf("a tombstone: %v", err)
	}
}

// All that is wrong with a Spec is told at once.
func TestSpecFaults(t *testing.T) {
	lift := func(d json.RawMessage) (json.RawMessage, error) { return d, nil }
	p := projections.Handle(projections.Spec{Name: "Bad Name", Topics: []string{"a", "a", "b.latest"}, Aligned: true, Timers: true, NotFromLatest: "counts events",
		Tables: []state.Table{{Name: "banyan_mine"}},
		Upcasters: []projections.Upcaster{
			{Type: "T", From: 1, To: 2, Lift: lift}, {Type: "T", From: 1, To: 3, Lift: lift}, {Type: "T", From: 4, To: 5, Lift: lift},
			{Type: "U", From: 2, To: 1, Lift: lift}, {Type: "V", From: 1, To: 2},
		}}, nil)
	_, err := projections.NewPreparer(p)
	for _, want := range []string{`"Bad Name"`, "no source", "a stands there twice", "b.latest: an aligned", "b.latest holds only", "banyan_mine",
		"T from 1 to 3: there are two", "none from version 2", "U from 2 to 1", "V from 1 to 2", "no method Fire"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: does not say %q", err, want)
		}
	}
	ok := projections.Handle(projections.Spec{Name: "good", Source: "s", Topics: []string{"t"}, Upcasters: []projections.Upcaster{
		{Type: "T", From: 1, To: 3, Lift: lift}, {Type: "T", From: 2, To: 3, Lift: lift}, {Type: "T", From: 3, To: 4, Lift: lift},
		{Type: "U", From: 1, To: 2, Lift: func(json.RawMessage) (json.RawMessage, error) { return nil, errors.New("no") }},
	}}, nil)
	prep, err := projections.NewPreparer(ok)
	if err != nil {
		t.Fatal(err)
	}
	for version, want := range map[int]string{1: "", 2: "", 4: "", 5: "up to 4"} {
		full := event.Event{ID: event.ID{Source: "s", Aggregate: "A", Key: "1", Position: event.Position{Generation: 1, LSN: 1}}, Type: "T", Version: version, Topic: "t",
			Position: event.Position{Generation: 1, LSN: 1}, Seq: 1, Data: json.RawMessage(`{}`)}
		rec := full.Record()
		var e projections.Event
		if err := prep.Prepare(&e, "t", &rec); err != nil {
			t.Fatal(err)
		}
		if want == "" && (e.Fault != nil || e.Version != 4) || want != "" && (e.Fault == nil || !strings.Contains(e.Fault.Error(), want)) {
			t.Errorf("version %d became %d, %v", version, e.Version, e.Fault)
		}
	}
}
