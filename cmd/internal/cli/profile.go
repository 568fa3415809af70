package cli

import (
	"errors"
	"fmt"
	"os"
	"runtime/pprof"

	"github.com/spf13/cobra"
)

// Profiled gives a command, which has its RunE already, the hidden flag
// --cpuprofile: a CPU profile of the work is written to the file where one is
// named. Benchmarks ask for it.
func Profiled(c *cobra.Command) {
	var file string
	c.Flags().StringVar(&file, "cpuprofile", "", "write a CPU profile to this `file`")
	_ = c.Flags().MarkHidden("cpuprofile") // of a flag that exists
	work := c.RunE
	c.RunE = func(c *cobra.Command, args []string) error {
		return profiled(file, func() error { return work(c, args) })
	}
}

func profiled(file string, work func() error) error {
	if file == "" {
		return work()
	}
	f, err := os.Create(file)
	if err != nil {
		return BadInput("make the CPU profile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return errors.Join(fmt.Errorf("start the CPU profile: %w", err), f.Close())
	}
	err = work()
	pprof.StopCPUProfile()
	return errors.Join(err, f.Close())
}
