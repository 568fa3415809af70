package control

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"banyan/internal/pgtest"
)

// Roles belong to the whole server, so this test has one of its own.
func TestRoles(t *testing.T) {
	server := pgtest.NewServer(t)
	db := server.NewDB(t)
	ctx := context.Background()
	db.Exec(t, `CREATE ROLE projector LOGIN; CREATE ROLE bi LOGIN; CREATE ROLE stranger LOGIN`)
	admin, err := Open(ctx, db.Pool(t))
	must(t, err)

	// The text works before there is anything, and again.
	for range 2 {
		must(t, admin.ApplyRoles(ctx, "shipping", "projector"))
	}
	r := &rig{t: t, ctx: ctx, db: db}
	c, err := pgxpool.ParseConfig(db.UserURL("projector", ""))
	must(t, err)
	Configure(c, Settings{Role: OwnerRole("shipping"), Application: "projector shipping"})
	r.pool, err = pgxpool.NewWithConfig(ctx, c)
	must(t, err)
	t.Cleanup(r.pool.Close)
	r.Store, err = Open(ctx, r.pool)
	must(t, err)
	must(t, r.Migrate(ctx))
	v1, parts := r.shipping(1)
	r.in(func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `CREATE TABLE shipping_v1.addresses (id int PRIMARY KEY, city text); INSERT INTO shipping_v1.addresses VALUES (1, 'Utrecht')`); err != nil {
			return err
		}
		return r.PointViews(ctx, tx, v1, []View{{Name: "addresses"}})
	})
	must(t, r.advance(1, step(&parts[0], 1, 10)))

	// The reader reads, waits and asks, and can do nothing else.
	db.Exec(t, `GRANT shipping_reader TO bi`)
	bi, err := pgx.Connect(ctx, db.UserURL("bi", ""))
	must(t, err)
	defer bi.Close(ctx)
	var city, answer, passed string
	must(t, bi.QueryRow(ctx, `SELECT city, banyan.wait('shipping', '1:0/A', '0', 'Order', '1'), banyan.passed('shipping') FROM shipping.addresses`).Scan(&city, &answer, &passed))
	if city != "Utrecht" || answer != "passed" || passed != "1:0/A" {
		t.Errorf("the reader gets %s, %s, %s", city, answer, passed)
	}
	for _, sql := range []string{
		`UPDATE shipping.addresses SET city = 'x'`, `DELETE FROM shipping_v1.addresses`, `SELECT FROM shipping_v1.addresses`,
		`SELECT FROM banyan.part`, `UPDATE banyan.part SET next_offset = 0`, `CREATE TABLE shipping.mine ()`, `CREATE TABLE banyan.mine ()`,
		`SELECT banyan.advance('shipping', 1, '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}')`,
	} {
		if _, err := bi.Exec(ctx, sql); !isCode(err, "42501") {
			t.Errorf("the reader: %s: %v", sql, err)
		}
	}
	readers, err := pgxpool.New(ctx, db.UserURL("bi", ""))
	must(t, err)
	defer readers.Close()
	reader, err := Open(ctx, readers)
	must(t, err)
	if there, err := reader.Migrated(ctx); err != nil || !there {
		t.Errorf("the reader sees no schema: %v, %v", there, err)
	}
	must(t, reader.Wait(ctx, "shipping", Mark{Generation: 1, LSN: 10}, WaitFor{Parts: []PartID{parts[0].PartID}}))
	if age, err := reader.Age(ctx, "shipping"); err != nil || age <= 0 {
		t.Errorf("the reader asks for the age: %v, %v", age, err)
	}

	if found := r.faults(); len(found) > 0 {
		t.Fatalf("faults where there are none:\n%s", strings.Join(found, "\n"))
	}
	all, err := r.LintWriters(ctx, "shipping")
	must(t, err)
	for _, want := range []string{"info: projector writes as a member on role shipping_owner", "info: postgres is a superuser"} {
		if !slices.ContainsFunc(all, func(f Finding) bool { return strings.HasPrefix(f.String(), want) }) {
			t.Errorf("no %q among %v", want, all)
		}
	}
	testFaults(t, r)

	// A second projection of the database works beside the first and is no fault
	// of it, nor the other way round.
	must(t, admin.ApplyRoles(ctx, "billing", ""))
	db.Exec(t, `CREATE ROLE biller LOGIN; GRANT billing_owner TO biller`)
	c, err = pgxpool.ParseConfig(db.UserURL("biller", ""))
	must(t, err)
	Configure(c, Settings{Role: OwnerRole("billing")})
	pool, err := pgxpool.NewWithConfig(ctx, c)
	must(t, err)
	t.Cleanup(pool.Close)
	b, err := Open(ctx, pool)
	must(t, err)
	must(t, b.Migrate(ctx))
	must(t, pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		v, _, err := b.Declare(ctx, tx, Declaration{Projection: "billing", Source: "shop"})
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `CREATE TABLE billing_v1.invoices (id int PRIMARY KEY)`); err != nil {
			return err
		}
		return b.PointViews(ctx, tx, v, []View{{Name: "invoices"}})
	}))
	must(t, b.EnsureParts(ctx, pool, "billing", 1, []Start{{PartID{"shop.invoices", 0}, 0}}))
	_, err = b.TakeOver(ctx, "billing", 1, []PartID{{"shop.invoices", 0}}, "b")
	must(t, err)
	for name, s := range map[string]*Store{"shipping": r.Store, "billing": b} {
		found, err := s.LintWriters(ctx, name)
		must(t, err)
		for _, f := range found {
			if f.Weight == Fault {
				t.Errorf("beside the other: %s", f)
			}
		}
	}
	if _, err := pool.Exec(ctx, `UPDATE shipping_v1.addresses SET city = 'x'`); !isCode(err, "42501") {
		t.Errorf("billing writes shipping: %v", err)
	}
}

