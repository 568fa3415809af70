package translate

import "time"

// Config is banyan.yaml, read and found well-formed by Load. What it says of
// tables and columns is only checked against a database by Compile.
type Config struct {
	// Path is the name under which errors speak of the file.
	Path    string
	Version int
	Source  SourceConfig
	Store   StoreConfig
	Kafka   KafkaConfig
	// Unknown says what a change does that no rule knows: park or stop.
	Unknown string
	// Tables and Aggregates stand in the order of the file.
	Tables     []*TableConfig
	Aggregates []*AggregateConfig

	digest [32]byte
}

// SourceConfig names the database that is read.
type SourceConfig struct {
	Name        string // first part of event ids
	URL         string
	Slot        string
	Publication string
	// MaskKey is the secret that masked columns are hashed with. Where it is
	// empty the source's name is used, which keeps values from being read but
	// not from being guessed.
	MaskKey string
}

// StoreConfig names the store. An empty URL means the embedded one.
type StoreConfig struct {
	URL        string
	MaxBytes   int64 // disk budget of the outbox
	Provenance ProvenanceConfig
}

// ProvenanceConfig bounds how long traces of transactions are kept.
type ProvenanceConfig struct {
	Age   time.Duration
	Bytes int64
}

// KafkaConfig names the brokers. None means the embedded one.
type KafkaConfig struct {
	Brokers []string
	TLS     TLSConfig
}

// TLSConfig names PEM files; all empty means no TLS of one's own.
type TLSConfig struct{ CA, Cert, Key string }

// TableConfig says what is read of one table.
type TableConfig struct {
	Name    string // full name, schema.table
	Columns []string
	// Omit are columns known and left out, with the reason.
	Omit  map[string]string
	Money map[string]MoneyConfig
	Mask  map[string]string // column to hash or drop

	at  place
	pos map[string]place // of columns, money, mask and omit entries
}

// MoneyConfig makes a numeric column money. Scale is the number of decimals.
type MoneyConfig struct {
	Scale    int
	Currency string
}

// AggregateConfig is one kind of business thing: where its rows are, and which
// changes of them are which events.
type AggregateConfig struct {
	Name     string
	Table    string
	Key      []string
	Topic    string
	State    []string // empty: all columns that the table keeps
	Children []*ChildConfig
	Events   []*EventConfig
	Ignore   []*IgnoreConfig

	at  place
	pos map[string]place
}

// ChildConfig is a table whose rows belong to rows of the table above it.
type ChildConfig struct {
	Table         string
	As            string
	Key           []string
	Parent        [][2]string // column of this table, column of the parent's
	State         []string
	IgnoreOrphans bool
	Children      []*ChildConfig

	at  place
	pos map[string]place
}

// EventConfig is one rule: an anchor, and the event it makes.
type EventConfig struct {
	Type       string
	Version    int
	On         OnConfig
	When       string
	OccurredAt string
	Absorb     []string
	Reach      []*ReachConfig
	Fields     []FieldConfig

	at  place
	pos map[string]place
}

// OnConfig names the row change that anchors a rule. Table is empty for the
// aggregate's own; Op is empty where any will do (only in ignore).
type OnConfig struct{ Table, Op string }

// ReachConfig names rows of another table in the same transaction, by equality
// of key columns: the column there, and a path such as new.id or
// lines.product_id here.
type ReachConfig struct {
	Name  string
	Table string
	Key   [][2]string
	Cause bool

	at  place
	pos map[string]place
}

// FieldConfig is one field of an event's data and the expression that fills it.
type FieldConfig struct {
	Name, Expr string
	at         place
}

// IgnoreConfig says that a change makes no event. Only limits it to updates
// that change none but these columns.
type IgnoreConfig struct {
	On     OnConfig
	Only   []string
	Reason string

	at  place
	pos map[string]place
}

// Table returns the named table's configuration, or nil.
func (c *Config) Table(name string) *TableConfig {
	for _, t := range c.Tables {
		if t.Name == name {
			return t
		}
	}
	return nil
}

// Aggregate returns the named aggregate's configuration, or nil.
func (c *Config) Aggregate(name string) *AggregateConfig {
	for _, a := range c.Aggregates {
		if a.Name == name {
			return a
		}
	}
	return nil
}
