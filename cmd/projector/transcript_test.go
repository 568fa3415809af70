package main_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"banyan/cmd/internal/clitest"
	"banyan/projections/projectiontest"
)

var update = flag.Bool("update", false, "write the golden transcripts anew")

// unsteady is what is another one in each run.
var unsteady = []struct {
	what *regexp.Regexp
	as   string
}{
	{regexp.MustCompile(`(?m)^time=\S+ level=INFO .*\n`), ""},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+\d\d:\d\d)`), "<time>"},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "<address>"},
	{regexp.MustCompile(`process \d+`), "process <pid>"},
	{regexp.MustCompile(`"(seconds|tookSeconds|ageSeconds|heldMillis|took|rate|free|freeBytes|spillBytes)": ?-?[\d.e+-]+`), `"$1":<number>`},
	{regexp.MustCompile(`(\d+(\.\d+)?(h|ms|µs|m|s))+( old| ago)`), "<time>$4"},
	{regexp.MustCompile(`\b\d+(\.\d+)?(h\d+m\d+(\.\d+)?s|m\d+(\.\d+)?s|µs|ms|s)\b`), "<duration>"},
	{regexp.MustCompile(`[\d,]+(\.\d+)?/s`), "<rate>/s"},
	{regexp.MustCompile(`(lease|process|pid) \d+`), "$1 <n>"},
	{regexp.MustCompile(`\b\d+(\.\d+)? (B|KiB|MiB|GiB)( are)? free`), "<size>$3 free"},
	{regexp.MustCompile(`owner": "[^"]*"`), `owner": "<host>, process <pid>"`},
	{regexp.MustCompile(`[a-z0-9-]+, process <pid>`), "<host>, process <pid>"},
	{regexp.MustCompile(`/\S*/spill`), "<data-dir>/spill"},
	{regexp.MustCompile(`"file":"/[^"]*/`), `"file":"<dir>/`},
	{regexp.MustCompile(`"digest": ?"[0-9a-f]+"`), `"digest": "<digest>"`},
}

func steady(s string) string {
	for _, u := range unsteady {
		s = u.what.ReplaceAllString(s, u.as)
	}
	return s
}

// golden compares a transcript with the one that is kept.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v: go test -update writes it", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; go test -update writes it anew):\n%s", name, diff)
	}
}

// village is a shop that always does the same.
func (s *shop) village() error {
	tell := func(topic, typ, aggregate, key, format string, args ...any) error {
		_, err := s.src.Commit(projectiontest.Event{Topic: topic, Type: typ, Aggregate: aggregate, Key: key, Data: fmt.Sprintf(format, args...)})
		return err
	}
	for i := 1; i <= 12; i++ {
		if err := tell(customersTopic, "CustomerRegistered", "Customer", fmt.Sprint(i), `{"state":{"id":%d,"name":"customer %d","country":%q,"credit":%d}}`, i, i, countries[i%5], 10*i); err != nil {
			return err
		}
		if err := tell(ordersTopic, "OrderPlaced", "Order", fmt.Sprint(i), `{"state":{"id":%d,"customer_id":%d,"status":"placed","lines":[{"line_no":1,"quantity":%d}],"total":{"amount":%d,"scale":3,"currency":"GBP"}}}`, i, i, i, 1500*i); err != nil {
			return err
		}
	}
	s.mark = s.src.Mark()
	return s.publish()
}

// plague tells of an order whose amount fits no column.
func (s *shop) plague() error {
	if _, err := s.src.Commit(projectiontest.Event{Topic: ordersTopic, Type: "OrderPlaced", Aggregate: "Order", Key: "99",
		Data: `{"state":{"id":99,"customer_id":1,"status":"placed","lines":[],"total":{"amount":999999999999999999,"scale":3,"currency":"GBP"}}}`}); err != nil {
		return err
	}
	s.mark = s.src.Mark()
	return s.publish()
}

