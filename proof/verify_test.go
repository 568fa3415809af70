package proof

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"banyan/event"
)

var update = flag.Bool("update", false, "write the golden files anew")

// usual is a world in which everything is well.
func usual(t *testing.T) *world {
	w := newWorld(t)
	w.say("Order/1", `{"id":1,"status":"new"}`, at(100))
	w.say("Order/2", `{"id":2,"status":"new"}`, at(110))
	w.say("Order/1", `{"id":1,"status":"paid"}`, at(120))
	w.say("Stock/a", `{"left":5}`, event.Position{Generation: 1, LSN: 90, Snapshot: 1})
	w.say("Stock/bb", `{"left":7}`, at(130))
	w.say("Order/333", `{"id":333,"status":"new"}`, at(140))
	w.say("Order/333", "", at(150))
	w.row("Order/1", `{"status":"paid","id":1}`)
	w.row("Order/2", `{"id":2,"status":"new"}`)
	w.row("Stock/a", `{"left":5}`)
	w.row("Stock/bb", `{"left":7}`)
	w.counts = map[string]event.Counts{"public.orders": {Changes: 4, Used: 3, Ignored: 1}}
	return w
}

func TestProved(t *testing.T) {
	r := usual(t).verify()
	if r.Verdict != Proved || len(r.Reasons) != 0 {
		t.Fatalf("verdict %s, %q", r.Verdict, r.Reasons)
	}
	got := fmt.Sprint(r.LSN, " ", r.Aggregates[0].Keys, r.Aggregates[0].Proved, r.Aggregates[0].Rows, " ", r.Aggregates[1].Proved,
		" ", r.Topics[0].Events, r.Topics[1].Events)
	if want := "0/3E8 2 2 2 2 5 2"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	again := usual(t).verify()
	if r.Aggregates[0].Digest != again.Aggregates[0].Digest || r.Aggregates[0].Digest == r.Aggregates[1].Digest {
		t.Errorf("digests %s, %s; another aggregate's %s", r.Aggregates[0].Digest, again.Aggregates[0].Digest, r.Aggregates[1].Digest)
	}
}

