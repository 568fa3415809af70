package wal

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// grants is what a role has in the connected database.
type grants struct {
	exists, superuser, login, replication bool
	mayCreateRoles                        bool // the role that asks, not the one looked at
	connect                               bool
	usage                                 map[string]bool    // schemas it may look into, however granted
	readable                              map[columnRef]bool // columns it may read, however granted
	tables                                map[uint32]bool    // tables with SELECT granted to it by name
	columns                               map[columnRef]bool // columns with SELECT granted to it by name

	granted         []string // tables with any grant to it by name, quoted
	grantedSchemas  []string
	grantedDatabase bool
	elsewhere       bool // other databases know it
}

func readGrants(ctx context.Context, conn *pgx.Conn, role string) (*grants, error) {
	g := &grants{usage: map[string]bool{}, readable: map[columnRef]bool{}, tables: map[uint32]bool{}, columns: map[columnRef]bool{}}
	var oid uint32
	err := conn.QueryRow(ctx, `
		SELECT coalesce(r.oid, 0), coalesce(r.rolsuper, false), coalesce(r.rolcanlogin, false), coalesce(r.rolreplication, false),
		       coalesce(has_database_privilege(r.oid, current_database(), 'CONNECT'), false),
		       (SELECT rolcreaterole OR rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user),
		       EXISTS (SELECT FROM pg_catalog.pg_shdepend d WHERE d.refclassid = 'pg_catalog.pg_authid'::regclass AND d.refobjid = r.oid
		         AND d.dbid <> 0 AND d.dbid <> (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())),
		       EXISTS (SELECT FROM pg_catalog.pg_database b, aclexplode(b.datacl) x WHERE b.datname = current_database() AND x.grantee = r.oid)
		FROM (SELECT) one LEFT JOIN pg_catalog.pg_roles r ON r.rolname = $1`, role).
		Scan(&oid, &g.superuser, &g.login, &g.replication, &g.connect, &g.mayCreateRoles, &g.elsewhere, &g.grantedDatabase)
	if err != nil {
		return nil, fmt.Errorf("read role %q: %w", role, err)
	}
	if oid == 0 {
		return g, nil
	}
	g.exists = true
	for _, part := range []func(context.Context, *pgx.Conn, uint32) error{g.readSchemas, g.readTables, g.readColumns} {
		if err := part(ctx, conn, oid); err != nil {
			return nil, fmt.Errorf("read the grants of role %q: %w", role, err)
		}
	}
	return g, nil
}

const notSystem = `n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'`

func (g *grants) readSchemas(ctx context.Context, conn *pgx.Conn, role uint32) error {
	rows, err := conn.Query(ctx, `
		SELECT n.nspname::text, has_schema_privilege($1::oid, n.oid, 'USAGE'),
		       EXISTS (SELECT FROM aclexplode(n.nspacl) x WHERE x.grantee = $1)
		FROM pg_catalog.pg_namespace n WHERE `+notSystem+` ORDER BY 1`, role)
	if err != nil {
		return err
	}
	var name string
	var usage, direct bool
	_, err = pgx.ForEachRow(rows, []any{&name, &usage, &direct}, func() error {
		g.usage[name] = usage
		if direct {
			g.grantedSchemas = append(g.grantedSchemas, name)
		}
		return nil
	})
	return err
}

func (g *grants) readTables(ctx context.Context, conn *pgx.Conn, role uint32) error {
	rows, err := conn.Query(ctx, `
		SELECT c.oid, n.nspname::text, c.relname::text,
		       EXISTS (SELECT FROM aclexplode(c.relacl) x WHERE x.grantee = $1 AND x.privilege_type = 'SELECT')
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND `+notSystem+`
		  AND (EXISTS (SELECT FROM aclexplode(c.relacl) x WHERE x.grantee = $1)
		    OR EXISTS (SELECT FROM pg_catalog.pg_attribute a, aclexplode(a.attacl) x WHERE a.attrelid = c.oid AND x.grantee = $1))
		ORDER BY 2, 3`, role)
	if err != nil {
		return err
	}
	var oid uint32
	var schema, name string
	var whole bool
	_, err = pgx.ForEachRow(rows, []any{&oid, &schema, &name, &whole}, func() error {
		g.tables[oid] = whole
		g.granted = append(g.granted, quote(schema, name))
		return nil
	})
	return err
}

func (g *grants) readColumns(ctx context.Context, conn *pgx.Conn, role uint32) error {
	rows, err := conn.Query(ctx, `
		SELECT a.attrelid, a.attname::text, has_column_privilege($1::oid, a.attrelid, a.attnum, 'SELECT'),
		       EXISTS (SELECT FROM aclexplode(a.attacl) x WHERE x.grantee = $1 AND x.privilege_type = 'SELECT')
		FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
		JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped AND `+notSystem, role)
	if err != nil {
		return err
	}
	var ref columnRef
	var readable, direct bool
	_, err = pgx.ForEachRow(rows, []any{&ref.table, &ref.name, &readable, &direct}, func() error {
		if readable {
			g.readable[ref] = true
		}
		if direct {
			g.columns[ref] = true
		}
		return nil
	})
	return err
}
