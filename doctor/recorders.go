package doctor

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"banyan/wal"
)

// Record says what a table that is no business entity seems to hold.
type Record string

// What tables record besides the business itself.
const (
	NoRecord  Record = ""
	Outbox    Record = "outbox"    // events that the application writes on purpose
	Audit     Record = "audit"     // who changed what, often by trigger
	Technical Record = "technical" // migrations, sessions, jobs, idempotency keys
)

var (
	outboxName    = regexp.MustCompile(`(^|_)(outbox|inbox|event_store|eventstore|domain_events?|event_log|outbox_(events?|messages?))$`)
	auditName     = regexp.MustCompile(`(^|_)(audit|audits|audit_log|audit_logs|audit_trail|logged_actions|versions|history|changelog|change_log)$`)
	technicalName = regexp.MustCompile(`^(schema_migrations?|goose_db_version|flyway_schema_history|ar_internal_metadata|databasechangelog(lock)?|django_migrations|alembic_version|knex_migrations(_lock)?|_prisma_migrations|sessions?|django_session|oban_jobs|delayed_jobs|river_job|que_jobs|idempotency_keys?|access_logs?|request_logs?)$`)
	writes        = regexp.MustCompile(`(?is)\b(?:insert\s+into|update|delete\s+from|merge\s+into)\s+(?:only\s+)?((?:"[^"]+"|[a-z_][\w$]*)(?:\s*\.\s*(?:"[^"]+"|[a-z_][\w$]*))?)`)
	sqlNoise      = regexp.MustCompile(`(?s)--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'`)
)

// Records guesses from names and columns whether the table records events or
// changes, or only serves the application; reason says by what.
func Records(t *wal.CatalogTable) (what Record, reason string) {
	name := strings.ToLower(t.Name)
	has := func(names ...string) bool {
		for _, n := range names {
			if !slices.ContainsFunc(t.Columns, func(c wal.CatalogColumn) bool {
				return strings.EqualFold(strings.ReplaceAll(c.Name, "_", ""), n)
			}) {
				return false
			}
		}
		return true
	}
	switch {
	case technicalName.MatchString(name):
		return Technical, "its name " + t.Name
	case outboxName.MatchString(name):
		return Outbox, "its name " + t.Name
	case has("aggregatetype", "aggregateid"), has("eventtype", "payload"), has("eventtype", "eventdata"):
		return Outbox, "its columns of an event"
	case auditName.MatchString(name):
		return Audit, "its name " + t.Name
	case has("tablename", "action"), has("tablename", "operation"), has("oldrow", "newrow"), has("olddata", "newdata"), has("oldvalues", "newvalues"):
		return Audit, "its columns of a recorded change"
	}
	return NoRecord, ""
}

// WritesOf lists the tables that a trigger's body seems to write to, as it
// names them, sorted. known is false where the body cannot be read.
func WritesOf(tg wal.Trigger) (tables []string, known bool) {
	if tg.Language != "plpgsql" && tg.Language != "sql" {
		return nil, false
	}
	for _, m := range writes.FindAllStringSubmatch(sqlNoise.ReplaceAllString(tg.Source, " "), -1) {
		name := strings.ReplaceAll(m[1], `"`, "")
		if w := strings.ToLower(name); w == "set" || w == "of" || w == "skip" || w == "nowait" || slices.Contains(tables, name) {
			continue // "FOR UPDATE SKIP LOCKED", "DO UPDATE SET"
		}
		tables = append(tables, name)
	}
	slices.Sort(tables)
	return tables, true
}

// recorders looks for what already writes down what happens.
func (e *examination) recorders(t *wal.CatalogTable) {
	full := t.FullName()
	switch what, reason := Records(t); what {
	case Outbox:
		e.find(Finding{ID: "outbox-table", Severity: Info, Object: full,
			Message: full + " seems to hold events that the application writes itself, by " + reason,
			Why:     "events made from the rows beside it would tell the same facts twice; init leaves it out, compare the two before you choose"})
	case Audit:
		e.find(Finding{ID: "audit-table", Severity: Info, Object: full,
			Message: full + " seems to record changes of other tables, by " + reason,
			Why:     "its rows repeat what the WAL tells already; init leaves it out"})
	}
	for _, tg := range t.Triggers {
		if !tg.Enabled {
			continue
		}
		to, known := WritesOf(tg)
		if !known {
			e.unseen = append(e.unseen, fmt.Sprintf("what the trigger %s on %s does: its function %s is written in %s", tg.Name, full, tg.Function, tg.Language))
		}
		if len(to) > 0 {
			e.find(Finding{ID: "trigger-writes", Severity: Info, Object: full,
				Message: fmt.Sprintf("the trigger %s on %s writes to %s", tg.Name, full, list(to)),
				Why:     "these rows stand in the same transaction as the change that fired it: a rule must absorb or ignore them where their table is captured"})
		}
	}
}
