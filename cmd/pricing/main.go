// Command pricing is the example of a candidate pricing service: it answers what an
// order would have cost, over HTTP, and proposes prices as events, to be run in the
// shadow of a shop.
//
// This folder is wiring: flags, files, signals, the reading and writing of topics.
// Which prices it quotes is in package pricing, what is asked and answered in quote.
package main

import "banyan/cmd/internal/cli"

func main() { cli.Main(Main) }
