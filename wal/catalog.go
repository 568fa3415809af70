package wal

import (
	"fmt"
	"slices"
	"sort"
	"strings"
)

// Catalog is what a database says of itself: its server, the role that asks,
// its tables with their keys, and who already reads its WAL. It is a picture of
// one moment and holds no row of the user's.
type Catalog struct {
	Version     int    // server_version_num, for example 150018
	VersionText string // "15.18"
	Database    string
	// InRecovery is true on a standby.
	InRecovery bool
	// Settings holds the settings that matter here, in the units of
	// pg_settings; one that the role may not read is absent.
	Settings map[string]string
	Role     CatalogRole
	// Tables are the tables of the user's schemas, those of extensions and
	// foreign tables included, in the order of their full names.
	Tables       []*CatalogTable
	Publications []CatalogPublication
	Slots        []CatalogSlot // of all databases of the server
	// SendersUsed counts the walsenders of the whole server.
	SendersUsed int
	// Unseen says, a sentence each, what could not be looked at and why.
	Unseen []string
}

// CatalogRole is the role that the connection runs as.
type CatalogRole struct {
	Name      string
	Superuser bool
	// Replication is true also for a member of rds_replication, which is how
	// Amazon RDS grants it.
	Replication bool
	BypassRLS   bool
	// Connect and Create are the privileges on the database.
	Connect, Create bool
	// SchemaUsage lists the user schemas that the role may look into, by name.
	SchemaUsage map[string]bool
}

// TableKind says how a table stands to others.
type TableKind string

// The kinds of tables. A partitioned table that is itself a partition is
// KindPartitioned; its PartitionOf is set.
const (
	KindOrdinary    TableKind = "ordinary"
	KindPartitioned TableKind = "partitioned"
	KindPartition   TableKind = "partition"
	KindForeign     TableKind = "foreign"
)

// CatalogTable is one table. Full names are "schema.name", unquoted.
type CatalogTable struct {
	OID    uint32
	Schema string
	Name   string
	Owner  string
	Kind   TableKind
	// PartitionOf is the direct parent of a partition, Root the topmost one.
	PartitionOf string
	Root        string
	// Inherits lists the parents by old-style inheritance, InheritedBy the
	// direct children.
	Inherits    []string
	InheritedBy []string
	Unlogged    bool
	// Extension is the extension that owns the table, or "".
	Extension string
	// ReplicaIdentity is pg_class.relreplident: d, n, f or i.
	ReplicaIdentity byte
	Columns         []CatalogColumn
	// PrimaryKey names the key's columns in the key's order.
	PrimaryKey  []string
	Indexes     []UniqueIndex // unique ones, the primary key's included
	ForeignKeys []ForeignKey
	Triggers    []Trigger // of users only
	// Filtered is true where row security hides rows from this role: a
	// snapshot would lack rows that the WAL then speaks of.
	Filtered bool
	// Rows and Bytes are the server's own estimates, -1 where it has none;
	// those of a partitioned table are the sums over its partitions.
	Rows  int64
	Bytes int64
	// Select is true where the role may read every column, Owned where it may
	// act as the owner (which adding to a publication needs).
	Select bool
	Owned  bool
}

// CatalogColumn is one column of a CatalogTable, in the order of the table.
type CatalogColumn struct {
	Name     string
	Number   int16
	TypeOID  uint32
	TypMod   int32
	TypeName string // format_type without the modifier
	Declared string // format_type with it, as one writes it: numeric(12,3)
	NotNull  bool
	// Generated columns are computed by the server and not in the WAL before
	// version 18. Identity is "a" (always), "d" (by default) or "".
	Generated bool
	Identity  string
	// Toastable is true where long values are stored out of line, so that an
	// update that does not touch them does not carry them.
	Toastable bool
	Default   string   // as SQL, or ""
	Labels    []string // of an enum, also under a domain
	// Allowed are the values to which a CHECK of the form "column IN (...)"
	// limits a text column.
	Allowed []string
	// BaseType is the type under a domain, through all layers; TypeName
	// itself where the column's type is no domain. BaseTypMod likewise.
	BaseType   string
	BaseTypMod int32
	Select     bool
}

// UniqueIndex is a unique index, whether or not a constraint made it.
type UniqueIndex struct {
	Name    string
	Columns []string // nil where an expression takes part
	Primary bool
	// Usable is true where the index can serve as the replica identity: all
	// columns NOT NULL, no expression, not partial, valid, checked at once.
	Usable  bool
	Partial bool
	// Expression is true where a part of the index is no plain column.
	Expression      bool
	Nullable        bool // a column may be NULL
	Deferrable      bool
	ReplicaIdentity bool
}

// ForeignKey says that Columns of this table name a row of References.
type ForeignKey struct {
	Name       string
	Columns    []string
	References string // full name
	Referenced []string
	// Nullable is true where one of Columns may be NULL.
	Nullable bool
	// OnDelete is pg_constraint.confdeltype: a (no action), r (restrict),
	// c (cascade), n (set null) or d (set default).
	OnDelete byte
}

// Trigger is one of the user's own triggers.
type Trigger struct {
	Name     string
	Function string // full name
	Language string
	// Source is the function's body, for those who want to see whether it
	// writes to other tables.
	Source  string
	Enabled bool
}

