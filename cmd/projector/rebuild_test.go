package main_test

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"banyan/cmd/internal/clitest"
	"banyan/internal/randtest"
)

// reader polls a number that only grows, as any tool would that reads the tables.
// An error or a step back fails the test.
func (h *house) reader(sql string) (stop func()) {
	h.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	conn, err := pgx.Connect(ctx, h.db.URL)
	if err != nil {
		h.t.Fatal(err)
	}
	done := make(chan struct{})
	polls := 0
	go func() {
		defer close(done)
		defer conn.Close(context.Background())
		last := int64(-1)
		for tick := time.NewTicker(2 * time.Millisecond); ; polls++ {
			var n int64
			err := conn.QueryRow(context.WithoutCancel(ctx), sql).Scan(&n)
			if err != nil || n < last {
				h.t.Errorf("a reader sees %d after %d, and %v: %s", n, last, err, sql)
				return
			}
			last = n
			select {
			case <-ctx.Done():
				tick.Stop()
				return
			case <-tick.C:
			}
		}
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		<-done
		h.t.Logf("%d polls of %s", polls, sql)
	})
	h.t.Cleanup(stop)
	return stop
}

// readers poll all tables of both projections.
func (h *house) readers() (stop func()) {
	h.t.Helper()
	var all []func()
	for _, sql := range []string{
		`SELECT coalesce(sum(length(history)), 0) FROM shipping.orders`,
		`SELECT coalesce(sum(events), 0)::bigint FROM shipping.events_by_status`,
		`SELECT count(*) FROM ledger.purchases`,
		`SELECT coalesce(sum(events), 0)::bigint FROM ledger.by_minute`,
	} {
		all = append(all, h.reader(sql))
	}
	return func() {
		for _, stop := range all {
			stop()
		}
	}
}

// versions gives number and state of the versions that are not retired.
func (h *house) versions(projection string) []string {
	h.t.Helper()
	return h.query(`SELECT number || ' ' || state FROM banyan.version WHERE projection = $1 AND state <> 'retired' ORDER BY number`, projection)
}

func TestRebuildAndSwapUnderReaders(t *testing.T) {
	t.Parallel()
	h := newHouse(t, shippingYAML, ledgerYAML)
	r := h.start()
	r.Await("running: shipping")
	r.Await("running: ledger")
	stop := h.readers()
	h.underLoad(func() {
		for _, p := range []string{"shipping", "ledger"} {
			h.must(0, "rebuild", p, "--wait", "--for", "2m")
			h.exchange("diff", p)
			h.exchange("swap", p)
			h.exactWhileOpen(p)
			h.exchange("rollback", p)
			h.exactWhileOpen(p)
			h.exchange("swap", p)
			if got := h.versions(p); len(got) != 2 || !strings.HasSuffix(got[0], " kept") || !strings.HasSuffix(got[1], " active") {
				t.Errorf("versions of %s: %q", p, got)
			}
		}
	})
	h.exact("shipping", "ledger")
	for _, p := range []string{"shipping", "ledger"} {
		h.must(0, "verify", p, "--version", "1") // it was followed all the time
		h.must(0, "retire", p, "1")
		if a := h.must(1, "rollback", p); a.Err == "" {
			t.Errorf("a rollback to what is gone: %s", a)
		}
		if got := h.query(`SELECT nspname FROM pg_namespace WHERE nspname = $1`, p+"_v1"); len(got) != 0 {
			t.Errorf("retired, and still there: %v", got)
		}
	}
	h.shop.trade(20)
	h.exact("shipping", "ledger")
	stop()
	r.Stop()
}

// Where nobody runs the projection and the topics go on, nobody will ever follow the
// new version: that is said soon, and not after --for.
func TestRebuildSaysThatNobodyFollows(t *testing.T) {
	t.Parallel()
	h := newHouse(t, shippingYAML)
	h.shop.trade(100)
	h.must(0, "run", "--until-caught-up")
	h.underLoad(func() {
		a := h.projector("rebuild", "shipping", "--wait", "--for", "1h")
		for i := 0; i < 5 && a.Code == 0; i++ { // a starved shop has told nothing meanwhile
			a = h.projector("rebuild", "shipping", "--wait", "--for", "1h")
		}
		if a.Must(t, 3); !strings.Contains(a.Err, "nobody follows it: start projector run") {
			t.Errorf("it says %s", a)
		}
	})
	if got := h.versions("shipping"); got[0] != "1 active" || !strings.HasSuffix(got[len(got)-1], " following") {
		t.Errorf("the versions are %v", got)
	}
	h.must(0, "run", "--until-caught-up")
	h.must(0, "rebuild", "shipping", "--wait") // all is there: nobody is needed
}

