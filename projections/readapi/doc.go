// Package readapi answers questions to a projection over HTTP: one row by its
// key, or a page of rows, as JSON.
//
//	curl -H "Banyan-Token: 1:0/1A2B3C8" localhost:8081/customers/42
//
// A request that carries a token gets an answer that has seen the commit the token
// stands for: it waits until the projection has passed it, or is told how far
// behind the projection is. A request without one gets its answer at once, with
// its age. Either answer carries a token of its own, of what it has seen.
//
// It reads the views that every reader sees, as a role that can do nothing else.
package readapi
