package wal

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"sort"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// oldestKnown is the first server version whose catalogs are read here.
const oldestKnown = 140000

// settings are those that decide whether and how well the WAL can be read.
var settings = []string{
	"wal_level", "max_replication_slots", "max_wal_senders", "wal_sender_timeout", "max_slot_wal_keep_size",
	"synchronous_standby_names", "synchronous_commit", "max_prepared_transactions", "logical_decoding_work_mem",
	"idle_replication_slot_timeout", "server_encoding", "block_size", "default_transaction_read_only",
}

// Inspect reads the catalog over conn, in one read-only transaction that it
// ends itself. It changes nothing, reads no row of a user's table, takes no
// lock on one beyond ACCESS SHARE, and waits two seconds for no lock. Any role
// that may connect can do it; what it may not see is named in Catalog.Unseen.
//
// Of a server older than version 14 only the server's own facts are read.
// conn must not be inside a transaction.
func Inspect(ctx context.Context, conn *pgx.Conn) (*Catalog, error) {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, fmt.Errorf("inspect the catalog: %w", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) // read only: there is nothing to commit
	if _, err := tx.Exec(ctx, `SET LOCAL search_path = ''; SET LOCAL lock_timeout = '2s'; SET LOCAL statement_timeout = '60s'`); err != nil {
		return nil, fmt.Errorf("inspect the catalog: %w", err)
	}
	in := &inspector{tx: tx, cat: &Catalog{Settings: map[string]string{}}, byOID: map[uint32]*CatalogTable{}}
	if err := in.server(ctx); err != nil {
		return nil, fmt.Errorf("inspect the server: %w", err)
	}
	if in.cat.Version < oldestKnown {
		in.cat.Unseen = append(in.cat.Unseen, "the tables: this server is older than version 14")
		return in.cat, nil
	}
	for _, part := range []struct {
		what string
		read func(context.Context) error
	}{
		{"the tables", in.tables}, {"the columns", in.columns}, {"the defaults", in.defaults},
		{"the check constraints", in.checks}, {"the inheritance of tables", in.inheritance},
		{"the unique indexes", in.indexes}, {"the foreign keys", in.foreignKeys}, {"the triggers", in.triggers},
		{"the publications", in.publications}, {"the replication slots", in.slots}, {"the walsenders", in.senders},
		{"the settings", in.settings},
	} {
		if err := in.try(ctx, part.what, part.read); err != nil {
			return nil, fmt.Errorf("inspect %s: %w", part.what, err)
		}
	}
	in.finish()
	return in.cat, nil
}

type inspector struct {
	tx    pgx.Tx
	cat   *Catalog
	byOID map[uint32]*CatalogTable
}

// try runs one part under a savepoint, so that what the role may not see costs
// that part only.
func (in *inspector) try(ctx context.Context, what string, read func(context.Context) error) error {
	outer := in.tx
	point, err := outer.Begin(ctx)
	if err != nil {
		return err
	}
	in.tx = point
	err = read(ctx)
	in.tx = outer
	if back := point.Rollback(ctx); back != nil && err == nil {
		err = back
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) && (pg.Code == "42501" || pg.Code == "55P03" || pg.Code == "57014") && ctx.Err() == nil {
		in.cat.Unseen = append(in.cat.Unseen, fmt.Sprintf("%s: %s", what, pg.Message))
		return nil
	}
	return err
}

// each runs the query and calls row for every row, after scanning it into dest.
func (in *inspector) each(ctx context.Context, sql string, dest []any, row func() error) error {
	rows, err := in.tx.Query(ctx, sql)
	if err != nil {
		return err
	}
	_, err = pgx.ForEachRow(rows, dest, row)
	return err
}

