package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"banyan/cmd/internal/clitest"
)

// trait is a property of a database that doctor knows, or that others lose data
// by, and what becomes of it on the whole path.
type trait struct {
	name string
	// sql makes the tables and the rows that the snapshot finds. before runs
	// between setup and the first run, after between the two runs; an element is
	// a transaction unless it says so itself, and COPY brings its rows along.
	sql           string
	before, after []string
	finding       string // that doctor has to make before anything is set up
	// edit changes the draft, as somebody would who knows better.
	edit func(*house)
	// The command that refuses, and texts of what it says then. repair is what
	// somebody does who has read it; "fix" runs what doctor prints.
	refuses string
	says    []string
	repair  string
	events  map[string]int // types that must be there at the end, as often
}

// houses counts: slots and roles belong to the server, so each house has names
// of its own.
var houses atomic.Int64

func sourceName() string { return fmt.Sprintf("s%d", houses.Add(1)) }

// finding is a part of a finding of `cdc doctor -o json`.
type finding struct {
	ID, Severity, Object, Message, Why string
	Fix                                []string
}

func (h *house) findings(code int) (list []finding) {
	h.t.Helper()
	a := h.must(code, "doctor", "-o", "json")
	var r struct {
		Verdict  string
		Findings []finding
	}
	if err := json.Unmarshal([]byte(a.Out), &r); err != nil {
		h.t.Fatalf("%v in %s", err, a)
	}
	return r.Findings
}

// finds wants a finding and returns it.
func (h *house) finds(code int, id string) finding {
	h.t.Helper()
	list := h.findings(code)
	for _, f := range list {
		if f.ID == id {
			return f
		}
	}
	h.t.Fatalf("doctor does not find %s, only %+v", id, list)
	return finding{}
}

var copyHead = regexp.MustCompile(`(?is)^COPY .* FROM STDIN[^\n]*\n`)

// work runs a workload on one connection.
func (h *house) work(list []string) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := pgx.Connect(ctx, h.source.URL)
	if err != nil {
		h.t.Fatal(err)
	}
	defer c.Close(ctx)
	for _, sql := range list {
		if head := copyHead.FindString(sql); head != "" {
			_, err = c.PgConn().CopyFrom(ctx, strings.NewReader(sql[len(head):]), head)
		} else {
			_, err = c.PgConn().Exec(ctx, sql).ReadAll()
		}
		if err != nil {
			h.t.Fatalf("the monolith itself is refused: %s: %v", sql, err)
		}
	}
}

// asRole makes everything from here on run as the role that setup has made.
func (h *house) asRole(name string) { h.url = h.source.UserURL("banyan_"+name, "") }

// walk goes the whole way: doctor, init, setup, run, changes, run, verify.
func (h *house) walk(tr *trait) {
	t, name := h.t, sourceName()
	owner := h.url
	t.Cleanup(func() { h.dropRole(name) })
	var found finding
	if tr.finding != "" {
		found = h.finds(0, tr.finding)
	}
	steps := []func() clitest.Answer{
		func() clitest.Answer { return h.cdc("init", "--name", name, "--currency", "EUR", "--force") },
		func() clitest.Answer {
			if tr.edit != nil {
				tr.edit(h)
			}
			return h.cdc("setup", "--apply")
		},
		func() clitest.Answer {
			h.asRole(name)
			return h.cdc("run", "--until-caught-up")
		},
	}
	refused := false
	for i := 0; i < len(steps); i++ {
		if i == 2 {
			h.work(tr.before)
		}
		a := steps[i]()
		if refused || a.Args[0] != tr.refuses {
			if a.Code != 0 {
				t.Fatalf("want exit 0 from %s", a)
			}
			continue
		}
		refused = true
		if a.Code != 1 {
			t.Fatalf("want exit 1 from %s", a)
		}
		for _, text := range tr.says {
			if !strings.Contains(a.Out+a.Err, text) {
				t.Errorf("want %q from %s", text, a)
			}
		}
		switch tr.repair {
		case "":
			return
		case "fix":
			if i == 2 {
				h.must(1, "doctor")
				for _, f := range h.findings(1) {
					if f.Severity == "error" {
						h.work(f.Fix)
					}
				}
			} else {
				h.work(found.Fix)
			}
		default:
			h.work([]string{tr.repair})
		}
		h.url = owner
		i = -1
	}
	if tr.refuses != "" && !refused {
		t.Fatalf("%s does not refuse", tr.refuses)
	}
	h.work(tr.after)
	h.must(0, "run", "--until-caught-up")
	h.must(0, "verify", "--wait", "2m")
	h.must(0, "status")
	got := h.types()
	if len(got) == 0 {
		t.Error("proved, but of nothing: there is no event")
	}
	for typ, n := range tr.events {
		if got[typ] != n {
			t.Errorf("%d events %s, want %d; all: %v", got[typ], typ, n, got)
		}
	}
}

