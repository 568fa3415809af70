// Package wal reads a Postgres database that already exists: its catalog, its
// rows under a snapshot, and its write-ahead log through a logical replication
// slot. It hands out plain values: whole transactions in commit order (Tx), row
// changes (Change) and row images (Row).
//
// A source is read in this order. Access.Setup says what SQL the owner of the
// tables must run once. CreateSlot makes the slot and exports the snapshot that
// belongs to it; ImportSnapshot reads all rows under it, a Unit (an aggregate's
// root with its children) at a time, in as many sessions as one likes. Open then
// streams from the slot's consistent point: what the snapshot holds and what the
// stream brings meet without a gap and without an overlap.
//
// Text forms of values are the same in both, to the byte, because every session
// is set up alike (see Connect). Columns that a Capture does not name are
// dropped before they are decoded.
//
// Three things cannot be seen in the stream, whatever reads it: the truncation
// of a single partition of a table that is published under its root's name, and
// the attaching and the detaching of a partition. Comparing with a snapshot
// finds them.
//
// The package knows nothing of events. pglogrepl is used here and nowhere else.
package wal