func (in *inspector) server(ctx context.Context) error {
	c := in.cat
	err := in.tx.QueryRow(ctx, `
		SELECT current_setting('server_version_num')::int, current_setting('server_version'), current_database(),
		       pg_catalog.pg_is_in_recovery(), r.rolname, r.rolsuper,
		       r.rolreplication OR EXISTS (SELECT FROM pg_catalog.pg_roles g WHERE g.rolname = 'rds_replication'
		                                   AND pg_catalog.pg_has_role(g.oid, 'USAGE')),
		       r.rolbypassrls,
		       pg_catalog.has_database_privilege(current_database(), 'CONNECT'),
		       pg_catalog.has_database_privilege(current_database(), 'CREATE')
		FROM pg_catalog.pg_roles r WHERE r.rolname = current_user`).
		Scan(&c.Version, &c.VersionText, &c.Database, &c.InRecovery, &c.Role.Name, &c.Role.Superuser,
			&c.Role.Replication, &c.Role.BypassRLS, &c.Role.Connect, &c.Role.Create)
	if err != nil {
		return err
	}
	c.Role.SchemaUsage = map[string]bool{}
	var schema string
	var usage bool
	return in.each(ctx, `
		SELECT n.nspname, coalesce(pg_catalog.has_schema_privilege(n.oid, 'USAGE'), false)
		FROM pg_catalog.pg_namespace n WHERE `+userSchema, []any{&schema, &usage}, func() error {
		c.Role.SchemaUsage[schema] = usage
		return nil
	})
}

// userSchema is the condition that n is a schema of the user.
const userSchema = `n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'`

func (in *inspector) tables(ctx context.Context) error {
	// Sizes come from the statistics and not from pg_relation_size, which
	// would wait behind an ACCESS EXCLUSIVE lock.
	var t CatalogTable
	var kind, identity string
	var partition bool
	var extension *string
	return in.each(ctx, `
		SELECT c.oid, n.nspname, c.relname, pg_catalog.pg_get_userbyid(c.relowner), c.relkind::text, c.relispartition,
		       c.relpersistence = 'u', c.relreplident::text, pg_catalog.row_security_active(c.oid),
		       c.reltuples::bigint,
		       (c.relpages::bigint + coalesce(tc.relpages, 0)) * current_setting('block_size')::bigint,
		       coalesce(pg_catalog.has_table_privilege(c.oid, 'SELECT'), false),
		       coalesce(pg_catalog.pg_has_role(c.relowner, 'USAGE'), false),
		       (SELECT e.extname FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
		        WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
		          AND d.refclassid = 'pg_catalog.pg_extension'::regclass LIMIT 1)
		FROM pg_catalog.pg_class c
		JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		LEFT JOIN pg_catalog.pg_class tc ON tc.oid = c.reltoastrelid
		WHERE c.relkind IN ('r', 'p', 'f') AND c.relpersistence IN ('p', 'u') AND `+userSchema,
		[]any{&t.OID, &t.Schema, &t.Name, &t.Owner, &kind, &partition, &t.Unlogged, &identity, &t.Filtered,
			&t.Rows, &t.Bytes, &t.Select, &t.Owned, &extension},
		func() error {
			row := t
			row.ReplicaIdentity = identity[0]
			if extension != nil {
				row.Extension = *extension
			}
			switch {
			case kind == "p":
				row.Kind = KindPartitioned
			case kind == "f":
				row.Kind = KindForeign
			case partition:
				row.Kind = KindPartition
			default:
				row.Kind = KindOrdinary
			}
			if row.Rows < 0 {
				row.Bytes = -1 // never analysed: the pages are unknown too
			}
			in.byOID[row.OID] = &row
			in.cat.Tables = append(in.cat.Tables, &row)
			return nil
		})
}

