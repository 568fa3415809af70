// Command shadow runs a candidate pricing service beside the shop's own prices, on
// the live events, and reports in money what would have changed, before anyone
// switches.
//
// This folder is wiring: flags, files, signals and lifetimes. What a shadow does is in
// package shadow, what may honestly be said of it in package compare.
package main

import "banyan/cmd/internal/cli"

func main() { cli.Main(Main) }
