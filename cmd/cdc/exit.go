package main

import (
	"banyan/bus"
	"banyan/cmd/internal/cli"
	"banyan/outbox"
	"banyan/translate"
	"banyan/wal"
)

// refused reports whether going on would need a decision: another incarnation,
// a slot or a topic that is not as we left it, a change that nobody understands.
func refused(err error) bool {
	for _, is := range []func(error) bool{
		cli.Is[*translate.UnknownError], cli.Is[*translate.SchemaError],
		cli.Is[*wal.SlotMissingError], cli.Is[*wal.SlotLostError], cli.Is[*wal.SlotAheadError], cli.Is[*wal.SlotUnfitError],
		cli.Is[*wal.IncarnationError], cli.Is[*wal.PublicationError], cli.Is[*wal.DecodeError], cli.Is[*wal.SetupError],
		cli.Is[*outbox.IncarnationError], cli.Is[*outbox.SourceError], cli.Is[*outbox.SchemaError], cli.Is[*outbox.LeaseError], cli.Is[*outbox.Refused],
		cli.Is[*bus.Mismatch],
	} {
		if is(err) {
			return true
		}
	}
	return false
}
