package main

import (
	"errors"
	"fmt"
	"os"
	"runtime/pprof"
)

// profiled runs work, and writes a CPU profile of it to the file where one is
// named: bench asks for it.
func profiled(file string, work func() error) error {
	if file == "" {
		return work()
	}
	f, err := os.Create(file)
	if err != nil {
		return badInput("make the CPU profile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return errors.Join(fmt.Errorf("start the CPU profile: %w", err), f.Close())
	}
	err = work()
	pprof.StopCPUProfile()
	return errors.Join(err, f.Close())
}
