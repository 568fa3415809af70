// Package pricing is the example of a candidate: a pricing service that a shop could
// switch to, made of a few rules with names and dates. A team that has a candidate of
// its own reads here what one looks like, and throws this one away.
//
// It is pure. Demand prices an order from what was known before it and from its
// Rules alone: no clock, no memory, no floats. View is what such a service knows when
// it lives on the shop's events instead of being told: it folds them and says which
// prices it would propose. Rules come from Go or from a file (ParseRules), and a set
// to begin with is there (Default, DefaultText).
//
// A price begins with the list price. Rules then change it one after the other: the
// tier price from the tier quantity on, a little more or less by demand, whole
// pennies. Floors and ceilings come last, so that nothing can undo them, and of two
// that contradict each other the later one wins. A line whose list price is not known
// is left out of the answer: there is nothing to begin with, and to decline the whole
// order would hide its other lines.
//
// The package changes when a rule does, or a kind of rule comes in. Where prices are
// asked for over HTTP, or published as events, is the business of cmd/pricing.
package pricing
