package control

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"banyan/event"
	"banyan/internal/pgtest"
)

// rig is a fresh database with a migrated store.
type rig struct {
	t    *testing.T
	ctx  context.Context
	db   *pgtest.DB
	pool *pgxpool.Pool
	*Store
}

func newRig(t *testing.T) *rig {
	t.Helper()
	db := pgtest.New(t)
	return rigOn(t, db, db.URL)
}

func rigOn(t *testing.T, db *pgtest.DB, url string) *rig {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	c, err := pgxpool.ParseConfig(url)
	must(t, err)
	c.MaxConns = 24
	Configure(c, Settings{Application: "test " + t.Name()})
	pool, err := pgxpool.NewWithConfig(ctx, c)
	must(t, err)
	t.Cleanup(pool.Close)
	s, err := Open(ctx, pool)
	must(t, err)
	must(t, s.Migrate(ctx))
	return &rig{t, ctx, db, pool, s}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// in runs do in a transaction that is committed.
func (r *rig) in(do func(tx pgx.Tx) error) {
	r.t.Helper()
	must(r.t, pgx.BeginFunc(r.ctx, r.pool, do))
}

// shipping declares the first version with n partitions of shop.orders and takes
// them over.
func (r *rig) shipping(n int) (Version, []Part) {
	r.t.Helper()
	var v Version
	r.in(func(tx pgx.Tx) (err error) {
		v, _, err = r.Declare(r.ctx, tx, Declaration{Projection: "shipping", Source: "shop", Digest: "d1", Definition: "one"})
		return err
	})
	return v, r.own(v.Number, n)
}

func (r *rig) own(version, n int) []Part {
	r.t.Helper()
	var starts []Start
	var ids []PartID
	for i := range n {
		id := PartID{"shop.orders", i}
		starts, ids = append(starts, Start{id, 0}), append(ids, id)
	}
	must(r.t, r.EnsureParts(r.ctx, r.pool, "shipping", version, starts))
	parts, err := r.TakeOver(r.ctx, "shipping", version, ids, "test")
	must(r.t, err)
	return parts
}

// step moves a part by n records and to a mark.
func step(p *Part, n int64, lsn uint64) Step {
	return Step{PartID: p.PartID, Epoch: p.Epoch, From: p.Next, To: p.Next + n, Seq: p.Seq + n, Writer: 1,
		Applied: p.Applied, Passed: Mark{Generation: 1, LSN: lsn, Time: time.Unix(int64(lsn), 0).UTC()}}
}

// advance commits one step of each part in a batch of its own.
func (r *rig) advance(version int, steps ...Step) error {
	tx, err := r.Begin(r.ctx, r.pool, "shipping", version, steps)
	if err != nil {
		return err
	}
	return tx.Commit(r.ctx)
}

func TestMigrate(t *testing.T) {
	db := pgtest.New(t)
	pool := db.Pool(t)
	ctx := context.Background()
	s, err := Open(ctx, pool)
	must(t, err)
	if there, err := s.Migrated(ctx); err != nil || there {
		t.Fatalf("an empty database is migrated: %v, %v", there, err)
	}
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			if err := s.Migrate(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if there, err := s.Migrated(ctx); err != nil || !there {
		t.Fatalf("not migrated: %v, %v", there, err)
	}

	db.Exec(t, `INSERT INTO banyan.control_migration VALUES (99, 'of tomorrow')`)
	var refused *SchemaError
	if _, err := Open(ctx, pool); !errors.As(err, &refused) || !strings.Contains(err.Error(), "version 99") || !strings.Contains(err.Error(), "newer program") {
		t.Errorf("a newer schema: %v", err)
	}
	db.Exec(t, `DELETE FROM banyan.control_migration WHERE version = 99; UPDATE banyan.control_migration SET digest = 'x'`)
	if err := s.Migrate(ctx); !errors.As(err, &refused) || !strings.Contains(err.Error(), "another build") {
		t.Errorf("a schema of another build: %v", err)
	}
	db.Exec(t, `DROP SCHEMA banyan CASCADE; CREATE SCHEMA banyan; CREATE TABLE banyan.source (name text)`)
	if _, err := Open(ctx, pool); !errors.As(err, &refused) || !strings.Contains(err.Error(), "database of their own") {
		t.Errorf("a store of cdc: %v", err)
	}
}

// A role without rights is told the SQL that helps, and the SQL helps.
func TestMigrateWithoutRights(t *testing.T) {
	db := pgtest.New(t)
	role := db.Name + "_poor"
	db.Exec(t, fmt.Sprintf(`CREATE ROLE %s LOGIN; REVOKE ALL ON DATABASE %s FROM PUBLIC; GRANT CONNECT ON DATABASE %[2]s TO %[1]s`, role, db.Name))
	t.Cleanup(func() {
		db.Exec(t, fmt.Sprintf(`REASSIGN OWNED BY %s TO postgres; DROP OWNED BY %[1]s; DROP ROLE %[1]s`, role))
	})
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, db.UserURL(role, ""))
	must(t, err)
	defer pool.Close()
	s, err := Open(ctx, pool)
	must(t, err)
	err = s.Migrate(ctx)
	var refused *SchemaError
	if !errors.As(err, &refused) {
		t.Fatalf("migrated without rights: %v", err)
	}
	_, sql, ok := strings.Cut(refused.Reason, "run: ")
	if !ok {
		t.Fatalf("no SQL in %q", refused.Reason)
	}
	db.Exec(t, sql)
	must(t, s.Migrate(ctx))

	db.Exec(t, fmt.Sprintf(`REVOKE CREATE ON DATABASE %s FROM %s`, db.Name, role))
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		_, _, err := s.Declare(ctx, tx, Declaration{Projection: "shipping", Source: "shop"})
		return err
	})
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "schema shipping") || !strings.Contains(err.Error(), "GRANT CREATE ON DATABASE "+db.Name+" TO "+role) {
		t.Errorf("declare without rights: %v", err)
	}
}

