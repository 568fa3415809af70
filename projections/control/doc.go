// Package control keeps, in the database of a projection, everything about it
// that is not its rows: which versions there are and which one readers see, who
// owns which partition and how far it has come, what is parked, which effects
// were promised and sent, which timers have fired.
//
// It holds the fence. An owner takes partitions over, which gives each an epoch
// that nobody else has; from then on every transaction that changes rows begins
// with Advance, which moves the offsets from exactly where this owner left them,
// or fails with ErrFenced. A Kafka generation is no fencing token (its numbers
// begin anew when a group is forgotten); a row lock in the database that also
// holds the rows is.
package control