func (in *inspector) columns(ctx context.Context) error {
	// A domain may lie over a domain: the base is the last of the chain, with
	// the modifier that the nearest domain to it carries.
	var oid uint32
	var c CatalogColumn
	return in.each(ctx, `
		SELECT a.attrelid, a.attname, a.attnum, a.atttypid, a.atttypmod,
		       pg_catalog.format_type(a.atttypid, NULL), pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull,
		       a.attgenerated <> '', a.attidentity::text, a.attlen = -1 AND a.attstorage <> 'p',
		       CASE WHEN ty.typtype = 'e' THEN (SELECT array_agg(e.enumlabel::text ORDER BY e.enumsortorder)
		            FROM pg_catalog.pg_enum e WHERE e.enumtypid = b.oid) END,
		       pg_catalog.format_type(b.oid, NULL), b.mod,
		       coalesce(pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'SELECT'), false)
		FROM pg_catalog.pg_attribute a
		JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
		JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		CROSS JOIN LATERAL (
			WITH RECURSIVE layer(oid, mod, depth) AS (
				SELECT a.atttypid, a.atttypmod, 0
				UNION ALL
				SELECT t.typbasetype, t.typtypmod, l.depth + 1
				FROM layer l JOIN pg_catalog.pg_type t ON t.oid = l.oid WHERE t.typtype = 'd'
			) SELECT oid, mod FROM layer ORDER BY depth DESC LIMIT 1) b
		JOIN pg_catalog.pg_type ty ON ty.oid = b.oid
		WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'f') AND `+userSchema+`
		ORDER BY a.attrelid, a.attnum`,
		[]any{&oid, &c.Name, &c.Number, &c.TypeOID, &c.TypMod, &c.TypeName, &c.Declared, &c.NotNull, &c.Generated,
			&c.Identity, &c.Toastable, &c.Labels, &c.BaseType, &c.BaseTypMod, &c.Select},
		func() error {
			t := in.byOID[oid]
			if t == nil {
				return nil // temporary, or made after the tables were read
			}
			col := c
			col.Labels = append([]string(nil), c.Labels...)
			t.Columns = append(t.Columns, col)
			return nil
		})
}

// defaults is a part of its own because pg_get_expr locks the table.
func (in *inspector) defaults(ctx context.Context) error {
	var oid uint32
	var column, expr string
	return in.each(ctx, `
		SELECT d.adrelid, a.attname, pg_catalog.pg_get_expr(d.adbin, d.adrelid)
		FROM pg_catalog.pg_attrdef d
		JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
		JOIN pg_catalog.pg_class c ON c.oid = d.adrelid
		JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE a.attgenerated = '' AND `+userSchema,
		[]any{&oid, &column, &expr}, func() error {
			if t := in.byOID[oid]; t != nil {
				if c := t.Column(column); c != nil {
					c.Default = expr
				}
			}
			return nil
		})
}

var (
	// The server writes IN as = ANY, with casts where the type is not text:
	// ((status)::text = ANY ((ARRAY['a'::character varying, ...])::text[])).
	inList  = regexp.MustCompile(`^\(+(?:"(?:[^"]|"")+"|[a-z_][a-z0-9_$]*)\)?(?:::text)? = ANY \(+ARRAY\[('.*')(?:::[a-z ]+)?\]\)?(?:::text\[\])?\)+$`)
	literal = regexp.MustCompile(`'((?:[^']|'')*)'(?:::[a-z ]+)?`)
)

// allowed reads the values of an IN list from a check's expression, or gives
// nil for a check of any other form.
func allowed(expr string) (values []string) {
	m := inList.FindStringSubmatch(expr)
	if m == nil || strings.Trim(literal.ReplaceAllString(m[1], ""), ", ") != "" {
		return nil
	}
	for _, l := range literal.FindAllStringSubmatch(m[1], -1) {
		values = append(values, strings.ReplaceAll(l[1], "''", "'"))
	}
	return values
}

// checks is a part of its own for the same reason as defaults.
func (in *inspector) checks(ctx context.Context) error {
	var oid uint32
	var column, expr string
	return in.each(ctx, `
		SELECT k.conrelid, a.attname, pg_catalog.pg_get_expr(k.conbin, k.conrelid)
		FROM pg_catalog.pg_constraint k
		JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
		JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
		JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE k.contype = 'c' AND array_length(k.conkey, 1) = 1 AND k.convalidated AND `+userSchema+`
		ORDER BY k.conrelid, k.conname`,
		[]any{&oid, &column, &expr}, func() error {
			if t := in.byOID[oid]; t != nil {
				if c := t.Column(column); c != nil && c.Allowed == nil {
					c.Allowed = allowed(expr)
				}
			}
			return nil
		})
}

func (in *inspector) inheritance(ctx context.Context) error {
	var child, parent uint32
	var partition bool
	return in.each(ctx, `
		SELECT i.inhrelid, i.inhparent, c.relispartition FROM pg_catalog.pg_inherits i
		JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid ORDER BY i.inhrelid, i.inhseqno`,
		[]any{&child, &parent, &partition}, func() error {
			c, p := in.byOID[child], in.byOID[parent]
			switch {
			case c == nil || p == nil:
			case partition:
				c.PartitionOf = p.FullName()
			default:
				c.Inherits = append(c.Inherits, p.FullName())
				p.InheritedBy = append(p.InheritedBy, c.FullName())
			}
			return nil
		})
}

