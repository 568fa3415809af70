// Package declared makes projections of YAML files: docs/projections.md is the
// page for those who write them.
//
// Load reads a file and tells all that is wrong with its form. Compile checks it
// against what is known of its topics (Look reads a sample) and gives a Program
// that a projections.Runner runs. CheckViews creates tables and views in a
// transaction that is rolled back. Draft writes a first file from a sample of
// events. Schema is the JSON Schema for editors.
//
// What each part of a file becomes:
//
//	tables    a fold: rows by the aggregate's key        fold.go
//	groups    partials by (group, topic, partition)      group.go, contribution.go
//	windows   rows by (group, begin of the window)       window.go, session.go
//	timers    projections.Timer, and what then happens   timer.go
//	effects   projections.Effect                         effect.go
//
// Each is a step of the topics that it takes from. A step prepares what needs no
// rows (concurrently), says which rows it will want, and applies the rest.
package declared
