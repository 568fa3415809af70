package main

import (
	"errors"
	"fmt"
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

// exitCode finds the code of an error: what the error says of itself, else
// the surroundings, since our own refusals are all typed.
func exitCode(err error) int {
	if err == nil {
		return exitDone
	}
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	return exitSurroundings
}
