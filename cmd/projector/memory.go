package main

import "runtime/debug"

// A projector makes much garbage and keeps little: collecting it less often saves
// a fifth of its CPU. So its heap may grow fourfold between two collections, but
// not beyond what a small machine has to spare.
const (
	growth  = 300       // percent of what is alive
	plenty  = 448 << 20 // bytes of the whole process from which on memory is saved
	besides = 256 << 20 // of it that rows in memory do not take

	rowsOfRun = 192 << 20 // of one projection that is followed: rows, and events read ahead
)

// useMemory sets how much memory is used before garbage is collected, where the
// runtime's own variables do not: rows is what the work holds in memory.
func (a *app) useMemory(rows int64) {
	if a.getenv("GOGC") == "" {
		debug.SetGCPercent(growth)
	}
	if a.getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(max(plenty, rows+besides))
	}
}
