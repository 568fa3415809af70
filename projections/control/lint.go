package control

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// Weight of a finding.
type Weight string

// Weights of findings.
const (
	Fault Weight = "fault" // somebody else can write, or everybody can look
	Info  Weight = "info"  // known to be so: superusers, the runner's login
)

// Finding is something that LintWriters found.
type Finding struct {
	Weight Weight
	Object string // "table shipping_v1.addresses"
	Role   string // who, "PUBLIC" for everybody
	What   string // "may INSERT"
	Way    string // the SQL that takes it back, or what to know about it
}

// String writes the finding in one line.
func (f Finding) String() string {
	return fmt.Sprintf("%s: %s %s on %s: %s", f.Weight, f.Role, f.What, f.Object, f.Way)
}

// LintWriters proves by the catalog that only the owner role can write the
// schemas of a projection (its own and those of its versions, and banyan, which
// the owners of other projections of the same database may write too) and that
// everybody has nothing there: no Fault among the findings is the proof. It
// counts what roles can do, however they came to it: by grants, by ownership, by
// membership, by pg_write_all_data. Superusers can do anything and are listed.
func (s *Store) LintWriters(ctx context.Context, projection string) ([]Finding, error) {
	var all []Finding
	for _, part := range []struct{ what, sql string }{
		{"the owner role", lintOwner},
		{"schemas", lintSchemas},
		{"tables and views", lintRelations},
		{"what everybody may", lintPublic},
		{"default privileges", lintDefaults},
		{"roles", lintRoles},
	} {
		rows, err := s.pool.Query(ctx, lintWith+part.sql, projection, OwnerRole(projection))
		var found []Finding
		if err == nil {
			found, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (f Finding, err error) {
				return f, r.Scan(&f.Weight, &f.Object, &f.Role, &f.What, &f.Way)
			})
		}
		if err != nil {
			return nil, fmt.Errorf("look who can write %s: %s: %w", projection, part.what, err)
		}
		all = append(all, found...)
	}
	slices.SortStableFunc(all, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Weight, b.Weight), cmp.Compare(a.Object, b.Object), cmp.Compare(a.Role, b.Role))
	})
	return all, nil
}

// lintWith says what is looked at ($1 is the projection, $2 its owner role): the
// schemas, and the roles that may write each of them.
const lintWith = `
WITH space AS (
    SELECT n.oid, n.nspname, n.nspowner, n.nspacl FROM pg_namespace n
    WHERE n.nspname IN ('banyan', $1) OR n.nspname ~ ('^' || $1 || '_v[0-9]+$')),
allowed AS (
    SELECT s.oid AS space, r.oid AS role FROM space s JOIN pg_roles r
        ON r.rolname = $2
        OR s.nspname = 'banyan' AND (r.oid = s.nspowner OR r.rolname IN (SELECT v.projection || '_owner' FROM banyan.version v))),
-- Whoever is not allowed, not a superuser (they are listed apart) and not one of
-- the roles that the server brings (their members are).
stranger AS (
    SELECT s.oid AS space, r.oid, r.rolname FROM space s CROSS JOIN pg_roles r
    WHERE NOT r.rolsuper AND r.rolname !~ '^pg_'
        AND NOT EXISTS (SELECT FROM allowed a WHERE a.space = s.oid AND pg_has_role(r.oid, a.role, 'MEMBER')))
`

// A missing owner, and what it should own and does not.
const lintOwner = `
SELECT 'fault', 'role ' || $2, 'nobody', 'is the owner', 'there is no such role, so whoever made the schemas writes them; make the roles'
WHERE to_regrole(quote_ident($2)) IS NULL
UNION ALL
SELECT 'fault', 'schema ' || s.nspname, pg_get_userbyid(s.nspowner), 'is the owner', format('ALTER SCHEMA %I OWNER TO %I;', s.nspname, $2)
FROM space s WHERE to_regrole(quote_ident($2)) IS NOT NULL AND s.nspname <> 'banyan' AND pg_get_userbyid(s.nspowner) <> $2
UNION ALL
SELECT 'fault', format('%I.%I', s.nspname, c.relname), pg_get_userbyid(c.relowner), 'is the owner',
    format('ALTER TABLE %I.%I OWNER TO %I;', s.nspname, c.relname, $2)
FROM space s JOIN pg_class c ON c.relnamespace = s.oid
WHERE to_regrole(quote_ident($2)) IS NOT NULL AND s.nspname <> 'banyan' AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND pg_get_userbyid(c.relowner) <> $2`

const lintSchemas = `
SELECT 'fault', 'schema ' || s.nspname, r.rolname, 'may CREATE', format('REVOKE CREATE ON SCHEMA %I FROM %I;', s.nspname, r.rolname)
FROM space s JOIN stranger r ON r.space = s.oid WHERE has_schema_privilege(r.oid, s.oid, 'CREATE')`

