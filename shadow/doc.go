// Package shadow runs a candidate pricing service beside the shop's own prices, on
// the live events, and adds up in a ledger what would have changed.
//
// It is a projection like any other: a Comparator is a projections.Program whose
// state lies in Postgres and moves in one transaction with the offsets, so that
// nothing is lost or counted twice, whatever is killed. It reads the events of one
// source in the order of its commits, keeps what was known of each product (World),
// and has each order priced with what was known strictly before its commit.
//
// The shop is never touched: everything is read from Kafka, in a group of its own,
// and no topic is written. Where the candidate is
// slow or down, the shadow waits; who waits for the shadow is nobody.
//
// Packages below: ask (a candidate over HTTP, which can hurt nobody), parity (answers
// of two services, compared).
package shadow