// TestVerdicts breaks one thing at a time and looks at what the proof says.
func TestVerdicts(t *testing.T) {
	for _, tt := range []struct {
		name    string
		change  func(w *world)
		verdict Verdict
		says    string // part of the reasons
		detail  string // part of faults and examples, as JSON
	}{
		{"gap", func(w *world) { w.drop("shop.orders", partitionOf("1"), 0) }, Differs,
			"shop.orders: 1 seq is missing", `"kind":"gap"`},
		{"gap at the end", func(w *world) { w.seqs["shop.stock"][partitionOf("a")]++ }, Differs,
			"shop.stock: 1 seq is missing", "though a watermark says otherwise"},
		{"topic gone", func(w *world) { delete(w.log, "shop.stock") }, Differs, "Stock: 2 missing in shop.stock", ""},
		{"repeat", func(w *world) {
			p := partitionOf("1")
			w.put("shop.orders", p, w.log["shop.orders"][p][0])
			w.put("shop.orders", p, w.log["shop.orders"][p][1])
		}, Proved, "", ""},
		{"other bytes under a seq", func(w *world) {
			w.say("Order/1", `{"id":1,"status":"forged"}`, at(160), func(e *event.Event) { e.Seq = 1 })
			w.seqs["shop.orders"][partitionOf("1")]--
		}, Differs, "seq is taken by two different records", `"kind":"other-bytes"`},
		{"foreign", func(w *world) {
			w.put("shop.orders", 0, event.Record{Key: []byte("x"), Value: []byte("hello")})
		}, Differs, "1 record is not Banyan's", "no header"},
		{"of another source", func(w *world) {
			w.say("Order/1", `{"id":1,"status":"paid"}`, at(160), func(e *event.Event) { e.ID.Source = "warehouse" })
		}, Differs, "1 record is not Banyan's", "warehouse"},
		{"damaged value", func(w *world) {
			w.say("Order/1", `{"id":1,`, at(160))
		}, Differs, "1 record is not Banyan's", "cannot be read"},
		{"seq out of reach", func(w *world) {
			w.say("Order/1", `{"id":1,"status":"paid"}`, at(160), func(e *event.Event) { e.Seq = 1 << 50 })
			w.seqs["shop.orders"][partitionOf("1")]--
		}, Differs, "1 record is not Banyan's", "out of all proportion"},
		{"id told twice", func(w *world) {
			w.say("Order/1", `{"id":1,"status":"paid"}`, at(120))
		}, Differs, "1 event id is told twice", `"kind":"duplicate-id"`},
		{"out of order", func(w *world) {
			w.say("Order/1", `{"id":1,"status":"paid"}`, at(119))
		}, Differs, "1 event is out of the order of its key", `"kind":"disorder"`},
		{"two partitions", func(w *world) {
			other := 1 - partitionOf("1")
			w.seqs["shop.orders"][partitionOf("1")]--
			w.seqs["shop.orders"][other]++
			w.say("Order/1", `{"id":1,"status":"paid"}`, at(160), func(e *event.Event) {
				e.Partition, e.Seq = other, w.seqs["shop.orders"][other]
			})
		}, Differs, "out of the order", "an event of the same key lies in partition"},

		{"missing", func(w *world) { w.row("Order/77", `{"id":77}`) }, Differs, "Order: 1 missing in shop.orders, of 3 keys", `"key":"77"`},
		{"missing, last removed", func(w *world) { w.row("Order/333", `{"id":333,"status":"new"}`) }, Differs, "1 missing", "its last event removes it"},
		{"extra", func(w *world) { w.row("Order/2", "") }, Differs, "Order: 1 without a row", `"kind":"extra","key":"2","event":"shop/Order/2@1:0/6E.0"`},
		{"different", func(w *world) { w.row("Order/2", `{"id":2,"status":"lost"}`) }, Differs, "Order: 1 with another state, of 2 keys",
			`"key":"2","event":"shop/Order/2@1:0/6E.0","rules":1,"fields":["status"]`},
		{"different in a member the event lacks", func(w *world) { w.row("Order/2", `{"id":2,"status":"new","x":1}`) }, Differs, "another state",
			`"fields":["(1 member that the event lacks)"]`},
		{"rows that the rules cannot tell", func(w *world) {
			w.rules[1] = func(s string) (string, error) {
				if strings.Contains(s, `"id":2`) {
					return "", errors.New("12.345 does not fit")
				}
				return s, nil
			}
		}, Differs, "another state", "cannot tell these rows"},
		{"removed, then born anew", func(w *world) {
			w.say("Order/333", `{"id":333,"status":"again"}`, at(160))
			w.row("Order/333", `{"id":333,"status":"again"}`)
		}, Proved, "", ""},
		{"rekeyed", func(w *world) {
			w.say("Order/2", "", at(160))
			w.say("Order/22", `{"id":22,"status":"new"}`, at(160))
			w.row("Order/2", "")
			w.row("Order/22", `{"id":22,"status":"new"}`)
		}, Proved, "", ""},
		{"after the point", func(w *world) {
			w.late(func() { w.say("Order/2", `{"id":2,"status":"later"}`, at(1000)) })
		}, Proved, "", ""},
		{"ahead of the source", func(w *world) { w.say("Order/2", `{"id":2,"status":"new"}`, at(1000)) }, Differs,
			"1 event is from beyond the source's end", `"kind":"ahead"`},
		{"of a generation before", func(w *world) {
			w.cfg.Generation, w.mark.Generation = 2, 2
			w.say("Order/2", `{"id":2,"status":"new"}`, event.Position{Generation: 1, LSN: 7777})
		}, Proved, "", ""},
		{"just before the point", func(w *world) { w.say("Order/2", `{"id":2,"status":"later"}`, at(999)) }, Differs, "another state", `"fields":["status"]`},
		{"removed after the point", func(w *world) { w.late(func() { w.say("Order/2", "", at(1500)) }) }, Proved, "", ""},
		{"account", func(w *world) { w.counts["public.lines"] = event.Counts{Changes: 9, Used: 3, Ignored: 5} }, Differs,
			"the account of public.lines does not add up: 9 changes", ""},

		{"parked", func(w *world) {
			w.row("Order/2", `{"id":2,"status":"odd"}`)
			w.parked = []event.ParkedAt{{Ref: ref("Order/2"), LSN: 500}}
		}, Parked, "Order: 1 key parked", `"kind":"parked","key":"2"`},
		{"parked by the watermark's word", func(w *world) {
			w.row("Order/2", `{"id":2,"status":"odd"}`)
			w.mark.Parked = []event.ParkedAt{{Ref: ref("Order/2"), LSN: 500}}
		}, Parked, "Order: 1 key parked", ""},
		{"parked by the watermark's filter", func(w *world) {
			w.row("Order/2", `{"id":2,"status":"odd"}`)
			w.cfg.Parked = nil
			w.mark.Filter = event.NewFilter(1)
			w.mark.Filter.Add(ref("Order/2"))
		}, Parked, "Order: 1 key parked", ""},
		{"parked and never told", func(w *world) {
			w.row("Order/9", `{"id":9}`)
			w.parked = []event.ParkedAt{{Ref: ref("Order/9"), LSN: 500}, {Ref: ref("Order/10"), LSN: 500}}
		}, Parked, "Order: 2 keys parked", `"key":"10"`},
		{"parked after the point", func(w *world) { w.parked = []event.ParkedAt{{Ref: ref("Order/2"), LSN: 1000}} }, Proved, "", ""},
		{"released after the point", func(w *world) {
			w.row("Order/2", `{"id":2,"status":"odd"}`)
			w.late(func() {
				w.say("Order/2", `{"id":2,"status":"odd"}`, at(500), func(e *event.Event) { e.Position = at(1200) })
			})
		}, Parked, "Order: 1 key parked", `"key":"2"`},
		{"released before the point", func(w *world) {
			w.row("Order/2", `{"id":2,"status":"odd"}`)
			w.say("Order/1", `{"id":1,"status":"paid"}`, at(600))
			w.say("Order/2", `{"id":2,"status":"odd"}`, at(500), func(e *event.Event) { e.Position = at(700) })
		}, Proved, "", ""},
		{"differs before parked", func(w *world) {
			w.parked = []event.ParkedAt{{Ref: ref("Order/2"), LSN: 500}}
			w.row("Order/77", `{"id":77}`)
		}, Differs, "Order: 1 key parked", ""},

		{"snapshot running", func(w *world) { w.running = true }, Unfinished, "a snapshot is running", ""},
		{"snapshot began meanwhile", func(w *world) { w.onRead = func() { w.running = true } }, Unfinished, "a snapshot is running", ""},
		{"no watermark", func(w *world) { w.mark = nil }, Unfinished, "no watermark in 1ms", ""},
		{"cdc run stands still", func(w *world) { w.mark.LSN = 999 }, Unfinished, "cdc run is not working: its last watermark says 0/3E7", ""},
		{"nobody runs and nothing has happened since", func(w *world) {
			w.mark.LSN = 999
			w.cfg.Settled = func(_ context.Context, m *Mark, lsn uint64) (bool, error) { return m.LSN == 999 && lsn == 1000, nil }
		}, Proved, "", ""},
		{"nobody runs and something has happened since", func(w *world) {
			w.mark.LSN = 999
			w.cfg.Settled = func(context.Context, *Mark, uint64) (bool, error) { return false, nil }
		}, Unfinished, "cdc run is not working", ""},
		{"cdc run is behind", func(w *world) {
			w.mark.LSN = 900
			w.onMark = func() { m := *w.mark; m.LSN++; m.Offset++; w.mark = &m }
		}, Unfinished, "cdc run is behind", ""},
		{"generation before", func(w *world) { w.cfg.Generation = 2 }, Unfinished, "still at generation 1", ""},
		{"generation after", func(w *world) { w.mark.Generation = 2 }, Unfinished, "its log has begun anew", ""},
		{"blocked", func(w *world) { w.cfg.Database = blocked{} }, Unfinished, "a transaction is open since yesterday", ""},
		{"recorded anew meanwhile", func(w *world) {
			w.row("Order/2", `{"id":2,"status":"of now"}`)
			w.late(func() {
				w.say("Order/2", `{"id":2,"status":"of later"}`, event.Position{Generation: 1, LSN: 800, Snapshot: 2})
			})
		}, Unfinished, "Order: 1 key could not be compared", "recorded anew"},

		{"an older version of the rules", func(w *world) { w.versions(false) }, Proved, "", ""},
		{"an older version that reads other columns", func(w *world) { w.versions(true) }, Proved, "", ""},
		{"an older version, different", func(w *world) {
			w.versions(true)
			w.row("Order/2", `{"id":2,"status":"lost"}`)
		}, Differs, "Order: 1 with another state", `"rules":1`},
		{"an older version, missing", func(w *world) {
			w.versions(true)
			w.row("Order/7", `{"id":7}`)
		}, Differs, "Order: 1 missing in shop.orders, of 3", ""},
		{"an older version, extra", func(w *world) {
			w.versions(true)
			w.row("Order/1", "")
		}, Differs, "Order: 1 without a row, of 2", ""},
		{"a row that the present rules do not read", func(w *world) {
			w.versions(true)
			w.row("Order/9", `{"id":9}`)
			w.onlyOld = ref("Order/9")
		}, Proved, "", ""},
		{"rules that are lost", func(w *world) {
			w.versions(false)
			delete(w.rules, 1)
		}, Unfinished, "the rules of version 1 cannot be read any more", `"kind":"unproven"`},
		{"rules changed meanwhile", func(w *world) {
			w.row("Order/2", `{"id":2,"status":"of v2"}`)
			w.late(func() {
				w.say("Order/2", `{"id":2,"status":"of v2"}`, at(800), func(e *event.Event) { e.Rules = 2 })
			})
		}, Unfinished, "Order: 1 key could not be compared", "version 2"},
		{"an aggregate of old", func(w *world) {
			topicOf["Fee"] = "shop.orders"
			defer delete(topicOf, "Fee")
			w.say("Fee/1", `{"id":1}`, at(160))
		}, Proved, "", "Fee: 1 key, which no present rule tells"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := usual(t)
			tt.change(w)
			r := w.verify()
			reasons := strings.Join(r.Reasons, "\n")
			if r.Verdict != tt.verdict || !strings.Contains(reasons, tt.says) || (r.Verdict == Proved) != (reasons == "") {
				t.Errorf("verdict %s, want %s: %q, want %q", r.Verdict, tt.verdict, reasons, tt.says)
			}
			b, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Contains(b, []byte(tt.detail)) {
				t.Errorf("report lacks %s: %s", tt.detail, b)
			}
			for _, a := range r.Aggregates {
				if len(r.Points) > 0 && a.Keys != a.Proved+a.Missing+a.Extra+a.Different+a.Parked+a.Unproven {
					t.Errorf("%s does not add up: %+v", a.Aggregate, a)
				}
			}
		})
	}
}