func (in *inspector) indexes(ctx context.Context) error {
	var oid uint32
	var ix UniqueIndex
	var columns []*string
	var valid bool
	return in.each(ctx, `
		SELECT i.indrelid, x.relname, i.indisprimary, i.indisvalid, NOT i.indimmediate, i.indisreplident,
		       i.indpred IS NOT NULL,
		       (SELECT array_agg(a.attname::text ORDER BY k.pos)
		        FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(num, pos)
		        LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.num AND k.num <> 0
		        WHERE k.pos <= i.indnkeyatts),
		       EXISTS (SELECT FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(num, pos)
		        JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.num
		        WHERE k.pos <= i.indnkeyatts AND NOT a.attnotnull)
		FROM pg_catalog.pg_index i
		JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
		JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
		WHERE i.indisunique AND c.relkind IN ('r', 'p', 'f') AND `+userSchema+`
		ORDER BY i.indrelid, i.indisprimary DESC, x.relname`,
		[]any{&oid, &ix.Name, &ix.Primary, &valid, &ix.Deferrable, &ix.ReplicaIdentity, &ix.Partial, &columns, &ix.Nullable},
		func() error {
			t := in.byOID[oid]
			if t == nil {
				return nil
			}
			row := ix
			for _, c := range columns {
				if c == nil {
					row.Expression, row.Columns = true, nil
					break
				}
				row.Columns = append(row.Columns, *c)
			}
			row.Usable = valid && !row.Deferrable && !row.Partial && !row.Expression && !row.Nullable
			if row.Primary {
				t.PrimaryKey = row.Columns
			}
			t.Indexes = append(t.Indexes, row)
			return nil
		})
}

func (in *inspector) foreignKeys(ctx context.Context) error {
	// Constraints with a parent are the copies that partitions inherit.
	var oid, ref uint32
	var fk ForeignKey
	var onDelete string
	return in.each(ctx, `
		SELECT k.conrelid, k.confrelid, k.conname, k.confdeltype::text,
		       (SELECT array_agg(a.attname::text ORDER BY u.pos) FROM unnest(k.conkey) WITH ORDINALITY u(num, pos)
		        JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.num),
		       (SELECT array_agg(a.attname::text ORDER BY u.pos) FROM unnest(k.confkey) WITH ORDINALITY u(num, pos)
		        JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.num),
		       EXISTS (SELECT FROM unnest(k.conkey) u(num)
		        JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.num WHERE NOT a.attnotnull)
		FROM pg_catalog.pg_constraint k WHERE k.contype = 'f' AND k.conparentid = 0
		ORDER BY k.conrelid, k.conname`,
		[]any{&oid, &ref, &fk.Name, &onDelete, &fk.Columns, &fk.Referenced, &fk.Nullable},
		func() error {
			t, to := in.byOID[oid], in.byOID[ref]
			if t == nil || to == nil {
				return nil
			}
			row := fk
			row.References, row.OnDelete = to.FullName(), onDelete[0]
			row.Columns = append([]string(nil), fk.Columns...)
			row.Referenced = append([]string(nil), fk.Referenced...)
			t.ForeignKeys = append(t.ForeignKeys, row)
			return nil
		})
}

func (in *inspector) triggers(ctx context.Context) error {
	var oid uint32
	var tg Trigger
	return in.each(ctx, `
		SELECT t.tgrelid, t.tgname, n.nspname || '.' || p.proname, l.lanname, coalesce(p.prosrc, ''), t.tgenabled <> 'D'
		FROM pg_catalog.pg_trigger t
		JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
		JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
		JOIN pg_catalog.pg_language l ON l.oid = p.prolang
		WHERE NOT t.tgisinternal AND t.tgparentid = 0 ORDER BY t.tgrelid, t.tgname`,
		[]any{&oid, &tg.Name, &tg.Function, &tg.Language, &tg.Source, &tg.Enabled},
		func() error {
			if t := in.byOID[oid]; t != nil {
				t.Triggers = append(t.Triggers, tg)
			}
			return nil
		})
}