// types counts the events in all topics by type.
func (h *house) types() map[string]int {
	h.t.Helper()
	got := map[string]int{}
	for _, e := range h.tail(h.topics()...) {
		got[e.Type]++
	}
	return got
}

// dropRole removes the role, which belongs to the whole server.
func (h *house) dropRole(name string) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := pgx.Connect(ctx, h.source.URL)
	if err != nil {
		return // the server is gone, and the role with it
	}
	defer c.Close(ctx)
	_, _ = c.Exec(ctx, `DROP OWNED BY banyan_`+name) // where it was made at all
	_, _ = c.Exec(ctx, `DROP ROLE IF EXISTS banyan_`+name)
}

func TestTraits(t *testing.T) {
	for _, tr := range traits {
		t.Run(tr.name, func(t *testing.T) {
			t.Parallel()
			newHouse(t, tr.sql).walk(&tr)
		})
	}
}

// The role that setup makes reads what is captured, and nothing else.
func TestRoleReadsWhatIsCapturedAndNoMore(t *testing.T) {
	t.Parallel()
	h, name := newHouse(t, shopSQL), sourceName()
	t.Cleanup(func() { h.dropRole(name) })
	h.source.Exec(t, `CREATE TABLE salaries (who text, amount int)`) // keyless: left out
	h.must(0, "init", "--name", name)
	h.must(0, "setup", "--apply")
	h.asRole(name)
	ctx := context.Background()
	c, err := pgx.Connect(ctx, h.url)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(ctx)
	for sql, want := range map[string]string{
		`SELECT id, name, email FROM customers`:                        "",
		`SELECT * FROM orders`:                                         "",
		`SELECT password_hash FROM customers`:                          "permission denied for table customers",
		`SELECT * FROM customers`:                                      "permission denied for table customers",
		`SELECT count(*) FROM customers WHERE password_hash LIKE 'a%'`: "permission denied for table customers",
		`SELECT * FROM salaries`:                                       "permission denied for table salaries",
		`UPDATE orders SET status = 'paid'`:                            "permission denied for table orders",
		`DELETE FROM orders`:                                           "permission denied for table orders",
		`CREATE TABLE public.mine (id int)`:                            "permission denied for schema public",
		`CREATE SCHEMA mine`:                                           "permission denied for database",
		`ALTER PUBLICATION banyan_` + name + ` ADD TABLE salaries`:     "must be owner of publication",
	} {
		_, err := c.Exec(ctx, sql)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", sql, err, want)
		}
	}
	h.must(0, "run", "--until-caught-up")
	h.work([]string{`UPDATE customers SET password_hash = 'secret-hash-new', name = 'x' WHERE id = 1`,
		`INSERT INTO customers (name, password_hash) VALUES ('new', 'secret-hash-born')`, `DELETE FROM customers WHERE name = 'new'`})
	h.must(0, "run", "--until-caught-up")
	h.must(0, "verify", "--wait", "2m")
	for _, a := range []clitest.Answer{h.must(0, append([]string{"tail", "--from", "start"}, h.topics()...)...), h.must(0, "why-not", "--table", "customers", "--key", "1")} {
		if strings.Contains(a.Out+a.Err, "secret-hash") {
			t.Errorf("a secret got out: %s", a)
		}
	}
	if dump := h.dump(h.store.URL); strings.Contains(dump, "secret-hash") {
		t.Error("a secret lies in the store")
	}
}

// dump is all that a database holds, as text.
func (h *house) dump(url string, args ...string) string {
	h.t.Helper()
	out, err := exec.Command(filepath.Join(h.source.Server().Bin.Dir, "pg_dump"), append(args, url)...).CombinedOutput()
	if err != nil {
		h.t.Fatalf("pg_dump: %v\n%s", err, out)
	}
	return string(out)
}

// publish makes a publication of the configured name, before cdc does.
func (h *house) publish(what string) {
	h.t.Helper()
	b, err := os.ReadFile(filepath.Join(h.dir, "banyan.yaml"))
	if err != nil {
		h.t.Fatal(err)
	}
	name := regexp.MustCompile(`publication: (\S+)`).FindStringSubmatch(string(b))
	h.source.Exec(h.t, "CREATE PUBLICATION "+name[1]+" "+what)
}
