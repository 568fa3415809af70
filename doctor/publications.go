package doctor

import (
	"slices"
	"strings"

	"banyan/wal"
)

func (e *examination) publications() {
	ours := false
	for _, p := range e.cat.Publications {
		if p.Name == e.opts.Publication {
			ours = true
			e.own(p)
		} else {
			what := plural(len(p.Tables), "table", "tables")
			if p.AllTables {
				what = "all tables"
			}
			e.find(Finding{ID: "publication-exists", Severity: Info, Object: "publication " + p.Name,
				Message: "the publication " + p.Name + " of " + p.Owner + " publishes " + what + " already",
				Why:     "somebody replicates from here; Banyan makes one of its own and leaves this one alone"})
		}
		e.breaking(p)
	}
	if !ours && e.opts.Publication != "" && e.opts.AfterSetup {
		e.find(Finding{ID: "no-publication", Severity: Error, Object: "publication " + e.opts.Publication,
			Message: "the publication " + e.opts.Publication + " does not exist",
			Why:     "it says which tables' changes leave the server; `cdc setup` makes it"})
	}
}

// published lists the tables with rows that the publication covers.
func (e *examination) published(p wal.CatalogPublication) []*wal.CatalogTable {
	var out []*wal.CatalogTable
	for _, t := range e.cat.Tables {
		if t.Kind == wal.KindForeign || t.Kind == wal.KindPartitioned || t.Unlogged {
			continue
		}
		in := p.AllTables
		for up := t; up != nil && !in; up = e.cat.Find(up.PartitionOf) {
			in = slices.Contains(p.Tables, up.FullName())
		}
		if in {
			out = append(out, t)
		}
	}
	return out
}

// breaking looks for tables whose updates and deletes a publication makes the
// server refuse, today.
func (e *examination) breaking(p wal.CatalogPublication) {
	if !p.Update && !p.Delete {
		return
	}
	var broken, fix []string
	for _, t := range e.published(p) {
		if !t.Updatable() {
			broken = append(broken, t.FullName())
			fix = append(fix, e.identityFix(t))
		}
	}
	if broken == nil {
		return
	}
	f := Finding{ID: "publication-breaks-updates", Severity: Warning, Object: "publication " + p.Name,
		Message: "the publication " + p.Name + " holds tables without a replica identity: " + list(broken),
		Why:     "the server refuses every update and delete of them, now, whether or not anybody reads the publication",
		Fix:     fix}
	if p.AllTables {
		f.ID = "all-tables-publication"
		f.Message = "the publication " + p.Name + " is FOR ALL TABLES and so holds tables without a replica identity: " + list(broken)
	}
	e.find(f)
}

// own compares the configured publication with what the configuration needs.
func (e *examination) own(p wal.CatalogPublication) {
	if e.opts.Tables == nil {
		return
	}
	var wrong, fix []string
	alter := "ALTER PUBLICATION " + Quote(p.Name)
	if p.AllTables {
		e.find(Finding{ID: "publication-differs", Severity: Error, Object: "publication " + p.Name,
			Message: "the publication " + p.Name + " is FOR ALL TABLES",
			Why:     "a table made tomorrow without a key would at once lose its updates and deletes; drop it and let `cdc setup` make it anew",
			Fix:     []string{"DROP PUBLICATION " + Quote(p.Name)}})
		return
	}
	var missing []string
	for _, t := range e.cat.Tables {
		_, named := e.opts.Tables[t.FullName()]
		if !named || t.Unlogged || t.Kind == wal.KindForeign {
			continue
		}
		if !slices.Contains(p.Tables, t.FullName()) {
			missing = append(missing, t.FullName())
			fix = append(fix, alter+" ADD TABLE ONLY "+QuoteTable(t))
		} else if slices.Contains(p.Narrowed, t.FullName()) {
			wrong = append(wrong, t.FullName()+" has a row filter or a column list")
			fix = append(fix, alter+" DROP TABLE ONLY "+QuoteTable(t), alter+" ADD TABLE ONLY "+QuoteTable(t))
		}
	}
	if missing != nil {
		wrong = append(wrong, "it lacks "+list(missing))
	}
	if !p.ViaRoot {
		wrong = append(wrong, "partitions are published under their own names")
		fix = append(fix, alter+" SET (publish_via_partition_root = true)")
	}
	if !p.Insert || !p.Update || !p.Delete || !p.Truncate {
		wrong = append(wrong, "it does not publish all of insert, update, delete and truncate")
		fix = append(fix, alter+" SET (publish = 'insert, update, delete, truncate')")
	}
	if wrong != nil {
		e.find(Finding{ID: "publication-differs", Severity: e.setupSeverity(), Object: "publication " + p.Name,
			Message: "the publication " + p.Name + " is not what banyan.yaml needs: " + strings.Join(wrong, "; "),
			Why:     "changes that it does not publish never reach Banyan; `cdc setup` prints the same repair",
			Fix:     fix})
	}
}
