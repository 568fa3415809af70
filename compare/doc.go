// Package compare says what differences are and what they mean: how two prices of
// one line differ and why (Cause), what all of them add up to (Ledger, exact), and
// what can honestly be said of that (Report, with a verdict that never says "ship").
//
// Control is what really happened: the price in the order. Candidate is what another
// service would have charged for the same lines. Over a window the difference at
// fixed demand is an exact sum of whole units of money, not an estimate, and is kept
// apart from everything that is one: what other prices would do to demand, and what
// a next period like this one would bring.
//
// A Ledger grows with customers and products, not with orders: package shadow keeps
// one in a database, line by line. Analyse makes a Report of it. Packages below:
// stats (the arithmetic of estimates), page (a Report for people), structure
// (documents compared field by field).
package compare
