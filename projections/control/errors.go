package control

import "errors"

// ErrNotFound says that there is no such projection, version or partition.
var ErrNotFound = errors.New("not found")

// SchemaError says that the schema banyan of the database is not one that this
// program can use, and the way out.
type SchemaError struct{ Reason string }

// Error says what is wrong.
func (e *SchemaError) Error() string { return "schema banyan: " + e.Reason }
