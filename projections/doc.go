// Package projections builds the state of a service from business events: plain
// tables in the service's own Postgres, exactly once, fenced against owners that
// wake up late, rebuilt at will.
//
// What a projection does is a Program: declared in YAML (package declared) or
// written in Go. A Program is given one event after the other and changes rows by
// key; it knows nothing of Kafka, offsets, transactions or other owners. A Runner
// gives it the events: it reads partitions, drops repeats by banyan_seq, names
// gaps, folds many events into one transaction that begins with the fence, and
// parks the chain of a key whose event cannot be applied, so that the partition
// flows on.
//
// There are two orders in which a Program can be given events. A partitioned one
// sees each partition in its own order and needs no other; several owners share
// the partitions. An aligned one, for joins, windows and other keys, has one owner
// that merges all partitions by position, as far as the watermarks prove them
// complete: the order is that of the commits in the source, the same live and in
// any replay.
//
// Packages below: state (rows by key), control (progress, fence, versions),
// declared (YAML), rebuild (a version beside the live one, swap, proof), effects
// (what leaves the house), readapi (HTTP), projectiontest (a kit for users).
package projections
