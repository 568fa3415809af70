package shadow

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"banyan/compare"
	"banyan/event"
	"banyan/projections"
	"banyan/projections/state"
	"banyan/quote"
)

// Prefix begins the names of projections that are shadows.
const Prefix = "shadow_"

// Names of the tables of a shadow.
const (
	tableState   = "state"
	tableJournal = "journal"
)

// Comparator is the projections.Program of a shadow. Its state is kept in memory,
// grows with customers and products, and is written down in each batch's own
// transaction, row by row where it has changed: so memory and database are the same,
// or memory is thrown away and read anew.
type Comparator struct {
	opts   Options
	pool   *pgxpool.Pool
	schema string
	who    Candidates
	reader *reader

	mu   sync.Mutex // a batch is one thing at a time
	core *core
	// number is the batch that memory has, -1 where it is not to be believed. stamp is
	// of this one way to that batch: somebody else may have got to the same number by
	// another.
	number  int64
	stamp   string
	before  string // the stamp of the batch that this one rests on
	staged  string // names the batch that Ask has worked through
	journal []entryRow
	entries []byte // of the journal, one behind the other
	rows    rowsOf // of the last batch, for its memory
	last    lastEvent
	lowest  int64 // the smallest sample so far, of 10,000
	largest int64 // and the largest
	builds  []string
}

// lastEvent is the last event that was taken in.
type lastEvent struct {
	Time     string         `json:"time"`
	Position event.Position `json:"position"`
}

type entryRow struct {
	part      int
	offset    int64
	from, end int // in entries
}

// Candidates say who is compared: in process, or through a Pricer.
type Candidates struct {
	Who       compare.Candidate
	InProcess quote.Candidate
	// Control is the price that was paid, for control against control.
	Control bool
	Pricer  Pricer
	// Named, where set, tells what the candidate calls itself and which builds of it
	// have answered since this process began.
	Named func() (name string, builds []string)
	// Operations, where set, tells how asking goes.
	Operations func() *compare.Operations
	// Sample, where set, gives how many of 10,000 customers are compared at the
	// moment, at most Options.Sample.
	Sample func() int64
}

// NewComparator makes the Program. pool and schema are where its state lies; both
// may be empty as long as only its Spec is asked for.
func NewComparator(o Options, who Candidates, pool *pgxpool.Pool, schema string) (*Comparator, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	c := &Comparator{opts: o, who: who, pool: pool, schema: schema, number: -1, reader: newReader(o.Mapping)}
	return c, nil
}

var (
	_ projections.Asker   = (*Comparator)(nil)
	_ projections.Batcher = (*Comparator)(nil)
)

// Spec says what a shadow reads and which tables it has.
func (c *Comparator) Spec() projections.Spec {
	definition, err := json.MarshalIndent(c.opts, "", "  ")
	if err != nil {
		definition = []byte(err.Error()) // plain structs: cannot be
	}
	sum := sha256.Sum256(definition)
	return projections.Spec{
		Name: Prefix + c.opts.Name, Source: c.opts.Mapping.Source, Topics: c.opts.Mapping.Topics(), Aligned: true, Slim: true,
		Definition: string(definition), Digest: hex.EncodeToString(sum[:]), NotFromLatest: "compares what happened, order by order",
		Tables: []state.Table{
			{Name: tableState, Key: []string{"kind", "key"}, Hidden: true, Comment: "the ledger, and what is known of products: a row each, in JSON", Columns: []state.Column{
				{Name: "kind", Type: "text", NotNull: true}, {Name: "key", Type: "bytea", NotNull: true}, {Name: "data", Type: "bytea", NotNull: true}}},
			{Name: tableJournal, Key: []string{"part", "off"}, Hidden: true, Comment: "each comparison, in JSON, by partition and offset of its event", Columns: []state.Column{
				{Name: "part", Type: "integer", NotNull: true}, {Name: "off", Type: "bigint", NotNull: true}, {Name: "data", Type: "bytea", NotNull: true}}},
		},
	}
}

// Prepare takes from an event what a shadow needs. It never fails: an order whose data
// are not as the mapping says is counted as unreadable.
func (c *Comparator) Prepare(e *projections.Event) error {
	if n := c.reader.read(e); n != nil {
		e.Prepared = n
	}
	return nil
}

// Apply is never called: a Comparator takes whole batches.
func (c *Comparator) Apply(*projections.Tx, *projections.Event) error {
	return errors.New("a shadow is run, and not folded")
}

// Ask works through a batch before its transaction begins, as far as memory goes: it
// may wait for a candidate for as long as that is down, and nothing is locked
// meanwhile. What it rests on is held against the database first: where the batch
// before came to nothing, or somebody else has gone on from there, memory is read
// anew.
func (c *Comparator) Ask(ctx context.Context, events []*projections.Event) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	number, stamp, err := readBatch(ctx, c.pool, c.schema)
	if err != nil {
		return err
	}
	if number != c.number || stamp != c.stamp {
		if err := c.load(ctx); err != nil {
			return err
		}
	}
	before := c.stamp
	c.number, c.journal, c.entries = -1, c.journal[:0], c.entries[:0]
	s := c.core
	s.candidate, s.pricer, s.control, s.sample = c.who.InProcess, c.who.Pricer, c.who.Control, c.opts.Sample
	if c.who.Sample != nil {
		s.sample = min(s.sample, c.who.Sample())
	}
	if err := c.core.take(ctx, events); err != nil {
		return err
	}
	end := events[len(events)-1]
	c.last = lastEvent{end.Time.UTC().Format("2006-01-02T15:04:05.999999999Z07:00"), end.Position}
	c.before, c.stamp = before, rand.Text()
	c.number, c.staged = number+1, batchName(events)
	return nil
}

func batchName(events []*projections.Event) string {
	a, z := events[0], events[len(events)-1]
	return fmt.Sprint(len(events), a.Topic, a.Partition, a.Offset, z.Topic, z.Partition, z.Offset)
}

// ApplyBatch writes down what Ask has worked out, behind the fence and with the
// offsets.
func (c *Comparator) ApplyBatch(ctx context.Context, tx pgx.Tx, events []*projections.Event) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.number < 0 || c.staged != batchName(events) {
		return errors.New("the batch is another one than was asked about")
	}
	return c.save(ctx, tx)
}

// entry notes a comparison for the journal.
func (c *Comparator) entry(p *comparison, _ *quote.Answer) error {
	from := len(c.entries)
	c.entries = appendEntry(c.entries, p)
	c.journal = append(c.journal, entryRow{p.order.Partition, p.order.Offset, from, len(c.entries)})
	return nil
}
