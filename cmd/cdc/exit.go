package main

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"banyan/bus"
	"banyan/outbox"
	"banyan/translate"
	"banyan/wal"
)

// The exit codes of every command.
const (
	exitDone         = 0 // done, and good
	exitNo           = 1 // the answer is no: blocked, differs, parked
	exitInput        = 2 // the user's input is wrong: a flag, the configuration
	exitSurroundings = 3 // the surroundings fail: cannot connect, broker gone
)

// exitError is an error that knows its exit code.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// errSilent ends a command whose output already says all there is to say.
var errSilent = errors.New("")

func answerNo(format string, args ...any) error {
	return &exitError{exitNo, fmt.Errorf(format, args...)}
}

func badInput(format string, args ...any) error {
	return &exitError{exitInput, fmt.Errorf(format, args...)}
}

// exitCode finds the code of an error: what the error says of itself; 1 for a
// refusal that only a person can settle; else the surroundings.
func exitCode(err error) int {
	if err == nil {
		return exitDone
	}
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	if is[*pgconn.ParseConfigError](err) {
		return exitInput
	}
	if refused(err) {
		return exitNo
	}
	return exitSurroundings
}

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
