package doctor

import (
	"fmt"
	"strconv"

	"banyan/wal"
)

// oldestServer is the oldest version whose logical replication Banyan uses.
const oldestServer = 140000

// restart and reload are what has to happen for a changed setting to count.
const (
	restart = "-- restart the server"
	reload  = "SELECT pg_reload_conf()"
)

// A run holds one slot and one walsender; verify, for a moment, one more.
const slotsForRun, slotsForVerify = 1, 2

func (e *examination) server() {
	c := e.cat
	if c.Version < oldestServer {
		e.find(Finding{ID: "server-version", Severity: Error, Object: "server",
			Message: "the server is version " + c.VersionText + "; 14 is the oldest that works",
			Why:     "publications of partitioned tables and safe slots came with 13 and 14; upgrade the server first"})
	}
	if c.InRecovery {
		e.find(Finding{ID: "standby", Severity: Error, Object: "server",
			Message: "this server is a standby; give the address of the primary",
			Why:     "a publication can only be made on the primary, and a slot of a standby is lost with it"})
	}
	if c.Settings["server_encoding"] == "SQL_ASCII" {
		e.find(Finding{ID: "encoding", Severity: Warning, Object: "database " + c.Database,
			Message: "the database's encoding is SQL_ASCII",
			Why:     "its texts may hold any bytes; a value that is not UTF-8 cannot become JSON and will stop the run"})
	}
}

// number reads a setting; ok is false where it could not be seen.
func (e *examination) number(name string) (n int, ok bool) {
	n, err := strconv.Atoi(e.cat.Settings[name])
	return n, err == nil
}

func (e *examination) replication() {
	c := e.cat
	if level := c.Settings["wal_level"]; level != "logical" {
		e.find(Finding{ID: "wal-level", Severity: Error, Object: "server",
			Message: fmt.Sprintf("wal_level is %q, not logical", level),
			Why:     "only at wal_level=logical does the WAL carry enough to tell which row changed; it writes a little more WAL",
			Fix:     []string{"ALTER SYSTEM SET wal_level = 'logical'", restart}})
	}
	e.slots()
	if most, ok := e.number("max_wal_senders"); ok {
		e.room("senders", "max_wal_senders", "walsender", c.SendersUsed, most)
	}
	if ms, ok := e.number("wal_sender_timeout"); ok && ms == 0 {
		e.find(Finding{ID: "sender-timeout", Severity: Warning, Object: "server",
			Message: "wal_sender_timeout is 0",
			Why:     "a run whose network vanished keeps its slot taken until TCP gives up, which can be hours; its successor cannot start",
			Fix:     []string{"ALTER SYSTEM SET wal_sender_timeout = '60s'", reload}})
	}
	switch size := c.Settings["max_slot_wal_keep_size"]; size {
	case "":
	case "-1":
		e.find(Finding{ID: "wal-unlimited", Severity: Info, Object: "server",
			Message: "max_slot_wal_keep_size is -1: a slot that nobody reads keeps WAL until the disk is full",
			Why:     "a limit protects the monolith and costs the slot when it is passed; choose one that your disk bears",
			Fix:     []string{"ALTER SYSTEM SET max_slot_wal_keep_size = '50GB'", reload}})
	default:
		e.find(Finding{ID: "wal-limited", Severity: Info, Object: "server",
			Message: "max_slot_wal_keep_size is " + size + " MB",
			Why:     "a run that falls further behind loses its slot, and the tables have to be read again to repair that"})
	}
	if names := c.Settings["synchronous_standby_names"]; names != "" {
		e.find(Finding{ID: "synchronous-standby", Severity: Info, Object: "server",
			Message: "commits wait for synchronous standbys: " + names,
			Why: "a commit is in the WAL before it can be seen, so an event can be read a moment before its row; " +
				"never name Banyan's connection there, or the monolith waits for Banyan"})
	}
}

// slots looks at the configured slot and at the room for one.
func (e *examination) slots() {
	c := e.cat
	used := len(c.Slots)
	for _, s := range c.Slots {
		if s.Name != e.opts.Slot || s.Name == "" {
			continue
		}
		used-- // it is ours
		drop := []string{"SELECT pg_drop_replication_slot(" + literal(s.Name) + ")"}
		switch {
		case s.Plugin != "pgoutput" || s.Database != c.Database:
			e.find(Finding{ID: "slot-taken", Severity: Error, Object: "slot " + s.Name,
				Message: fmt.Sprintf("the slot %s exists and is not ours: plugin %q, database %q", s.Name, s.Plugin, s.Database),
				Why:     "somebody else reads it; choose another name in source.slot"})
		case s.WALStatus == "lost":
			e.find(Finding{ID: "slot-lost", Severity: Error, Object: "slot " + s.Name,
				Message: "the server has removed WAL that the slot " + s.Name + " still needed",
				Why:     "the changes in it cannot be read any more; the tables have to be read again under a new slot",
				Fix:     drop})
		}
	}
	if most, ok := e.number("max_replication_slots"); ok {
		e.room("slots", "max_replication_slots", "replication slot", used, most)
	}
}

