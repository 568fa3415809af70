// Package wal reads a Postgres database that already exists: its catalog, its
// rows under an exported snapshot, and its write-ahead log through a logical
// replication slot. It hands out plain values: whole transactions in commit
// order (Tx), row changes (Change) and row images (Row).
//
// It knows nothing of events. pglogrepl is used here and nowhere else.
package wal