func TestVersions(t *testing.T) {
	r := newRig(t)
	v1, _ := r.shipping(1)
	if v1.Number != 1 || v1.State != Active || v1.Schema != "shipping_v1" || v1.Definition != "one" || v1.Source != "shop" {
		t.Fatalf("the first version is %+v", v1)
	}
	var made bool
	r.in(func(tx pgx.Tx) (err error) {
		_, made, err = r.Declare(r.ctx, tx, Declaration{Projection: "shipping", Source: "shop", Digest: "d1"})
		return err
	})
	if made {
		t.Error("the same digest makes a version anew")
	}
	err := pgx.BeginFunc(r.ctx, r.pool, func(tx pgx.Tx) error {
		_, _, err := r.Declare(r.ctx, tx, Declaration{Projection: "shipping", Source: "shop", Digest: "d2"})
		return err
	})
	var other *DigestError
	if !errors.As(err, &other) || other.Active.Number != 1 || !strings.Contains(err.Error(), "projector rebuild shipping") {
		t.Errorf("another digest: %v", err)
	}

	v2 := r.nextVersion("d2")
	if v2.Number != 2 || v2.State != Building {
		t.Errorf("the next version is %+v", v2)
	}
	var state *StateError
	for _, tc := range []struct {
		number int
		to     State
	}{{2, Active}, {2, Kept}, {1, Following}, {1, Building}, {1, Retired}} {
		if err := r.SetState(r.ctx, r.pool, "shipping", tc.number, tc.to, ""); !errors.As(err, &state) || state.To != tc.to {
			t.Errorf("version %d to %s: %v", tc.number, tc.to, err)
		}
	}
	if err := r.SetState(r.ctx, r.pool, "shipping", 3, Retired, ""); !errors.Is(err, ErrNotFound) {
		t.Errorf("a version that is not there: %v", err)
	}
	must(t, r.SetState(r.ctx, r.pool, "shipping", 2, Following, "caught up"))
	if err := r.Drop(r.ctx, "shipping", 2); !errors.As(err, &state) {
		t.Errorf("dropped while it follows: %v", err)
	}
	must(t, r.SetState(r.ctx, r.pool, "shipping", 2, Retired, "not wanted"))
	r.db.Exec(t, `CREATE TABLE shipping_v2.addresses (id int); CREATE VIEW public.mine AS SELECT * FROM shipping_v2.addresses`)
	var depend *DependentsError
	if err := r.Drop(r.ctx, "shipping", 2); !errors.As(err, &depend) || !strings.Contains(err.Error(), "public.mine") {
		t.Errorf("dropped under a view of others: %v", err)
	}
	r.db.Exec(t, `DROP VIEW public.mine`)
	must(t, r.Drop(r.ctx, "shipping", 2))
	if v := r.nextVersion("d3"); v.Number != 2 {
		t.Errorf("the number of a dropped last version is free again: got %d", v.Number)
	}
	if _, err := r.Version(r.ctx, "shipping", 9); !errors.Is(err, ErrNotFound) {
		t.Errorf("version 9: %v", err)
	}
	if _, err := r.Active(r.ctx, "billing"); !errors.Is(err, ErrNotFound) {
		t.Errorf("no projection: %v", err)
	}
	if all, err := r.Versions(r.ctx, ""); err != nil || len(all) != 2 {
		t.Errorf("versions: %v, %v", all, err)
	}
}