// late does something once the tables are read.
func (w *world) late(f func()) {
	w.onRead = func() { w.onRead = nil; f() }
}

// versions makes 2 the present version of the rules. Order/1 was last told by
// it, everything else by version 1.
func (w *world) versions(otherColumns bool) {
	w.cfg.Current = 2
	w.rules[2] = func(s string) (string, error) { return strings.Replace(s, "{", `{"v":2,`, 1), nil }
	if otherColumns {
		w.columns[2] = 3
	}
	w.say("Order/1", `{"v":2,"id":1,"status":"paid"}`, at(160), func(e *event.Event) { e.Rules = 2 })
}

type blocked struct{}

func (blocked) Snapshot(context.Context) (Snapshot, error) {
	return nil, &BlockedError{"a transaction is open since yesterday"}
}

func TestRepeatsAreCountedAndHarmless(t *testing.T) {
	w := usual(t)
	for topic, parts := range w.log {
		for p := range parts {
			for _, r := range parts[p] {
				w.put(topic, p, r)
			}
		}
	}
	r := w.verify()
	if r.Verdict != Proved || r.Topics[0].Repeats != 5 || r.Topics[0].Events != 5 || r.Topics[1].Repeats != 2 {
		t.Errorf("%s, %+v", r.Verdict, r.Topics)
	}
}