// room looks for free slots or senders.
func (e *examination) room(id, setting, what string, used, most int) {
	free := most - used
	if free >= slotsForVerify {
		return
	}
	f := Finding{ID: id, Severity: Warning, Object: "server",
		Message: fmt.Sprintf("%d of %d %ss are in use: one is left", used, most, what),
		Why:     "a run needs one; verify needs one more for a moment, and has to wait",
		Fix:     []string{fmt.Sprintf("ALTER SYSTEM SET %s = %d", setting, used+slotsForVerify+2), restart}}
	if free < slotsForRun {
		f.Severity = Error
		f.Message = fmt.Sprintf("%d of %d %ss are in use: none is left", used, most, what)
		f.Why = "a run needs one, and verify one more for a moment"
	}
	e.find(f)
}

// role looks at the rights of the connection's role, which is taken for the one
// that runs.
func (e *examination) role() {
	c := e.cat
	role, object := Quote(c.Role.Name), "role "+c.Role.Name
	if !c.Role.Superuser {
		e.unseen = append(e.unseen, "transactions of other roles: a long-open one delays the making of the slot")
	}
	e.unseen = append(e.unseen, "pg_hba.conf: whether it lets a replication connection of role "+c.Role.Name+" in")
	if !c.Role.Replication && !c.Role.Superuser {
		e.find(Finding{ID: "role-replication", Severity: e.setupSeverity(), Object: object,
			Message: "the role " + c.Role.Name + " lacks REPLICATION",
			Why:     "only such a role may read the WAL; setup makes one (on Amazon RDS: GRANT rds_replication instead)",
			Fix:     []string{"ALTER ROLE " + role + " REPLICATION"}})
	}
	if !c.Role.Connect {
		e.find(Finding{ID: "role-connect", Severity: e.setupSeverity(), Object: object,
			Message: "the role " + c.Role.Name + " lacks CONNECT on the database " + c.Database,
			Why:     "the next connection would be refused; setup grants it",
			Fix:     []string{"GRANT CONNECT ON DATABASE " + Quote(c.Database) + " TO " + role}})
	}
	e.reading(role)
	e.owning(object)
}

// reading groups by schema what the role may not read.
func (e *examination) reading(role string) {
	type gap struct{ tables, grants []string }
	gaps := map[string]*gap{}
	var schemas []string
	for _, t := range e.cat.Tables {
		if !e.wanted(t) || t.Root != "" {
			continue
		}
		g := gaps[t.Schema]
		if g == nil {
			g = &gap{}
			gaps[t.Schema] = g
			schemas = append(schemas, t.Schema)
		}
		if grant := e.missingSelect(t, role); grant != "" {
			g.tables, g.grants = append(g.tables, t.Name), append(g.grants, grant)
		}
	}
	for _, s := range schemas {
		if usage, known := e.cat.Role.SchemaUsage[s]; known && !usage {
			e.find(Finding{ID: "schema-usage", Severity: e.setupSeverity(), Object: "schema " + s,
				Message: "the role " + e.cat.Role.Name + " lacks USAGE on the schema " + s,
				Why:     "without it no table in it can be read for the first snapshot; setup grants it",
				Fix:     []string{"GRANT USAGE ON SCHEMA " + Quote(s) + " TO " + role}})
		}
		if g := gaps[s]; g.tables != nil {
			e.find(Finding{ID: "table-select", Severity: e.setupSeverity(), Object: "schema " + s,
				Message: fmt.Sprintf("the role %s may not read %s of the schema %s: %s",
					e.cat.Role.Name, plural(len(g.tables), "table", "tables"), s, list(g.tables)),
				Why: "the first snapshot, preview and verify read them, and init looks at the values of their status columns; setup grants it",
				Fix: g.grants})
		}
	}
}

// missingSelect returns the grant that the role lacks to read the table, or "".
func (e *examination) missingSelect(t *wal.CatalogTable, role string) string {
	u, captured := e.use(t)
	if !captured || u.Columns == nil {
		if t.Select {
			return ""
		}
		return "GRANT SELECT ON " + QuoteTable(t) + " TO " + role
	}
	for _, name := range u.Columns {
		if c := t.Column(name); c != nil && !c.Select {
			return "GRANT SELECT (" + quoteAll(u.Columns) + ") ON " + QuoteTable(t) + " TO " + role
		}
	}
	return ""
}

// owning says who has to run setup.
func (e *examination) owning(object string) {
	for _, p := range e.cat.Publications {
		if p.Name == e.opts.Publication {
			return // made already
		}
	}
	if e.cat.Role.Superuser {
		return
	}
	var others []string
	for _, t := range e.cat.Tables {
		if e.wanted(t) && t.Root == "" && !t.Owned {
			others = append(others, t.FullName())
		}
	}
	if others != nil {
		e.find(Finding{ID: "publication-owner", Severity: Info, Object: object,
			Message: fmt.Sprintf("the role %s does not own %s: %s", e.cat.Role.Name, plural(len(others), "table", "tables"), list(others)),
			Why:     "only an owner with CREATE on the database, or a superuser, may publish a table: let one run what `cdc setup --print-sql` prints"})
	}
}
