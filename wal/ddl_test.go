package wal_test

import (
	"fmt"
	"strings"
	"testing"

	"banyan/internal/pgtest"
	"banyan/wal"
)

// describe writes the columns of a table as the stream knows them.
func describe(table *wal.Table) string {
	var b strings.Builder
	b.WriteString(table.FullName() + ":")
	for _, c := range table.Columns {
		fmt.Fprintf(&b, " %s %s", c.Name, c.TypeName)
		if c.Key > 0 {
			fmt.Fprintf(&b, " key%d", c.Key)
		}
	}
	if table.Uncaptured != nil {
		fmt.Fprintf(&b, " and %v", table.Uncaptured)
	}
	return b.String()
}

// Every change of a captured table's shape is visible in a new Table, at the
// change where it took effect, also when the stream starts only afterwards.
func TestStreamSeesDDL(t *testing.T) {
	script := []string{
		`INSERT INTO orders VALUES (1, 'new', 10, 'x')`,
		`ALTER TABLE orders ADD added int; INSERT INTO orders VALUES (2, 'new', 10, 'x', 1)`,
		`ALTER TYPE shop_status ADD VALUE 'lost'`,
		`INSERT INTO orders VALUES (3, 'lost', 10, 'x', 1)`,
		`ALTER TABLE orders ALTER total TYPE numeric(12,3); INSERT INTO orders VALUES (4, 'new', 10.5, 'x', 1)`,
		`ALTER TABLE orders RENAME note TO remark; INSERT INTO orders VALUES (5, 'new', 1, 'x', 1)`,
		`ALTER TABLE orders DROP remark; INSERT INTO orders VALUES (6, 'new', 1, 1)`,
		`BEGIN; INSERT INTO orders VALUES (7, 'new', 1, 1); ALTER TABLE orders DROP added; INSERT INTO orders VALUES (8, 'new', 1); COMMIT`,
		`ALTER TABLE orders REPLICA IDENTITY FULL; INSERT INTO orders VALUES (9, 'new', 1)`,
		`ALTER TABLE orders RENAME TO purchases; INSERT INTO purchases VALUES (10, 'new', 1)`,
	}
	want := `
		1 public.orders: id integer key1 status public.shop_status total integer note text
		2 public.orders: id integer key1 status public.shop_status total integer note text and [added]
		3 public.orders: id integer key1 status public.shop_status total integer note text and [added]
		4 public.orders: id integer key1 status public.shop_status total numeric note text and [added]
		5 public.orders: id integer key1 status public.shop_status total numeric and [remark added]
		6 public.orders: id integer key1 status public.shop_status total numeric and [added]
		7 public.orders: id integer key1 status public.shop_status total numeric and [added]
		8 public.orders: id integer key1 status public.shop_status total numeric
		9 public.orders: id integer key1 status public.shop_status total numeric
		10 public.purchases: id integer key1 status public.shop_status total numeric
		`
	schema := `CREATE TYPE shop_status AS ENUM ('new', 'paid');
		CREATE TABLE orders (id int PRIMARY KEY, status shop_status, total int, note text)`
	capture := wal.Capture{"public.orders": {"id", "status", "total", "note"}}
	read := func(r *rig, s *wal.Stream) string {
		var b strings.Builder
		for _, tx := range r.upTo(s, len(script)-1) {
			for c, err := range tx.All() {
				if err != nil {
					t.Fatal(err)
				}
				fmt.Fprintf(&b, "%s %s\n", c.New[0].Bytes, describe(c.Table))
			}
		}
		return b.String()
	}
	t.Run("as it happens", func(t *testing.T) {
		r := newRig(t, pgtest.New(t), capture, schema)
		s := r.open()
		for _, sql := range script {
			r.exec(sql)
		}
		check(t, want, read(r, s))
	})
	t.Run("after the fact", func(t *testing.T) {
		r := newRig(t, pgtest.New(t), capture, schema)
		s := r.open()
		if _, err := wal.TerminateSlotUser(t.Context(), r.conn, r.cfg.Slot); err != nil {
			t.Fatal(err)
		}
		for _, sql := range script {
			r.exec(sql)
		}
		check(t, want, read(r, s))
	})
}

func TestStreamNamesThatNeedQuoting(t *testing.T) {
	capture := wal.Capture{`Größe "x".Bestellung 訂單`: {`Schlüssel`, `a"b`, `it's`}}
	r := newRig(t, pgtest.New(t), capture, `CREATE SCHEMA "Größe ""x"""; CREATE TYPE "Größe ""x"""."Art der Ware" AS ENUM ('Blume''s');
		CREATE TABLE "Größe ""x"""."Bestellung 訂單" ("Schlüssel" text PRIMARY KEY, "a""b" "Größe ""x"""."Art der Ware", "it's" text)`)
	s := r.open()
	r.exec(`INSERT INTO "Größe ""x"""."Bestellung 訂單" VALUES ('ключ', 'Blume''s', '🌸')`)
	tx := r.upTo(s, 1)[0]
	check(t, "insert Größe \"x\".Bestellung 訂單 new(Schlüssel=ключ a\"b=Blume's it's=🌸)\n", text(t, tx))
	c, _ := firstChange(tx)
	check(t, `Größe "x".Bestellung 訂單: Schlüssel text key1 a"b "Größe ""x"""."Art der Ware" it's text`, describe(c.Table))

	unit := wal.Unit{Root: wal.UnitTable{Table: c.Table, Key: []int{0}}}
	snap, err := wal.LiveSnapshot(t.Context(), r.db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Close()
	var rows []string
	if err := snap.Read(t.Context(), unit, wal.Range{}, func(tree *wal.Tree) error {
		rows = append(rows, rowText(c.Table, tree.Row))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	check(t, `(Schlüssel=ключ a"b=Blume's it's=🌸)`, strings.Join(rows, "\n"))
}

// A table that is in the publication and not in the capture is no part of what
// is counted.
func TestStreamCountsCapturedChangesOnly(t *testing.T) {
	r := newRig(t, pgtest.New(t), wal.Capture{"public.a": {"id"}, "public.b": {"id"}}, `
		CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); CREATE TABLE other (id int PRIMARY KEY)`)
	r.exec(`ALTER PUBLICATION pub ADD TABLE other`)
	s := r.open()
	r.exec(`INSERT INTO other VALUES (1)`)
	r.exec(`SELECT pg_logical_emit_message(true, 'app', 'hello'), pg_logical_emit_message(false, 'app', 'hello')`)
	r.exec(`BEGIN; INSERT INTO other VALUES (2); INSERT INTO a VALUES (1); INSERT INTO other VALUES (3); INSERT INTO b VALUES (1); TRUNCATE other, a, b; COMMIT`)
	txs := r.upTo(s, 1)
	check(t, `
		insert public.a new(id=1)
		insert public.b new(id=1)
		truncate public.a
		truncate public.b
		`, text(t, txs[0]))
}