func (r *rig) nextVersion(digest string) Version {
	r.t.Helper()
	var v Version
	r.in(func(tx pgx.Tx) (err error) {
		v, err = r.NewVersion(r.ctx, tx, Declaration{Projection: "shipping", Source: "shop", Digest: digest})
		return err
	})
	return v
}

func TestNames(t *testing.T) {
	r := newRig(t)
	var bad *NameError
	for _, name := range []string{"", "Shipping", "a-b", "1a", "public", "banyan", "pg_x", "shipping_v2", strings.Repeat("a", 41), `x"; DROP TABLE y; --`} {
		if err := CheckName(name); !errors.As(err, &bad) {
			t.Errorf("%q is taken for a name", name)
		}
	}
	must(t, CheckName("daily_sales"))
	r.db.Exec(t, `CREATE SCHEMA crm; CREATE TABLE crm.people (id int)`)
	err := pgx.BeginFunc(r.ctx, r.pool, func(tx pgx.Tx) error {
		_, _, err := r.Declare(r.ctx, tx, Declaration{Projection: "crm"})
		return err
	})
	if !errors.As(err, &bad) || !strings.Contains(err.Error(), "people") {
		t.Errorf("a schema of somebody else's: %v", err)
	}
	if all, err := r.Versions(r.ctx, "crm"); err != nil || len(all) != 0 {
		t.Errorf("something is left: %v, %v", all, err)
	}
}

func TestWatch(t *testing.T) {
	r := newRig(t)
	r.shipping(1)
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	var seen []Change
	for c, err := range r.Watch(ctx) {
		if ctx.Err() != nil {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("it ends with %v", err)
			}
			break
		}
		must(t, err)
		seen = append(seen, c)
		if len(seen) == 1 { // it listens: nothing from here on is lost
			r.nextVersion("d2")
		}
		if c == (Change{"shipping", VersionChanged}) {
			cancel()
		}
	}
	if len(seen) == 0 || seen[0] != (Change{}) || seen[len(seen)-1] != (Change{"shipping", VersionChanged}) {
		t.Errorf("seen: %v", seen)
	}
}

// Changes that never stop do not keep a watcher from looking around: each is
// answered with the next one.
func TestWatchLooksWhileChangesCome(t *testing.T) {
	r := newRig(t)
	looks, changes := 0, 0
	for c, err := range r.Watch(r.ctx) {
		must(t, err)
		if c.Kind == Looked {
			looks++
		} else {
			changes++
		}
		if looks == 2 {
			break
		}
		if changes > 20_000 {
			t.Fatal("20,000 changes, and it has not looked around")
		}
		must(t, notify(r.ctx, r.pool, EffectPromised, "shipping"))
	}
	t.Logf("%d changes between two looks", changes)
}