// TestMaxAge lets every range take longer than a snapshot may live, while the
// source goes on.
func TestMaxAge(t *testing.T) {
	w := usual(t)
	w.cfg.MaxAge = time.Minute
	n := 0
	w.onRead = func() {
		w.now = w.now.Add(2 * time.Minute)
		// Ranges are read in the order of the keys' lengths, each at a point
		// 1000 further: Order/1 and 2 at 1000, ... This changes a key of the
		// range just read, and one of the next.
		n++
		if n == 1 {
			w.say("Order/2", `{"id":2,"status":"after its range"}`, at(1100))
			w.row("Order/2", `{"id":2,"status":"after its range"}`)
			w.say("Order/44", `{"id":44}`, at(1110))
			w.row("Order/44", `{"id":44}`)
			w.say("Order/1", "", at(1120))
			w.row("Order/1", "")
		}
		if n == 2 {
			w.say("Order/5", `{"id":5,"born":"after its range"}`, at(2100))
			w.row("Order/5", `{"id":5,"born":"after its range"}`)
		}
	}
	w.mark.LSN = 50000
	r := w.verify()
	if r.Verdict != Proved || len(r.Points) != 6 || w.taken != 6 {
		t.Fatalf("%s %q, %d points, %d snapshots", r.Verdict, r.Reasons, len(r.Points), w.taken)
	}
	if a := r.Aggregates[0]; a.Proved != 3 || a.Keys != 3 {
		t.Errorf("%+v", a)
	}
	if r.LSN != "0/1770" || r.Points[0].LSN != "0/3E8" || r.Points[0].HeldSeconds != 120 {
		t.Errorf("%s, %+v", r.LSN, r.Points)
	}
	if !strings.Contains(strings.Join(r.NotProved, "\n"), "at 6 LSNs") {
		t.Errorf("%q does not say that there were several points", r.NotProved)
	}
}

