// Package effects sends what projections have promised: mails and calls, things
// that leave the house and cannot be taken back.
//
// A promise is a row of a ledger, written in the transaction that applied the
// event, under the event's id. So a replay, a rebuild, a swap or a rollback finds
// the promise there and makes no second one. A Sender takes promises in the order
// of their events, notes that it begins before it begins, sends, and notes the end.
//
// Between sending and noting a process can be killed. A call is then repeated
// under the same Idempotency-Key, which its receiver can tell apart. A mail has no
// such key that a server would honour: whether it went out is then in doubt, and a
// person decides (projector effects). Nothing is sent twice behind anybody's back.
package effects