// faults are the findings that break the proof, as text.
func (r *rig) faults() []string {
	r.t.Helper()
	all, err := r.LintWriters(r.ctx, "shipping")
	must(r.t, err)
	var faults []string
	for _, f := range all {
		if f.Weight == Fault {
			faults = append(faults, f.String())
		}
	}
	return faults
}

// testFaults breaks the proof in one way after the other; each is found, and the
// SQL that the finding gives mends it.
func testFaults(t *testing.T, r *rig) {
	for _, tc := range []struct{ name, sql, want, undo string }{
		{"insert", `GRANT INSERT ON shipping_v1.addresses TO stranger`, "stranger may INSERT on shipping_v1.addresses", ""},
		{"view", `GRANT UPDATE, DELETE ON shipping.addresses TO bi`, "bi may UPDATE, DELETE on shipping.addresses", ""},
		{"column", `GRANT UPDATE (city) ON shipping_v1.addresses TO stranger`, "stranger may UPDATE on shipping_v1.addresses", `REVOKE UPDATE (city) ON shipping_v1.addresses FROM stranger`},
		{"control", `GRANT UPDATE ON banyan.part TO stranger`, "stranger may UPDATE on banyan.part", ""},
		{"create", `GRANT CREATE ON SCHEMA shipping_v1 TO stranger`, "stranger may CREATE on schema shipping_v1", ""},
		{"all data", `GRANT pg_write_all_data TO stranger`, "stranger may INSERT, UPDATE, DELETE on shipping_v1.addresses: REVOKE pg_write_all_data FROM stranger;", ""},
		{"group", `CREATE ROLE crew; GRANT TRUNCATE ON shipping_v1.addresses TO crew; GRANT crew TO stranger`, "stranger may TRUNCATE on shipping_v1.addresses: by crew", `DROP OWNED BY crew; DROP ROLE crew`},
		{"public", `GRANT SELECT ON shipping.addresses TO PUBLIC`, "PUBLIC may SELECT on shipping.addresses", ""},
		{"public schema", `GRANT USAGE ON SCHEMA shipping TO PUBLIC`, "PUBLIC has USAGE on schema shipping", ""},
		{"public function", `GRANT EXECUTE ON FUNCTION banyan.passed(text) TO PUBLIC`, "PUBLIC may EXECUTE on function banyan.passed(text)", ""},
		{"to come", `ALTER DEFAULT PRIVILEGES FOR ROLE shipping_owner IN SCHEMA shipping GRANT INSERT ON TABLES TO stranger`, "stranger will have INSERT on tables to come in schema shipping", ""},
		{"to come anywhere", `ALTER DEFAULT PRIVILEGES FOR ROLE shipping_owner GRANT SELECT ON TABLES TO PUBLIC`, "PUBLIC will have SELECT on tables to come, in all schemas", ""},
		{"table of another", `ALTER TABLE shipping_v1.addresses OWNER TO stranger`, "stranger is the owner on shipping_v1.addresses", ""},
		{"schema of another", `ALTER SCHEMA shipping_v1 OWNER TO stranger`, "stranger is the owner on schema shipping_v1", ""},
		{"member", `GRANT shipping_owner TO stranger`, "stranger writes as a member on role shipping_owner", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r.db.Exec(t, tc.sql)
			found := r.faults()
			if !slices.ContainsFunc(found, func(f string) bool { return strings.HasPrefix(f, "fault: "+tc.want) }) {
				t.Errorf("%q is not among:\n%s", tc.want, strings.Join(found, "\n"))
			}
			if tc.undo != "" {
				r.db.Exec(t, tc.undo)
			} else {
				for _, f := range found {
					if _, way, ok := strings.Cut(f, ": "); ok {
						if _, sql, ok := strings.Cut(way, ": "); ok && strings.HasSuffix(sql, ";") {
							r.db.Exec(t, sql)
						}
					}
				}
			}
			if left := r.faults(); len(left) > 0 {
				t.Errorf("not mended:\n%s", strings.Join(left, "\n"))
			}
		})
	}
}

// Everything made by a superuser without roles is a fault that ApplyRoles mends.
func TestRolesAfterwards(t *testing.T) {
	server := pgtest.NewServer(t)
	db := server.NewDB(t)
	r := rigOn(t, db, db.URL)
	v1, _ := r.shipping(1)
	r.db.Exec(t, `CREATE TABLE shipping_v1.addresses (id int PRIMARY KEY)`)
	r.in(func(tx pgx.Tx) error { return r.PointViews(r.ctx, tx, v1, []View{{Name: "addresses"}}) })
	if found := r.faults(); len(found) != 1 || !strings.Contains(found[0], "there is no such role") {
		t.Errorf("without roles: %v", found)
	}
	must(t, r.ApplyRoles(r.ctx, "shipping", ""))
	if found := r.faults(); len(found) > 0 {
		t.Errorf("after the roles were made:\n%s", strings.Join(found, "\n"))
	}
	must(t, func() error {
		_, err := r.pool.Exec(r.ctx, `SET ROLE shipping_owner; INSERT INTO shipping_v1.addresses VALUES (1); SELECT FROM banyan.part FOR UPDATE; RESET ROLE;
			SET ROLE shipping_reader; SELECT banyan.passed('shipping') FROM shipping.addresses; RESET ROLE`)
		return err
	}())
	if err := r.ApplyRoles(r.ctx, `x"; DROP TABLE y`, ""); err == nil || !strings.Contains(err.Error(), "plain SQL name") {
		t.Errorf("a name that is none: %v", err)
	}
}