func TestKillTheRebuild(t *testing.T) {
	t.Parallel()
	rng := randtest.New(t)
	h := newHouse(t, shippingYAML, ledgerYAML)
	for range 20 {
		h.shop.trade(150)
	}
	r := h.start()
	r.Await("running: shipping")
	r.Await("running: ledger")
	h.passed("shipping", "ledger")
	stop := h.readers()
	midway := 0
	h.underLoad(func() {
		for i := range 8 {
			p := []string{"shipping", "ledger"}[i%2]
			b := h.begin("rebuild", p, "--memory", "1")
			<-randtest.Within(rng, 1500*time.Millisecond)
			b.Kill()
			for _, v := range h.versions(p) {
				if strings.HasSuffix(v, " building") {
					midway++
				}
			}
		}
	})
	t.Logf("%d of 8 rebuilds were killed midway", midway)
	h.exact("shipping", "ledger")
	for _, p := range []string{"shipping", "ledger"} {
		h.must(0, "rebuild", p, "--wait", "--memory", "1")
		h.exchange("swap", p)
		if got := h.query(`SELECT number || ' ' || state FROM banyan.version WHERE projection = $1 AND state = 'building'`, p); len(got) > 0 {
			t.Errorf("left behind: %v", got)
		}
		schemas := h.query(`SELECT nspname FROM pg_namespace WHERE nspname LIKE $1 ORDER BY nspname`, p+`\_v%`)
		if want := h.query(`SELECT $1 || '_v' || number FROM banyan.version WHERE projection = $1 AND state <> 'retired' ORDER BY 1`, p); fmt.Sprint(want) != fmt.Sprint(schemas) {
			t.Errorf("the schemas are %v, the versions %v", schemas, want)
		}
	}
	h.exact("shipping", "ledger")
	stop()
	r.Stop()
}

func TestKillTheSwap(t *testing.T) {
	t.Parallel()
	rng := randtest.New(t)
	h := newHouse(t, shippingYAML, ledgerYAML)
	r := h.start("--instance", "only")
	r.Await("running: shipping")
	r.Await("running: ledger")
	h.shop.trade(200)
	h.passed("shipping", "ledger")
	h.must(0, "rebuild", "shipping", "--wait")
	h.must(0, "rebuild", "ledger", "--wait")
	stop := h.readers()
	h.underLoad(func() {
		for i := range 10 {
			p := []string{"shipping", "ledger"}[i%2]
			s := h.begin("swap", p)
			<-randtest.Within(rng, 300*time.Millisecond)
			if i == 5 { // the run instead
				r.Kill()
				if code := s.End(); code > 1 {
					t.Errorf("a swap whose runner was killed exits with %d:\n%s", code, s.Log())
				}
				r = h.start("--instance", "only")
				r.Await("running: shipping")
			} else {
				s.Kill()
			}
			if got := h.query(`SELECT state FROM banyan.version WHERE projection = $1 ORDER BY state`, p); fmt.Sprint(got) != "[active following]" && fmt.Sprint(got) != "[active kept]" {
				t.Errorf("the versions of %s are %v", p, got)
			}
		}
	})
	h.exact("shipping", "ledger")
	for _, p := range []string{"shipping", "ledger"} {
		h.must(0, "verify", p, "--version", "1")
		h.must(0, "verify", p, "--version", "2")
	}
	stop()
	r.Stop()
}

// Without a runner the swap itself takes both versions to the mark.
func TestSwapWithoutARunner(t *testing.T) {
	t.Parallel()
	h := newHouse(t, shippingYAML, ledgerYAML)
	h.shop.trade(300)
	h.must(0, "run", "--until-caught-up")
	h.shop.trade(100)
	for _, p := range []string{"shipping", "ledger"} {
		h.must(0, "rebuild", p)
		h.shop.trade(100)
		h.exchange("swap", p)
		h.exchange("rollback", p)
		h.exchange("swap", p)
	}
	h.exactNow("shipping", "ledger")
}

