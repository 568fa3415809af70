package control

import (
	"context"
)

// OwnerRole is the name of the role that owns a projection's schemas and alone
// writes them, "shipping_owner"; ReaderRole that of those who read its views.
func OwnerRole(projection string) string { return projection + "_owner" }

// ReaderRole is the name of the role that reads a projection's views.
func ReaderRole(projection string) string { return projection + "_reader" }

// RolesSQL is the text that makes both roles and the schemas with just the
// rights that they need in a database. It can be run again. login, where it is
// not "", is the existing role that the projector connects as: it becomes a
// member of the owner.
func RolesSQL(projection, database, login string) string { return "" }

// ApplyRoles runs RolesSQL, in one transaction; it needs a role that may make
// roles.
func (s *Store) ApplyRoles(ctx context.Context, projection, login string) error { return nil }

// Weight of a finding.
type Weight string

// Weights of findings.
const (
	Fault Weight = "fault" // somebody else can write, or everybody can look
	Info  Weight = "info"  // known to be so: superusers, members of the owner
)

// Finding is something that LintWriters found.
type Finding struct {
	Weight Weight
	Object string // "table shipping_v1.addresses"
	Role   string // who, "PUBLIC" for everybody
	What   string // "may INSERT"
	Way    string // the SQL that takes it back, or what to know about it
}

// LintWriters proves by the catalog that only the owner role can write the
// schemas of a projection and that everybody has nothing there: no Fault among
// the findings is the proof.
func (s *Store) LintWriters(ctx context.Context, projection string) ([]Finding, error) {
	return nil, nil
}
