// Package outbox is durability between the database and the broker.
//
// The store is the schema "banyan" in a Postgres database. It holds, of one
// source: the position up to which the source has been translated, the events
// that have not been acknowledged by the broker yet, the latest state of every
// aggregate, the parked chains, the provenance of each transaction, the rule
// sets, and the account of every captured table.
//
// One process at a time owns the store. Acquire waits for the lease and mints
// an epoch; the epoch is the fence of every commit:
//
//	owner.Commit(ctx, to, func(tx *outbox.Tx) error {
//		return engine.Translate(ctx, tx, batch.Txs, tx.Put)
//	})
//
// is one Postgres transaction. Its first statement moves the position if, and
// only if, this owner's epoch and position are still the store's; so a zombie
// writes nothing, and what fn puts is there exactly if the position moved.
// Events get their partition, their dense sequence number and their writer in
// that transaction.
//
// Events lie in slabs, tables that are filled in turn and dropped whole once
// every event in them is acknowledged; no row of them is deleted or updated.
//
// A service may own its outbox: Append writes events in the service's own
// transaction, and Owner.Stamp moves them, once no transaction that could come
// before them is open, into the same slabs.
//
// # Privileges
//
// The store's role needs nothing of the source. In the store's database it
// must own the schema banyan: either CREATE on the database, and Open makes
// the schema, or "CREATE SCHEMA banyan AUTHORIZATION <role>" done beforehand.
// It is never a superuser. Two owners that stand in for each other use the
// same role, since a successor ends the sessions of the one it replaces.
package outbox
