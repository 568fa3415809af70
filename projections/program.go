package projections

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"

	"banyan/event"
	"banyan/projections/state"
)

// Spec is what the runner must know of a Program.
type Spec struct {
	Name string // of the projection, a plain SQL name: "shipping"
	// Source is the service whose watermarks count: "shop". All topics are its.
	Source string
	Topics []string
	// Aligned asks for one owner and the order of commits over all partitions of
	// all topics. Within one source transaction events come in the order of
	// Topics, so a table that others look up stands first.
	Aligned bool
	Tables  []state.Table
	Views   []View
	// Definition is the text that the Program was made of; Digest its
	// fingerprint. A Program in Go has its author's version there.
	Definition, Digest string
	// Upcasters lift events of old versions to the one that Apply knows.
	Upcasters []Upcaster
	// NotFromLatest says, where it is not "", why this projection cannot be
	// built from a compacted `.latest` topic: "counts events".
	NotFromLatest string
	// Timers says that the Program sets timers; it has to be a Firer then.
	Timers bool
	// Effects says that the Program promises effects.
	Effects bool
	// Slim says that Apply needs of an event no more than its headers and what Prepare
	// made of it: its data are let go of as soon as it is prepared. Such an event
	// cannot be parked, so a Runner has to stop at what it cannot apply (Stop).
	Slim bool
}

// View is a SQL view over the tables of the same version; Tables of it are named
// without a schema.
type View struct {
	Name, SQL, Comment string
}

// Event is an event as a Program gets it.
type Event struct {
	event.Event
	Offset int64 // in its partition; (Topic, Partition, Offset) names the record
	// Tombstone marks the removal of a key in a `.latest` topic; Data is nil.
	Tombstone bool
	// Prepared is what Prepare made of the event.
	Prepared any
	// Fault is why it could not be prepared; such an event is parked and is not
	// given to Apply.
	Fault error
	// Size of its record in bytes, about.
	Size int

	row    *foldKey      // of a Fold
	record *event.Record // as it was read; nil for one that was made by hand
}

// Program is what a projection does with events.
type Program interface {
	// Spec is constant.
	Spec() Spec
	// Prepare parses what Apply will need and keeps it in e.Prepared. It is pure
	// and may be called from several goroutines at once, for events that are
	// never applied too. An error parks the event.
	Prepare(e *Event) error
	// Apply changes rows for one event. An error parks the event: what it had
	// changed until then is taken back. It must be a function of the event and
	// the rows alone.
	Apply(tx *Tx, e *Event) error
}

// Prefetcher is a Program that can say which rows an event will get, so that the
// runner reads them for a whole batch at once. Rows that were not named are read
// one by one, which is slow and right. Called after Prepare, before Apply.
type Prefetcher interface {
	Wants(e *Event, want func(table string, key state.Key))
}

// Batcher is a Program that applies whole batches with SQL of its own instead of
// Apply. The fence has been passed; the runner commits. An error is treated as
// one of SQL: the runner repeats the batch event by event with savepoints to find
// which event to park.
type Batcher interface {
	ApplyBatch(ctx context.Context, tx pgx.Tx, events []*Event) error
}

// Asker is a Batcher that has to ask others what to do with a batch: a service that
// may be slow, or down for an hour. Ask is called before the batch's transaction
// begins, so that no lock is held and no other owner kept waiting meanwhile; it may
// block until it has its answers or ctx ends. It gets the events that ApplyBatch will
// get, and gets the same ones again where the transaction came to nothing: whatever
// it keeps in memory has to be held against the database first. An error ends the
// Run, unless it is one that passes.
type Asker interface {
	Ask(ctx context.Context, events []*Event) error
}

// Firer is a Program whose timers fire. Fire may change rows and promise effects
// like Apply. Only aligned projections have timers.
type Firer interface {
	Fire(tx *Tx, t Timer) error
}

// Timer is a time at which something is due, by the clock of the source.
type Timer struct {
	Name string // of the timer in the definition
	Key  string // whose it is; (Name, Key) has at most one timer
	At   time.Time
	Data json.RawMessage
}

// Upcaster lifts the data of an event type by one or more versions.
type Upcaster struct {
	Type     string
	From, To int
	Lift     func(data json.RawMessage) (json.RawMessage, error)
}

// Effect is a promise to send something, made in Apply or Fire.
type Effect struct {
	Name    string // in the definition
	Kind    string // "mail", "http": package effects knows them
	Payload json.RawMessage
	// FromStart promises it for events from before the projection's first start
	// too; otherwise effects begin there (Version.Since).
	FromStart bool
}

// Tx is what Apply and Fire may change, for the time of the call.
type Tx struct {
	Space state.Space
	// StreamTime is the latest commit time that the order has reached, this
	// event included. It never steps back and is the same on every replay.
	StreamTime time.Time
	// Position is the event's place in the order; the token form of "now".
	Position event.Position

	effects []Effect
	timers  []timerChange
}

// timerChange sets a timer, or cancels it where the time is zero.
type timerChange struct{ Timer }

// Rows gives the rows of a table of the Program's Spec.
func (tx *Tx) Rows(table string) state.Rows { return tx.Space.Rows(table) }

// Effect promises to send something once, however often the event is applied
// again by replays, rebuilds, swaps and rollbacks.
func (tx *Tx) Effect(e Effect) { tx.effects = append(tx.effects, e) }

// SetTimer sets or moves the timer (t.Name, t.Key).
func (tx *Tx) SetTimer(t Timer) { tx.timers = append(tx.timers, timerChange{t}) }

// CancelTimer takes the timer back, if there is one.
func (tx *Tx) CancelTimer(name, key string) {
	tx.timers = append(tx.timers, timerChange{Timer{Name: name, Key: key}})
}
