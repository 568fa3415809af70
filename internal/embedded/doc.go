// Package embedded runs a Postgres and a small Kafka-protocol broker for
// somebody who has neither: the first run of cdc, and the tests. Both are
// processes of their own that outlive the process which started them (killing
// cdc must not kill the broker it publishes to), and both are found again
// through one file, embedded.json, in the data directory.
//
// They are meant for one machine and for trying: the Postgres is a real one
// with fsync on, the broker is franz-go's kfake with its data on disk. Use a
// Postgres and a Kafka of your own in production.
//
// The package reads no environment: whatever varies is a field of Options.
package embedded