const lintRelations = `
SELECT 'fault', format('%I.%I', s.nspname, c.relname), r.rolname, 'may ' || string_agg(p.name, ', ' ORDER BY p.n),
    CASE WHEN EXISTS (SELECT FROM aclexplode(c.relacl) x WHERE x.grantee = r.oid AND x.privilege_type <> 'SELECT')
        THEN format('REVOKE %s ON %I.%I FROM %I;', string_agg(p.name, ', ' ORDER BY p.n), s.nspname, c.relname, r.rolname)
    WHEN pg_has_role(r.oid, 'pg_write_all_data', 'MEMBER') THEN format('REVOKE pg_write_all_data FROM %I;', r.rolname)
    ELSE 'by ' || coalesce((SELECT string_agg(DISTINCT g.rolname, ', ') FROM (
                SELECT x.grantee FROM aclexplode(c.relacl) x WHERE x.privilege_type <> 'SELECT'
                UNION SELECT x.grantee FROM pg_attribute a, aclexplode(a.attacl) x WHERE a.attrelid = c.oid AND x.privilege_type <> 'SELECT') x
            JOIN pg_roles g ON g.oid = x.grantee WHERE pg_has_role(r.oid, g.oid, 'MEMBER')), 'a grant to PUBLIC or a role it is a member of') END
FROM space s JOIN pg_class c ON c.relnamespace = s.oid AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
JOIN stranger r ON r.space = s.oid
JOIN (VALUES (1, 'INSERT'), (2, 'UPDATE'), (3, 'DELETE'), (4, 'TRUNCATE'), (5, 'TRIGGER'), (6, 'REFERENCES')) p (n, name)
    ON has_table_privilege(r.oid, c.oid, p.name)
    OR p.name IN ('INSERT', 'UPDATE', 'REFERENCES') AND has_any_column_privilege(r.oid, c.oid, p.name)
GROUP BY s.nspname, c.oid, c.relname, c.relacl, r.oid, r.rolname
UNION ALL
SELECT 'info', format('%I.%I', s.nspname, c.relname), r.rolname, 'may SELECT', 'it reads beside the views; a swap does not move it'
FROM space s JOIN pg_class c ON c.relnamespace = s.oid AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
JOIN stranger r ON r.space = s.oid
WHERE s.nspname <> $1 AND has_any_column_privilege(r.oid, c.oid, 'SELECT') AND has_schema_privilege(r.oid, s.oid, 'USAGE')`

const lintPublic = `
SELECT 'fault', 'schema ' || s.nspname, 'PUBLIC', 'has ' || x.privilege_type, format('REVOKE ALL ON SCHEMA %I FROM PUBLIC;', s.nspname)
FROM space s, aclexplode(s.nspacl) x WHERE x.grantee = 0
UNION ALL
SELECT 'fault', format('%I.%I', s.nspname, c.relname), 'PUBLIC', 'may ' || string_agg(DISTINCT x.privilege_type, ', '),
    format('REVOKE ALL ON %I.%I FROM PUBLIC;', s.nspname, c.relname)
FROM space s JOIN pg_class c ON c.relnamespace = s.oid CROSS JOIN LATERAL (
    SELECT * FROM aclexplode(c.relacl)
    UNION ALL SELECT y.* FROM pg_attribute a, aclexplode(a.attacl) y WHERE a.attrelid = c.oid) x
WHERE x.grantee = 0 GROUP BY s.nspname, c.relname
UNION ALL
SELECT 'fault', 'function ' || p.oid::regprocedure, 'PUBLIC', 'may EXECUTE', format('REVOKE ALL ON FUNCTION %s FROM PUBLIC;', p.oid::regprocedure)
FROM space s JOIN pg_proc p ON p.pronamespace = s.oid
CROSS JOIN LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) x WHERE x.grantee = 0`

const lintDefaults = `
SELECT 'fault', CASE d.defaclnamespace WHEN 0 THEN 'tables to come, in all schemas' ELSE 'tables to come in schema ' || d.defaclnamespace::regnamespace END,
    CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(x.grantee) END, 'will have ' || x.privilege_type,
    format('ALTER DEFAULT PRIVILEGES FOR ROLE %I %s REVOKE %s ON TABLES FROM %s;', pg_get_userbyid(d.defaclrole),
        CASE d.defaclnamespace WHEN 0 THEN '' ELSE 'IN SCHEMA ' || d.defaclnamespace::regnamespace END, x.privilege_type,
        CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END)
FROM pg_default_acl d CROSS JOIN LATERAL aclexplode(d.defaclacl) x
WHERE d.defaclobjtype = 'r' AND (d.defaclnamespace IN (SELECT oid FROM space) OR d.defaclnamespace = 0 AND pg_get_userbyid(d.defaclrole) = $2)
    AND (x.grantee = 0 OR x.privilege_type <> 'SELECT' AND pg_get_userbyid(x.grantee) <> $2 AND NOT EXISTS (
        SELECT FROM allowed a WHERE a.space = d.defaclnamespace AND a.role = x.grantee))`

// Who can be the owner: its members. One login is the projector; where we are
// that one ourselves, all others are too many.
const lintRoles = `
, member AS (
    SELECT r.rolname, r.rolname = session_user AS me, count(*) OVER () AS n, bool_or(r.rolname = session_user) OVER () AS among
    FROM pg_roles r WHERE r.rolcanlogin AND NOT r.rolsuper AND to_regrole(quote_ident($2)) IS NOT NULL
        AND pg_has_role(r.oid, to_regrole(quote_ident($2)), 'MEMBER'))
SELECT CASE WHEN m.me OR NOT m.among AND m.n = 1 THEN 'info' ELSE 'fault' END, 'role ' || $2, m.rolname, 'writes as a member',
    CASE WHEN m.me OR NOT m.among AND m.n = 1 THEN 'it is the login of the projector' ELSE format('REVOKE %I FROM %I;', $2, m.rolname) END
FROM member m
UNION ALL
SELECT 'info', 'everything', r.rolname, 'is a superuser', 'no grant holds it back' FROM pg_roles r WHERE r.rolsuper
UNION ALL
SELECT 'info', 'roles', r.rolname, 'may make roles', 'before Postgres 16 it can make itself a member of any that is no superuser'
FROM pg_roles r WHERE r.rolcreaterole AND NOT r.rolsuper`
