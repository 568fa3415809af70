// Package state keeps the rows of a projection: plain tables that any SQL tool
// reads, changed by key.
//
// A program of a projection sees a Space: rows that it gets, puts and deletes by
// key. Behind it lies, in a live projection, a Postgres schema with a cache that
// is kept across batches and written in one round trip per batch (Live); in a
// rebuild, or for a proof, memory that spills to disk and is copied into index-free
// tables at the end (Bulk). A program cannot tell which of the two it works on.
package state
