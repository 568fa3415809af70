package main

import (
	"errors"

	"banyan/bus"
	"banyan/outbox"
	"banyan/translate"
	"banyan/wal"
)

// refused reports whether going on would need a decision: another incarnation,
// a slot or a topic that is not as we left it, a change that nobody understands.
func refused(err error) bool {
	for _, is := range []func(error) bool{
		is[*translate.UnknownError], is[*translate.SchemaError],
		is[*wal.SlotMissingError], is[*wal.SlotLostError], is[*wal.SlotAheadError], is[*wal.SlotUnfitError],
		is[*wal.IncarnationError], is[*wal.PublicationError], is[*wal.DecodeError], is[*wal.SetupError],
		is[*outbox.IncarnationError], is[*outbox.SourceError], is[*outbox.SchemaError], is[*outbox.LeaseError], is[*outbox.Refused],
		is[*bus.Mismatch],
	} {
		if is(err) {
			return true
		}
	}
	return false
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}
