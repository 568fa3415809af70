// Command cdc turns the committed rows of an existing Postgres database into
// business events in Kafka, and proves that none is missing.
//
// This folder is wiring: flags, configuration, signals and lifetimes. What cdc
// promises is in capture.go, on one screen.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := Main(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
