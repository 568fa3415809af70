// Package document reads the YAML files that people write for Banyan, so that
// whatever is wrong in one can be told at once, with line, column, field, value
// and what would be right.
//
// A file is parsed into Nodes that know where they stand. A Shape says what a
// file may hold: Check tells everything that differs from it, and Schema gives
// the same as a JSON Schema for editors.
package document
