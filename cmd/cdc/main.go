// Command cdc turns the committed rows of an existing Postgres database into
// business events in Kafka, and proves that none is missing.
//
// This folder is wiring: flags, configuration, signals and lifetimes. What cdc
// promises is in capture.go, on one screen.
package main

import "banyan/cmd/internal/cli"

func main() { cli.Main(Main) }
