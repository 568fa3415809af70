package declared

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"encoding/json"
)

func TestDraft(t *testing.T) {
	known := samples(t, []string{"shop.customers", "shop.rooms"},
		`shop.customers CustomerRegistered Customer/1 {"occurredAt":"2010-11-30T09:00:00Z","state":{"id":1,"name":"Ada","balance":{"amount":2550,"scale":3,"currency":"GBP"},"rate":1.5,"registered_at":"2010-11-30T09:00:00Z","born":"1815-12-10","token":"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11","limit":"12.50","deleted_at":null,"newsletter":true,"customerNo":"17850","attributes":{"vip":true},"odd name":1,"tags":["a"],"addresses":[{"id":1,"kind":"billing","valid_from":"2010-11-30T09:00:00Z","lines":[{"x":1}]},{"id":2,"kind":"billing","valid_from":null,"lines":[]}],"notes":[{"text":"a"},{"text":"a"}]}}`,
		`shop.customers CustomerMoved Customer/2 {"state":{"id":2,"name":"Bob","balance":{"amount":1,"scale":2,"currency":"EUR"},"rate":2,"registered_at":"2010-11-30T09:00:00Z","born":null,"token":null,"limit":"3.00","deleted_at":null,"newsletter":false,"customerNo":null,"attributes":{},"odd name":2,"tags":[],"addresses":[],"notes":[]}}`,
		`shop.customers CustomerRemoved Customer/2 {"state":null,"last":{"id":2}}`,
		`shop.rooms RoomBuilt Room/a%2Fb,1 {"state":{"house":"a/b","beds":2,"lamps":[{"lamp_no":1,"on":true}]}}`,
		`shop.rooms RoomBuilt Room/a%2Fb,2 {"state":{"house":"a/b","beds":2,"lamps":[{"lamp_no":1,"on":true}]}}`)
	got, err := Draft("mine", known)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/draft.yaml", string(got))
	if _, err := Draft("mine", samples(t, []string{"shop.empty"})); err == nil || !strings.Contains(err.Error(), "shop.empty: it has no event with a state yet") {
		t.Errorf("a draft of nothing: %v", err)
	}
}

// TestADraftOfAnythingCompiles drafts from states of all shapes, and runs what it
// drafted on them.
func TestADraftOfAnythingCompiles(t *testing.T) {
	scalar := rapid.OneOf(rapid.Just[any](nil), rapid.Map(rapid.Int64(), func(n int64) any { return n }), rapid.Map(rapid.Bool(), func(b bool) any { return b }),
		rapid.Map(rapid.SampledFrom([]string{"", "x", "2010-12-01", "2010-13-01", "2010-12-01T08:26:00Z", "1.50", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "ü: # '"}), func(s string) any { return s }),
		rapid.Just[any](json.Number("1.25")), rapid.Just[any](map[string]any{"amount": 1, "scale": 2, "currency": "EUR"}), rapid.Just[any]([]any{1, "a"}))
	name := rapid.SampledFrom([]string{"id", "Name", "customerId", "customer_id", "x y", "9", "xmin", "table", "key", "state", "ü", "banyan_x", "of_thing", strings.Repeat("long", 20)})
	object := rapid.MapOfN(name, scalar, 1, 6)
	state := rapid.Custom(func(t *rapid.T) map[string]any {
		m := object.Draw(t, "fields")
		if rapid.Bool().Draw(t, "has a list") {
			m["items"] = rapid.Map(rapid.SliceOfN(object, 0, 3), func(l []map[string]any) any { return l }).Draw(t, "items")
		}
		return m
	})
	rapid.Check(t, func(rt *rapid.T) {
		h := newHistory()
		for i := range rapid.IntRange(1, 4).Draw(rt, "events") {
			data, err := json.Marshal(map[string]any{"state": state.Draw(rt, "state")})
			if err != nil {
				rt.Fatal(err)
			}
			h.add("shop.things", "ThingMade", "Thing", []string{"1", "2", "a%20b", "4"}[i], string(data))
		}
		k := &Known{Topics: map[string]Topic{}}
		var s Topic
		for _, one := range h.all {
			s.Sample = append(s.Sample, one.Event)
		}
		k.Topics["shop.things"] = s
		text, err := Draft("mine", k)
		if err != nil {
			rt.Fatalf("%v", err)
		}
		out := h.run(t, must(t, "mine.yaml", string(text)))
		if len(out.parked) > 0 {
			rt.Fatalf("%q parked under\n%s", out.parked, text)
		}
	})
}