// What a user sees of a whole life of a projection, in both formats. The data are
// always the same; what is not, is left out.
func TestTranscripts(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"text", "json"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, shippingYAML)
			if err := h.shop.village(); err != nil {
				t.Fatal(err)
			}
			var b strings.Builder
			say := func(args ...string) {
				t.Helper()
				a := h.projector(append(args, "-o", format)...)
				fmt.Fprintf(&b, "$ projector %s\n%s", strings.Join(args, " "), steady(a.Out))
				if a.Err != "" {
					fmt.Fprintf(&b, "--- stderr\n%s", steady(a.Err))
				}
				if a.Code != 0 {
					fmt.Fprintf(&b, "--- exit %d\n", a.Code)
				}
				b.WriteString("\n")
				if format == "json" {
					oneDocumentALine(t, a)
				}
			}
			say("check")
			say("status", "shipping") // there is none yet
			say("run", "--until-caught-up", "--listen=")
			if err := h.shop.plague(); err != nil {
				t.Fatal(err)
			}
			r := h.start("--assign", "all")
			r.Await("running")
			h.passed("shipping")
			token := h.shop.settle()
			say("wait", "shipping", token)
			say("wait", "shipping", "1:0/FFFF000", "--for", "10ms")
			say("lag", "shipping")
			say("parked", "list", "shipping")
			say("parked", "show", "shipping", "Order/99")
			say("parked", "release", "shipping", "Order/99")
			say("parked", "discard", "shipping", "Order/99")
			say("effects", "list", "shipping")
			say("verify", "shipping")
			say("lint", "shipping")
			say("rebuild", "shipping", "--plan")
			say("rebuild", "shipping")
			say("rebuild", "shipping", "--park", "--wait")
			say("diff", "shipping")
			say("swap", "shipping")
			say("parked", "discard", "shipping", "Order/99")
			say("rollback", "shipping")
			say("swap", "shipping")
			say("retire", "shipping", "2") // readers see it
			say("retire", "shipping", "1")
			say("rollback", "shipping")
			r.Stop()
			say("parked", "release", "shipping", "--all")
			say("status", "shipping")
			golden(t, "life."+format+".txt", b.String())
		})
	}
}

// oneDocumentALine wants JSON on stdout, a document in each line.
func oneDocumentALine(t *testing.T, a clitest.Answer) {
	t.Helper()
	if a.Code == 0 && len(a.Out) == 0 {
		t.Errorf("no JSON at all: %s", a)
	}
	d := json.NewDecoder(bytes.NewReader([]byte(a.Out)))
	for d.More() {
		var v any
		if err := d.Decode(&v); err != nil {
			t.Errorf("%v: %s", err, a)
			return
		}
		if text, err := json.Marshal(v); err != nil || strings.Contains(string(text), ":null") {
			t.Errorf("a list or a value is null, %v: %s", err, text)
		}
	}
}

func TestInitDraftsWhatRuns(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.shop.trade(200)
	token := h.shop.settle()
	name := "drafted_" + strings.ToLower(h.db.Name[len(h.db.Name)-6:])
	t.Cleanup(func() {
		h.db.Exec(t, fmt.Sprintf(`DROP SCHEMA IF EXISTS %[1]s CASCADE; DROP SCHEMA IF EXISTS %[1]s_v1 CASCADE; DROP SCHEMA IF EXISTS banyan CASCADE`, name))
		h.db.Exec(t, fmt.Sprintf(`DROP OWNED BY %[1]s_owner, %[1]s_reader; DROP ROLE %[1]s_owner, %[1]s_reader`, name))
	})
	a := h.must(0, "init", "--topics", "shop.customers,shop.orders", "--name", name)
	if !strings.Contains(a.Out, name+".yaml") || !strings.Contains(a.Out, name+"_owner") || !strings.Contains(a.Out, name+"_reader") {
		t.Errorf("init says %s", a)
	}
	if again := h.must(2, "init", "--topics", "shop.customers", "--name", name); !strings.Contains(again.Err, "exists") {
		t.Errorf("it writes over a file: %s", again)
	}
	h.must(0, "check")
	r := h.start()
	r.Await("running")
	h.must(0, "wait", name, token, "--for", patience.String())
	h.must(0, "verify", name)
	h.shop.mu.Lock()
	defer h.shop.mu.Unlock()
	living := 0
	for _, c := range h.shop.customers {
		if !c.gone {
			living++
		}
	}
	if got := h.one(`SELECT count(*)::text FROM ` + name + `.customers`); got != fmt.Sprint(living) {
		t.Errorf("%s customers, want %d", got, living)
	}
	if got := h.one(`SELECT count(*)::text FROM ` + name + `.orders`); got != fmt.Sprint(len(h.shop.orders)) {
		t.Errorf("%s orders, want %d", got, len(h.shop.orders))
	}
	// Nobody but the owner writes, and the lint proves it.
	h.must(0, "lint", name)
	h.db.Exec(t, fmt.Sprintf(`GRANT INSERT ON %s_v1.customers TO PUBLIC`, name))
	if a := h.must(1, "lint", name); !strings.Contains(a.Out, "customers") || !strings.Contains(a.Out, "REVOKE") {
		t.Errorf("somebody else may write: %s", a)
	}
	h.db.Exec(t, fmt.Sprintf(`REVOKE INSERT ON %s_v1.customers FROM PUBLIC`, name))
	h.must(0, "lint", name)
	r.Stop()
}