func TestChangedDefinitionNeedsARebuild(t *testing.T) {
	t.Parallel()
	h := newHouse(t, shippingYAML)
	h.shop.trade(200)
	r := h.start()
	r.Await("running")
	h.exact("shipping")
	changed := strings.Replace(shippingYAML, "      name: text\n", "      name: text\n      shout: text = upper(state.name)\n", 1)
	changed = strings.Replace(changed, "      customer_id: bigint\n", "", 1)
	changed = strings.Replace(changed, "    indexes: [customer_id]\n", "", 1)
	h.write(changed)
	if a := h.must(1, "run", "--until-caught-up"); !strings.Contains(a.Err, "projector rebuild") {
		t.Errorf("a changed definition: %s", a)
	}
	h.must(0, "rebuild", "shipping", "--wait")
	a := h.must(1, "diff", "shipping")
	for _, want := range []string{"orders", "customer_id", "shout"} {
		if !strings.Contains(a.Out, want) {
			t.Errorf("diff does not name %s: %s", want, a)
		}
	}
	if a := h.must(1, "swap", "shipping"); !strings.Contains(a.Err, "orders.customer_id") || !strings.Contains(a.Err, "force") {
		t.Errorf("a swap by which readers lose a column: %s", a)
	}
	h.exchange("swap", "shipping", "--force")
	h.shop.trade(50)
	h.passed("shipping")
	if got := h.one(`SELECT count(*)::text FROM shipping.customers WHERE shout IS DISTINCT FROM upper(name)`); got != "0" {
		t.Errorf("%s rows do not shout", got)
	}
	h.must(0, "verify", "shipping")
	// The old one is followed on by the same run, and there is a way back.
	h.exchange("rollback", "shipping", "--force")
	h.exact("shipping")
	r.Stop()
}

func TestVerifyFindsWhatSomebodyHasChanged(t *testing.T) {
	t.Parallel()
	h := newHouse(t, shippingYAML)
	h.shop.register(9)
	h.shop.trade(100)
	h.exactNow("shipping")
	h.db.Exec(t, `UPDATE shipping_v1.customers SET country = 'Atlantis' WHERE id = 3`)
	h.db.Exec(t, `DELETE FROM shipping_v1.customers WHERE id = 4`)
	h.db.Exec(t, `INSERT INTO shipping_v1.customers VALUES (1000000, 'nobody', 'Nowhere', 1)`)
	var v struct {
		Verdict string
		Reasons []string
		Tables  []struct {
			Table                     string
			Missing, Extra, Different int
			Examples                  []struct{ Key any }
		}
	}
	a := h.must(1, "verify", "shipping")
	if !strings.Contains(a.Out, "Atlantis") || !strings.Contains(a.Out, "1000000") {
		t.Errorf("the differences are not shown: %s", a)
	}
	a = h.must(1, "verify", "shipping", "-o", "json")
	if err := decodeLoosely(a.Out, &v); err != nil {
		t.Fatal(err)
	}
	if v.Verdict != "differs" || len(v.Reasons) == 0 {
		t.Errorf("the verdict: %+v", v)
	}
	for _, table := range v.Tables {
		if table.Table == "customers" && (table.Missing != 1 || table.Extra != 1 || table.Different != 1 || len(table.Examples) != 3) {
			t.Errorf("customers: %+v", table)
		}
	}
	h.must(0, "rebuild", "shipping")
	h.exchange("swap", "shipping")
	h.exactNow("shipping")
}

// A disk that is full ends a rebuild with one clear error, and changes nothing.
func TestDiskFullInARebuild(t *testing.T) {
	t.Parallel()
	h := newHouse(t, shippingYAML)
	h.shop.fat = 40_000
	h.shop.register(600)
	h.exactNow("shipping")
	dir := t.TempDir()
	inner := h.command("rebuild", "shipping", "--memory", "1", "-o", "json", "--data-dir", dir)
	cmd := exec.Command("unshare", append([]string{"--mount", "sh", "-c", `mount -t tmpfs -o size=512k tmpfs "$0" || exit 77; exec "$@"`, dir}, inner.Args...)...)
	cmd.Dir, cmd.Env = inner.Dir, inner.Env
	b := clitest.Start(t, cmd)
	code := b.End()
	if code == 77 || strings.Contains(b.Log(), "unshare failed") {
		t.Skipf("no small file system can be mounted here: %s", b.Log())
	}
	if code != 3 || !strings.Contains(b.Log(), "no space left on device") {
		t.Errorf("exit %d:\n%s%s", code, b.Log(), b.Said())
	}
	if got := h.versions("shipping"); fmt.Sprint(got) != "[1 active]" {
		t.Errorf("it leaves behind %v", got)
	}
	h.exactNow("shipping")
	h.must(0, "rebuild", "shipping", "--memory", "1")
	h.exchange("swap", "shipping")
	h.exactNow("shipping")
}
