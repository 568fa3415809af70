package cli

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
)

// The exit codes of every command.
const (
	CodeDone         = 0 // done, and good
	CodeNo           = 1 // the answer is no: blocked, differs, parked
	CodeInput        = 2 // the user's input is wrong: a flag, the configuration
	CodeSurroundings = 3 // the surroundings fail: cannot connect, broker gone
)

// Error is an error that knows its exit code.
type Error struct {
	Code int
	Err  error
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// errSilent ends a command whose output already says all there is to say.
var errSilent = errors.New("")

// ErrNo ends with CodeNo a command whose output already says all there is to
// say; nothing more is printed.
var ErrNo error = &Error{CodeNo, errSilent}

// AnswerNo is an error that ends the program with CodeNo.
func AnswerNo(format string, args ...any) error {
	return &Error{CodeNo, fmt.Errorf(format, args...)}
}

// BadInput is an error that ends the program with CodeInput. Tell all faults at
// once, each with where it stands, its value and what would be right.
func BadInput(format string, args ...any) error {
	return &Error{CodeInput, fmt.Errorf(format, args...)}
}

// Failed is an error that ends the program with CodeSurroundings whatever it
// wraps. Most errors of the surroundings need none: it is the code of all that
// do not say otherwise.
func Failed(format string, args ...any) error {
	return &Error{CodeSurroundings, fmt.Errorf(format, args...)}
}

// SaysNo reports whether err was made by AnswerNo, or is ErrNo.
func SaysNo(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Code == CodeNo
}

// code finds the code of an error: what the error says of itself; input for a
// URL that cannot be read; no for a refusal that only a person can settle; else
// the surroundings.
func (a *App) code(err error) int {
	if err == nil {
		return CodeDone
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	if Is[*pgconn.ParseConfigError](err) {
		return CodeInput
	}
	if a.Refused != nil && a.Refused(err) {
		return CodeNo
	}
	return CodeSurroundings
}

// Is reports whether err is, or wraps, an error of type E: for Refused, which
// lists types.
func Is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}
