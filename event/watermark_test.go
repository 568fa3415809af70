package event

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestWatermarkJSON(t *testing.T) {
	w := Watermark{Source: "shop", Generation: 2, LSN: 0x1_00000010, Time: time.Date(2026, 11, 20, 9, 0, 0, 5000, time.UTC), Writer: 3,
		Seqs: map[string][]int64{"shop.orders": {17, 0, 4}, "shop.stock": {0, 1, 0}}}
	w.SetParked([]ParkedAt{{Ref{"Order", "9"}, 0x20}, {Ref{"Order", "1%2F2"}, 0x10}})
	got, err := json.Marshal(w)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"source":"shop","generation":2,"lsn":"1/10","time":"2026-11-20T09:00:00.000005Z","writer":3,` +
		`"seq":{"shop.orders":[17,0,4],"shop.stock":[0,1,0]},` +
		`"parked":[{"aggregate":"Order","key":"1%2F2","lsn":"0/10"},{"aggregate":"Order","key":"9","lsn":"0/20"}]}`
	if string(got) != want {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
	var back Watermark
	if err := json.Unmarshal(got, &back); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(w, back); d != "" {
		t.Fatal(d)
	}
	if !back.IsParked(Ref{"Order", "9"}) || back.IsParked(Ref{"Stock", "9"}) {
		t.Error("IsParked does not know its keys")
	}
	for _, bad := range []string{`{}`, `{"source":"s","generation":1,"lsn":"12"}`, `{"source":"s","generation":1,"lsn":"0/1","parkedFilter":{"hashes":0,"bits":""}}`} {
		if err := json.Unmarshal([]byte(bad), &back); err == nil {
			t.Errorf("%s is read without an error", bad)
		}
	}
	later := w
	later.Generation, later.LSN = 3, 1
	if !later.After(&w) || w.After(&later) || w.After(&w) {
		t.Error("After does not order generations first")
	}
}

func TestWatermarkFilter(t *testing.T) {
	var keys []ParkedAt
	for i := range MaxParkedListed + 1 {
		keys = append(keys, ParkedAt{Ref: Ref{"Order", fmt.Sprint(i)}})
	}
	w := Watermark{Source: "shop", Generation: 1}
	w.SetParked(keys)
	b, err := json.Marshal(w)
	if err != nil {
		t.Fatal(err)
	}
	var back Watermark
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if back.Parked != nil || len(b) > 4000 {
		t.Errorf("%d keys are listed, in %d bytes", len(back.Parked), len(b))
	}
	wrong := 0
	for i := range 10000 {
		in := i <= MaxParkedListed
		has := back.IsParked(Ref{"Order", fmt.Sprint(i)})
		if in && !has {
			t.Fatalf("key %d is parked and not found", i)
		}
		if !in && has {
			wrong++
		}
	}
	if wrong == 0 || wrong > 200 {
		t.Errorf("%d of 9000 other keys are taken for parked, want about 90", wrong)
	}
}
