package control

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// OwnerRole is the name of the role that owns a projection's schemas and alone
// writes them: "shipping_owner".
func OwnerRole(projection string) string { return projection + "_owner" }

// ReaderRole is the name of the role that reads a projection's views and waits
// for tokens: "shipping_reader".
func ReaderRole(projection string) string { return projection + "_reader" }

// rolesSQL has names in angle brackets where those of a projection belong: plain
// ones as identifiers, those with ' as texts.
const rolesSQL = `-- The owner writes <p>; nobody else does. The reader reads its views.
DO $banyan$
BEGIN
    IF to_regrole(<'owner>) IS NULL THEN
        CREATE ROLE <owner> NOLOGIN;
    END IF;
    IF to_regrole(<'reader>) IS NULL THEN
        CREATE ROLE <reader> NOLOGIN;
    END IF;
END
$banyan$;
-- CREATE: each version of the projection gets a schema of its own.
GRANT CONNECT, CREATE, TEMPORARY ON DATABASE <database> TO <owner>;
GRANT CONNECT ON DATABASE <database> TO <reader>;
CREATE SCHEMA IF NOT EXISTS banyan AUTHORIZATION <owner>;
CREATE SCHEMA IF NOT EXISTS <p> AUTHORIZATION <owner>;
DO $banyan$
DECLARE
    r record;
BEGIN
    -- What another role has made before becomes the owner's.
    FOR r IN SELECT n.nspname FROM pg_namespace n
        WHERE n.nspname ~ ('^' || <'p> || '(_v[0-9]+)?$') AND n.nspowner <> <'owner>::regrole LOOP
        EXECUTE format('ALTER SCHEMA %I OWNER TO %I', r.nspname, <'owner>);
    END LOOP;
    FOR r IN SELECT c.oid::regclass AS name, c.relkind FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname ~ ('^' || <'p> || '(_v[0-9]+)?$') AND c.relkind IN ('r', 'p', 'v', 'm') AND c.relowner <> <'owner>::regrole LOOP
        EXECUTE format('ALTER %s %s OWNER TO %I',
            CASE r.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'TABLE' END, r.name, <'owner>);
    END LOOP;
    -- Several projections of one database share schema banyan: the owner of the
    -- first one owns it, the others work in it.
    SELECT n.nspowner::regrole AS owner INTO r FROM pg_namespace n WHERE n.nspname = 'banyan';
    IF r.owner <> <'owner>::regrole THEN
        GRANT USAGE ON SCHEMA banyan TO <owner>;
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA banyan TO <owner>;
        GRANT USAGE ON ALL SEQUENCES IN SCHEMA banyan TO <owner>;
        GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA banyan TO <owner>;
        EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %s IN SCHEMA banyan GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO %I', r.owner, <'owner>);
        EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %s IN SCHEMA banyan GRANT USAGE ON SEQUENCES TO %I', r.owner, <'owner>);
        EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %s IN SCHEMA banyan GRANT EXECUTE ON FUNCTIONS TO %I', r.owner, <'owner>);
    END IF;
    FOR r IN SELECT p.oid::regprocedure AS name FROM pg_proc p WHERE p.pronamespace = 'banyan'::regnamespace
        AND p.proname IN (<functions>) LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', r.name, <'reader>);
    END LOOP;
END
$banyan$;
REVOKE ALL ON SCHEMA banyan, <p> FROM PUBLIC;
GRANT USAGE ON SCHEMA banyan, <p> TO <reader>;
GRANT SELECT ON ALL TABLES IN SCHEMA <p> TO <reader>;
`

// readerFunctions are those of schema banyan that readers may call.
const readerFunctions = `'wait', 'passed', 'age', 'passed_parts', 'passed_mark', 'missing', 'parse_token', 'print_token'`

// RolesSQL is the text that makes both roles and the schemas with just the
// rights that they need in a database. It can be run again, before or after the
// projection was made; schemas and tables that another role has made become the
// owner's. login, where it is not "", is the existing role that the projector
// connects as: it becomes a member of the owner.
func RolesSQL(projection, database, login string) string {
	id := func(name string) string { return pgx.Identifier{name}.Sanitize() }
	text := func(name string) string { return string(appendQuoted(nil, name)) }
	sql := strings.NewReplacer(
		"<p>", id(projection), "<'p>", text(projection), "<database>", id(database),
		"<owner>", id(OwnerRole(projection)), "<'owner>", text(OwnerRole(projection)),
		"<reader>", id(ReaderRole(projection)), "<'reader>", text(ReaderRole(projection)),
		"<functions>", readerFunctions).Replace(rolesSQL)
	if login != "" {
		sql += "GRANT " + id(OwnerRole(projection)) + " TO " + id(login) + ";\n"
	}
	return sql
}

// ApplyRoles runs RolesSQL, in one transaction; it needs a superuser, or the
// database's owner where that one may make roles.
func (s *Store) ApplyRoles(ctx context.Context, projection, login string) error {
	if err := CheckName(projection); err != nil {
		return err
	}
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var database string
		if err := tx.QueryRow(ctx, `SELECT current_database()`).Scan(&database); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, RolesSQL(projection, database, login))
		return err
	})
	if insufficient(err) {
		return fmt.Errorf("make the roles of %s: this role may not; connect as a superuser for it: %w", projection, err)
	}
	if err != nil {
		return fmt.Errorf("make the roles of %s: %w", projection, err)
	}
	return nil
}

// grantReader lets the reader role look at the views and wait, where there is
// such a role: a view that was made anew has lost its grants.
func grantReader(ctx context.Context, tx pgx.Tx, projection string) error {
	var there, banyan bool
	if err := tx.QueryRow(ctx, `SELECT to_regrole(quote_ident($1)) IS NOT NULL,
			pg_has_role(current_user, (SELECT nspowner FROM pg_namespace WHERE nspname = 'banyan'), 'USAGE')`, ReaderRole(projection)).Scan(&there, &banyan); err != nil {
		return fmt.Errorf("look for the reader role of %s: %w", projection, err)
	}
	if !there {
		return nil
	}
	schema, role := pgx.Identifier{projection}.Sanitize(), pgx.Identifier{ReaderRole(projection)}.Sanitize()
	sql := "GRANT USAGE ON SCHEMA " + schema + " TO " + role + "; GRANT SELECT ON ALL TABLES IN SCHEMA " + schema + " TO " + role
	if banyan {
		sql += "; GRANT USAGE ON SCHEMA banyan TO " + role + `; DO $$ DECLARE r record; BEGIN
			FOR r IN SELECT p.oid::regprocedure AS name FROM pg_proc p WHERE p.pronamespace = 'banyan'::regnamespace AND p.proname IN (` + readerFunctions + `) LOOP
				EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO ` + role + `', r.name);
			END LOOP; END $$`
	}
	if _, err := tx.Exec(ctx, sql); err != nil {
		return fmt.Errorf("grant the views of %s to its reader: %w", projection, err)
	}
	return nil
}
