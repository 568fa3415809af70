// Command projector runs projections: services with a database of their own,
// built from business events, rebuilt at will.
//
// This folder is wiring: flags, files, signals and lifetimes. What a run does is
// in package projections/service, what it promises in projections and control.
package main

import "banyan/cmd/internal/cli"

func main() { cli.Main(Main) }