func TestLease(t *testing.T) {
	r := newRig(t)
	v, _ := r.shipping(1)
	alive := func() bool {
		t.Helper()
		is, err := r.Alive(r.ctx, "shipping", v.Number)
		must(t, err)
		return is
	}
	if alive() {
		t.Fatal("alive before anybody was there")
	}
	one, err := r.Lease(r.ctx, "shipping", v.Number, Owning, "one")
	must(t, err)
	two, err := r.Lease(r.ctx, "shipping", v.Number, Owning, "two")
	must(t, err)
	defer two.Close()
	must(t, two.Note(r.ctx, "stands at a gap"))
	one.Close()
	one.Close()
	if !alive() {
		t.Error("two is alive")
	}
	// The connection goes as it does when a process is killed.
	r.db.Exec(t, `SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE locktype = 'advisory' AND classid = banyan.lease_class() AND objid = $1::bigint::oid`, two.ID)
	if alive() {
		t.Error("both are gone")
	}
	if err := two.Renew(r.ctx); err == nil {
		t.Error("a lease whose connection is gone is renewed")
	}
	all, err := r.Leases(r.ctx, "shipping")
	must(t, err)
	if len(all) != 1 && len(all) != 2 || all[len(all)-1].Note != "stands at a gap" || all[len(all)-1].Alive || all[len(all)-1].Owner != "two" {
		t.Errorf("leases: %+v", all)
	}
	three, err := r.Lease(r.ctx, "shipping", v.Number, Owning, "three")
	must(t, err)
	defer three.Close()
	if all, err = r.Leases(r.ctx, ""); err != nil || len(all) != 1 || all[0].Owner != "three" || !all[0].Alive {
		t.Errorf("the dead are not forgotten: %+v, %v", all, err)
	}
}

func TestTimersAndCutoffs(t *testing.T) {
	r := newRig(t)
	v, _ := r.shipping(1)
	at := time.Date(2026, 11, 20, 9, 0, 0, 123000, time.UTC)
	first := []Firing{{Name: "expiry", Key: "b", At: at, After: event.Position{Generation: 1, LSN: 10, Ordinal: 3}},
		{Name: "expiry", Key: "a", At: at, After: event.Position{Generation: 1, LSN: 10, Ordinal: 3}}}
	r.in(func(tx pgx.Tx) error { return r.RecordFirings(r.ctx, tx, "shipping", first) })
	again := []Firing{{Name: "expiry", Key: "a", At: at, After: event.Position{Generation: 1, LSN: 99}},
		{Name: "expiry", Key: "a", At: at.Add(time.Hour), After: event.Position{Generation: 2, LSN: 5, Snapshot: 2}}}
	r.in(func(tx pgx.Tx) error { return r.RecordFirings(r.ctx, tx, "shipping", again) })
	got, err := r.Firings(r.ctx, r.pool, "shipping", 0, 10)
	must(t, err)
	want := []Firing{first[0], first[1], again[1]}
	if len(got) != 3 {
		t.Fatalf("%d firings: %+v", len(got), got)
	}
	for i := range got {
		n := got[i].N
		if got[i].N = 0; got[i] != want[i] {
			t.Errorf("firing %d is %+v, want %+v", i, got[i], want[i])
		}
		got[i].N = n
	}
	if rest, err := r.Firings(r.ctx, r.pool, "shipping", got[1].N, 10); err != nil || len(rest) != 1 {
		t.Errorf("after the second: %+v, %v", rest, err)
	}

	must(t, r.SaveCutoff(r.ctx, r.pool, "shipping", v.Number, "attempts", at))
	must(t, r.SaveCutoff(r.ctx, r.pool, "shipping", v.Number, "attempts", at.Add(-time.Hour)))
	if all, err := r.Cutoffs(r.ctx, r.pool, "shipping", v.Number); err != nil || len(all) != 1 || !all["attempts"].Equal(at) {
		t.Errorf("cutoffs: %v, %v", all, err)
	}
}
