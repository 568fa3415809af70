// Package doctor says whether Banyan may read a database, and what reading it
// would do to that database. It looks only at a wal.Catalog, so it changes
// nothing and asks nothing more of the server; what the catalog could not show
// is said, never guessed.
//
// A finding names one trait of the database, why it matters, and the SQL that
// would change it, where there is one. Nothing here runs that SQL: the owner of
// the tables does, after reading it.
package doctor

import (
	"cmp"
	"slices"
	"strings"

	"banyan/wal"
)

// Severity says what a finding means for going on.
type Severity string

// An Error must be dealt with before a run, a Warning should be understood, an
// Info is good to know.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
	Info    Severity = "info"
)

// Verdict is the short answer of a Report.
type Verdict string

// The verdicts. Infos alone leave a database Ready.
const (
	Ready             Verdict = "ready"
	ReadyWithWarnings Verdict = "ready-with-warnings"
	Blocked           Verdict = "blocked"
)

// Finding is one trait that matters. ID is stable and lower-case with dashes;
// Object is what it is about: "public.orders", "server", "role cdc". Fix holds
// statements to be run in order; a line that starts with "--" says what has to
// happen between them. Fix is empty where there is nothing to change, or where
// the change is in the configuration and Message says so.
type Finding struct {
	ID       string   `json:"id"`
	Severity Severity `json:"severity"`
	Object   string   `json:"object"`
	Message  string   `json:"message"`
	Why      string   `json:"why"`
	Fix      []string `json:"fix"`
}

// Report is what Examine found. In JSON, which is its documented shape:
//
//	{"verdict": "ready|ready-with-warnings|blocked",
//	 "server": "15.18", "database": "shop", "role": "cdc",
//	 "tables": 20, "errors": 0, "warnings": 1, "infos": 3,
//	 "findings": [{"id", "severity": "error|warning|info", "object", "message", "why", "fix": ["SQL"]}],
//	 "unseen": ["what could not be looked at, and why"]}
//
// Findings come in the order error, warning, info, then by object and id.
// findings, fix and unseen are never null.
type Report struct {
	Verdict  Verdict   `json:"verdict"`
	Server   string    `json:"server"`
	Database string    `json:"database"`
	Role     string    `json:"role"`
	Tables   int       `json:"tables"`
	Errors   int       `json:"errors"`
	Warnings int       `json:"warnings"`
	Infos    int       `json:"infos"`
	Findings []Finding `json:"findings"`
	Unseen   []string  `json:"unseen"`
}

// Use says how the configuration uses a table.
type Use struct {
	Columns []string // nil means all that the WAL carries
	// Key names the columns that the rules tell rows apart by; nil means the
	// table's own key.
	Key []string
}

// Options say what the database is going to be used for.
type Options struct {
	// Tables are those that the configuration captures, by full name. nil
	// means that there is no configuration yet: then every table of the user
	// is looked at as one that might be captured, and no trait of a table
	// blocks, because init leaves such a table out.
	Tables map[string]Use
	// Slot and Publication are the configured names, or "".
	Slot, Publication string
	// AfterSetup says that setup has been run: a right or publication that it
	// makes and that is missing is then an error and not a warning.
	AfterSetup bool
}

// Examine looks at the catalog and reports. It never fails: a captured table
// that does not exist is a finding too.
func Examine(cat *wal.Catalog, opts Options) Report {
	e := &examination{cat: cat, opts: opts}
	e.server()
	if cat.Version >= oldestServer {
		e.replication()
		e.role()
		e.tables()
		e.publications()
	}
	r := Report{Server: cat.VersionText, Database: cat.Database, Role: cat.Role.Name, Tables: len(cat.Tables),
		Findings: e.findings, Unseen: append(slices.Clone(cat.Unseen), e.unseen...), Verdict: Ready}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(a.Severity.rank()-b.Severity.rank(), strings.Compare(a.Object, b.Object), strings.Compare(a.ID, b.ID))
	})
	for i := range r.Findings {
		if r.Findings[i].Fix == nil {
			r.Findings[i].Fix = []string{}
		}
		switch r.Findings[i].Severity {
		case Error:
			r.Errors++
		case Warning:
			r.Warnings++
		default:
			r.Infos++
		}
	}
	switch {
	case r.Errors > 0:
		r.Verdict = Blocked
	case r.Warnings > 0:
		r.Verdict = ReadyWithWarnings
	}
	if r.Findings == nil {
		r.Findings = []Finding{}
	}
	if r.Unseen == nil {
		r.Unseen = []string{}
	}
	return r
}

func (s Severity) rank() int { return slices.Index([]Severity{Error, Warning, Info}, s) }

// examination collects the findings of one Examine.
type examination struct {
	cat      *wal.Catalog
	opts     Options
	findings []Finding
	unseen   []string
}

func (e *examination) find(f Finding) { e.findings = append(e.findings, f) }

// use returns how the table is captured. Partitions are captured through their
// root.
func (e *examination) use(t *wal.CatalogTable) (Use, bool) {
	if u, ok := e.opts.Tables[t.FullName()]; ok {
		return u, true
	}
	u, ok := e.opts.Tables[t.Root]
	return u, ok && t.Root != ""
}

// severity of a trait that must not be on a captured table: an error where the
// configuration names the table, a note where it leaves it out, and a warning
// while there is none.
func (e *examination) severity(t *wal.CatalogTable) Severity {
	if e.opts.Tables == nil {
		return Warning
	}
	if _, captured := e.use(t); captured {
		return Error
	}
	return Info
}

// setupSeverity is that of what setup makes.
func (e *examination) setupSeverity() Severity {
	if e.opts.AfterSetup {
		return Error
	}
	return Warning
}

// wanted reports whether the table is, or might become, one to capture.
func (e *examination) wanted(t *wal.CatalogTable) bool {
	if t.Extension != "" || t.Kind == wal.KindForeign {
		return false
	}
	if e.opts.Tables == nil {
		return true
	}
	_, captured := e.use(t)
	return captured
}

// list writes names for people: the first ten, and how many more.
func list(names []string) string {
	const most = 10
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return strings.Join(names[:most], ", ") + " and " + plural(len(names)-most, "more", "more")
}