func (in *inspector) publications(ctx context.Context) error {
	var p CatalogPublication
	var tables, narrowed []string
	// Row filters, column lists and whole schemas came with version 15.
	narrow, schemas := `r.prqual IS NOT NULL OR r.prattrs IS NOT NULL`, `
		UNION SELECT n.nspname || '.' || c.relname FROM pg_catalog.pg_publication_namespace pn
		JOIN pg_catalog.pg_namespace n ON n.oid = pn.pnnspid
		JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relkind IN ('r', 'p') AND c.relpersistence = 'p'
		WHERE pn.pnpubid = p.oid`
	if in.cat.Version < 150000 {
		narrow, schemas = `false`, ``
	}
	return in.each(ctx, `
		SELECT p.pubname, pg_catalog.pg_get_userbyid(p.pubowner), p.puballtables,
		       p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate, p.pubviaroot,
		       ARRAY(SELECT n.nspname || '.' || c.relname FROM pg_catalog.pg_publication_rel r
		        JOIN pg_catalog.pg_class c ON c.oid = r.prrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		        WHERE r.prpubid = p.oid`+schemas+` ORDER BY 1),
		       ARRAY(SELECT n.nspname || '.' || c.relname FROM pg_catalog.pg_publication_rel r
		        JOIN pg_catalog.pg_class c ON c.oid = r.prrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		        WHERE r.prpubid = p.oid AND (`+narrow+`) ORDER BY 1)
		FROM pg_catalog.pg_publication p ORDER BY p.pubname`,
		[]any{&p.Name, &p.Owner, &p.AllTables, &p.Insert, &p.Update, &p.Delete, &p.Truncate, &p.ViaRoot, &tables, &narrowed},
		func() error {
			row := p
			row.Tables, row.Narrowed = append([]string(nil), tables...), append([]string(nil), narrowed...)
			in.cat.Publications = append(in.cat.Publications, row)
			return nil
		})
}

func (in *inspector) slots(ctx context.Context) error {
	var s CatalogSlot
	return in.each(ctx, `
		SELECT slot_name, coalesce(plugin, ''), coalesce(database, ''), active, temporary, coalesce(wal_status, '')
		FROM pg_catalog.pg_replication_slots ORDER BY slot_name`,
		[]any{&s.Name, &s.Plugin, &s.Database, &s.Active, &s.Temporary, &s.WALStatus}, func() error {
			in.cat.Slots = append(in.cat.Slots, s)
			return nil
		})
}

func (in *inspector) senders(ctx context.Context) error {
	return in.tx.QueryRow(ctx, `SELECT count(*) FROM pg_catalog.pg_stat_get_wal_senders() s WHERE s.pid IS NOT NULL`).
		Scan(&in.cat.SendersUsed)
}

func (in *inspector) settings(ctx context.Context) error {
	rows, err := in.tx.Query(ctx, `SELECT name, setting FROM pg_catalog.pg_settings WHERE name = ANY($1)`, settings)
	if err != nil {
		return err
	}
	var name, value string
	_, err = pgx.ForEachRow(rows, []any{&name, &value}, func() error {
		in.cat.Settings[name] = value
		return nil
	})
	return err
}

// finish brings the parts together: order, roots of partitions, sums over
// them, and the tables whose columns the role may only partly read.
func (in *inspector) finish() {
	c := in.cat
	sort.Slice(c.Tables, func(i, j int) bool { return c.Tables[i].FullName() < c.Tables[j].FullName() })
	for _, t := range c.Tables {
		root := t
		for root.PartitionOf != "" {
			root = c.Find(root.PartitionOf)
		}
		if root != t {
			t.Root = root.FullName()
		}
		if !t.Select && len(t.Columns) > 0 {
			// Every column granted one by one is as good.
			t.Select = true
			for _, col := range t.Columns {
				t.Select = t.Select && col.Select
			}
		}
	}
	for _, t := range c.Tables {
		if t.Kind != KindPartitioned {
			continue
		}
		t.Rows, t.Bytes = 0, 0
		for _, leaf := range c.Leaves(t) {
			if leaf.Rows < 0 {
				t.Rows, t.Bytes = -1, -1
				break
			}
			t.Rows, t.Bytes = t.Rows+leaf.Rows, t.Bytes+leaf.Bytes
		}
	}
}