func TestValuesOnlyWhenAsked(t *testing.T) {
	for _, values := range []bool{false, true} {
		w := usual(t)
		w.cfg.Values = values
		w.row("Order/2", `{"id":2,"status":"secret","more":1}`)
		r := w.verify()
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if got := bytes.Contains(b, []byte("secret")); got != values {
			t.Errorf("values %v: report holds the rows' state: %v", values, got)
		}
		want := []string{"status", "(1 member that the event lacks)"}
		if values {
			want[1] = "more"
		}
		if d := cmp.Diff(want, r.Aggregates[0].Examples[0].Fields); d != "" {
			t.Error(d)
		}
	}
}

// TestManyKeys goes through several parts on disk, and a bound on examples.
func TestManyKeys(t *testing.T) {
	w := newWorld(t)
	w.cfg.Examples = 3
	const n = 120_000
	for i := range n {
		key, state := fmt.Sprintf("Order/%d", i), fmt.Sprintf(`{"id":%d}`, i)
		w.say(key, state, at(uint64(100)))
		if i%1000 != 0 {
			w.row(key, state)
		}
	}
	r := w.verify()
	a := r.Aggregates[0]
	if r.Verdict != Differs || a.Keys != n || a.Extra != n/1000 || a.Proved != n-n/1000 || len(a.Examples) != 3 {
		t.Errorf("%s, %+v", r.Verdict, a)
	}
	left, err := os.ReadDir(w.cfg.SpillDir)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestErrorsOfTheSurroundingsAreErrors(t *testing.T) {
	down := errors.New("broker is down")
	for name, change := range map[string]func(*Config){
		"watermark": func(c *Config) { c.Watermark = func(context.Context) (*Mark, error) { return nil, down } },
		"parked":    func(c *Config) { c.Parked = func(context.Context) ([]event.ParkedAt, error) { return nil, down } },
		"rules":     func(c *Config) { c.Rules = func(context.Context, int) (Rules, error) { return nil, down } },
		"account": func(c *Config) {
			c.Counts = func(context.Context) (map[string]event.Counts, error) { return nil, down }
		},
		"database": func(c *Config) { c.Database = broken{down} },
	} {
		w := usual(t)
		change(&w.cfg)
		if _, err := Verify(context.Background(), w.cfg); !errors.Is(err, down) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

type broken struct{ err error }

func (b broken) Snapshot(context.Context) (Snapshot, error) { return nil, b.err }

// What the present rules cannot look at is told at once, and not behind a watermark
// that need never come.
func TestRulesThatDoNotFitAreToldFirst(t *testing.T) {
	w := newWorld(t)
	w.mark = nil
	w.cfg.Wait = time.Hour
	want := errors.New("the rules do not fit")
	w.cfg.Rules = func(context.Context, int) (Rules, error) { return nil, want }
	if r, err := Verify(t.Context(), w.cfg); !errors.Is(err, want) || !strings.Contains(err.Error(), "present rules, version 1") {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestRender(t *testing.T) {
	good := usual(t)
	bad := usual(t)
	bad.row("Order/77", `{"id":77}`)
	bad.row("Order/2", `{"id":2,"status":"lost"}`)
	bad.parked = []event.ParkedAt{{Ref: ref("Stock/bb"), LSN: 500}}
	bad.drop("shop.orders", partitionOf("1"), 0)
	for i := range 8 {
		bad.row(fmt.Sprintf("Stock/none%d", i), `{}`)
	}
	bad.counts["public.lines"] = event.Counts{Changes: 1234567, Used: 3}
	idle := usual(t)
	idle.mark.LSN = 999
	var out bytes.Buffer
	for _, w := range []*world{good, bad, idle} {
		if err := Render(&out, w.verify(), func(v Verdict, s string) string { return "<" + string(v) + ":" + s + ">" }); err != nil {
			t.Fatal(err)
		}
		out.WriteString("\n----\n\n")
	}
	golden := filepath.Join("testdata", "render.txt")
	if *update {
		if err := os.WriteFile(golden, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), out.String()); d != "" {
		t.Errorf("%s (-update writes it anew)\n%s", golden, d)
	}
}