// CatalogPublication is a publication that exists already.
type CatalogPublication struct {
	Name                             string
	Owner                            string
	AllTables                        bool
	Insert, Update, Delete, Truncate bool
	ViaRoot                          bool
	Tables                           []string // full names, those of its schemas included; nil with AllTables
	// Narrowed lists tables with a row filter or a column list.
	Narrowed []string
}

// CatalogSlot is a replication slot of the server.
type CatalogSlot struct {
	Name      string
	Plugin    string // "" for a physical slot
	Database  string // "" for a physical slot
	Active    bool
	Temporary bool
	WALStatus string // reserved, extended, unreserved, lost; "" where unknown
}

// FullName is "schema.name", unquoted.
func (t *CatalogTable) FullName() string { return t.Schema + "." + t.Name }

// Column returns the named column, or nil.
func (t *CatalogTable) Column(name string) *CatalogColumn {
	for i := range t.Columns {
		if t.Columns[i].Name == name {
			return &t.Columns[i]
		}
	}
	return nil
}

// Key returns the columns that tell one row from another, in order: the
// primary key, else the index that is the replica identity, else the first
// usable unique index. It is nil for a table without a key.
func (t *CatalogTable) Key() []string {
	if len(t.PrimaryKey) > 0 {
		return t.PrimaryKey
	}
	for _, ix := range t.Indexes {
		if ix.ReplicaIdentity && ix.Usable {
			return ix.Columns
		}
	}
	for _, ix := range t.Indexes {
		if ix.Usable {
			return ix.Columns
		}
	}
	return nil
}

// IdentityColumns returns the columns of the replica identity: what the WAL
// tells of a deleted row, and of an updated one before the update. It is nil
// where there is none, and then the server refuses updates and deletes of a
// published table.
func (t *CatalogTable) IdentityColumns() []string {
	switch t.ReplicaIdentity {
	case 'f':
		cols := make([]string, 0, len(t.Columns))
		for _, c := range t.Columns {
			if !c.Generated {
				cols = append(cols, c.Name)
			}
		}
		return cols
	case 'i':
		for _, ix := range t.Indexes {
			if ix.ReplicaIdentity {
				return ix.Columns
			}
		}
	case 'd':
		if t.DeferrableKey() {
			return nil
		}
		return t.PrimaryKey
	}
	return nil
}

// DeferrableKey reports whether the primary key may be checked at the end of a
// transaction only. The server does not take such a key for the replica
// identity, and inside a transaction it does not tell rows apart.
func (t *CatalogTable) DeferrableKey() bool {
	for _, ix := range t.Indexes {
		if ix.Primary {
			return ix.Deferrable
		}
	}
	return false
}

// Updatable reports whether updates and deletes still work once the table is
// in a publication that publishes them.
func (t *CatalogTable) Updatable() bool {
	return t.ReplicaIdentity == 'f' || len(t.IdentityColumns()) > 0
}

// Find returns the table with the full name, or nil.
func (c *Catalog) Find(full string) *CatalogTable {
	i := sort.Search(len(c.Tables), func(i int) bool { return c.Tables[i].FullName() >= full })
	if i < len(c.Tables) && c.Tables[i].FullName() == full {
		return c.Tables[i]
	}
	return nil
}

// Leaves returns the tables that hold the rows of t: its partitions, through
// all layers, or t itself where it is not partitioned.
func (c *Catalog) Leaves(t *CatalogTable) []*CatalogTable {
	if t.Kind != KindPartitioned {
		return []*CatalogTable{t}
	}
	var leaves []*CatalogTable
	for _, p := range c.Tables {
		if p.PartitionOf == t.FullName() {
			leaves = append(leaves, c.Leaves(p)...)
		}
	}
	return leaves
}

// Table builds what rows of the table are read against, with the given columns
// in the table's own order; nil means all that the WAL carries. It refuses a
// table or column that does not exist, and a generated column: the WAL has
// none.
func (c *Catalog) Table(full string, columns []string) (*Table, error) {
	t := c.Find(full)
	if t == nil {
		return nil, fmt.Errorf("table %s: the database has no such table (names are schema.name)", full)
	}
	if t.Kind == KindForeign {
		return nil, fmt.Errorf("table %s: a foreign table has no WAL here", full)
	}
	var missing []string
	for _, name := range columns {
		switch col := t.Column(name); {
		case col == nil:
			missing = append(missing, fmt.Sprintf("%q does not exist", name))
		case col.Generated:
			missing = append(missing, fmt.Sprintf("%q is generated and not in the WAL", name))
		}
	}
	if missing != nil {
		return nil, fmt.Errorf("table %s: column %s", full, strings.Join(missing, ", column "))
	}
	key, identity := t.Key(), t.IdentityColumns()
	table := &Table{OID: t.OID, Schema: t.Schema, Name: t.Name, ReplicaIdentity: t.ReplicaIdentity}
	for _, col := range t.Columns {
		if col.Generated || columns != nil && !slices.Contains(columns, col.Name) {
			continue
		}
		table.Columns = append(table.Columns, Column{
			Name: col.Name, TypeOID: col.TypeOID, TypMod: col.TypMod, TypeName: col.TypeName, NotNull: col.NotNull,
			Identity: slices.Contains(identity, col.Name),
			Key:      slices.Index(key, col.Name) + 1,
		})
	}
	return table, nil
}
