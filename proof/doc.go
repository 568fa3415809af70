// Package proof answers one question: do the topics say what the tables say?
//
// It is what `cdc verify` does, and the oracle of our own tests. It reads the
// topics themselves, never the store, and the source's tables under a snapshot
// whose place in the log is known, and compares them key by key:
//
//  1. Read all topics to their present end. Count: the sequence of every
//     partition has no gap, a repeat carries the bytes of the first, nobody
//     else has written there, no id stands there twice.
//  2. Make a temporary slot. Its consistent point X is an LSN, and the snapshot
//     it exports shows exactly what committed before X. Import the snapshot,
//     drop the slot, and read the tables, aggregate by aggregate, as the rules
//     tell them.
//  3. Wait until the watermarks say that everything before X is published, and
//     read the rest of the topics.
//  4. For every key: the state in its last event before X must be the state
//     that the rules, in the version of that event, give for its rows.
//
// Reading the present LSN and then selecting would prove nothing: a commit may
// become visible before or after its place in the log (it waits for a
// synchronous standby, for example). Only a slot's own snapshot has a place.
//
// The order of the steps is chosen for the source: its snapshot lives as long
// as its tables are read and no longer, and a maximum age is kept by going on
// at a later point. Memory is bounded whatever the size of topics and tables:
// both sides are written to files, parted by the hash of the key, and compared
// part by part.
package proof
