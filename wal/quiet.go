package wal

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// quietChanges bounds what the server decodes, and keeps, to answer Quiet.
const quietChanges = 10_000

// Quiet reports whether no captured row was changed by a transaction that the
// slot has not confirmed yet and that committed below upto. It looks at the
// slot without moving it, so nobody may be reading it; a slot in use, or more
// to look at than is cheap, is not quiet.
func Quiet(ctx context.Context, conn *pgx.Conn, slot, publication string, upto LSN) (bool, error) {
	s, err := SlotInfo(ctx, conn, slot)
	if err != nil || s.ActivePID != 0 {
		return false, err
	}
	// The kinds of message that pgoutput has for rows: insert, update, delete,
	// truncate.
	var rows, messages int64
	err = conn.QueryRow(ctx, `SELECT count(*) FILTER (WHERE pg_catalog.get_byte(data, 0) IN (73, 85, 68, 84)), count(*)
		FROM pg_catalog.pg_logical_slot_peek_binary_changes($1, $2::text::pg_catalog.pg_lsn, $3, 'proto_version', '1', 'publication_names', $4)`,
		slot, upto.String(), quietChanges, quote(publication)).Scan(&rows, &messages)
	if err != nil {
		return false, fmt.Errorf("look at replication slot %q: %w", slot, err)
	}
	return rows == 0 && messages < quietChanges, nil
}
