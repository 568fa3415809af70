package main

import (
	"fmt"
	"testing"
)

// BenchmarkRun lives through a year of a shop, from the first record of its topics to
// the last proposal: events of the source a second.
func BenchmarkRun(b *testing.B) {
	s := openShop(b)
	s.list(1000, 2550, 5000)
	s.trade(360, 60)
	s.tell()
	events := 0
	for _, name := range topics("shop") {
		for _, records := range s.records(name) {
			events += len(records)
		}
	}
	i := 0
	for b.Loop() {
		i++
		s.propose(fmt.Sprintf("shadow.bench%d", i))
	}
	b.ReportMetric(float64(events)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(len(s.proposals("shadow.bench1"))), "proposals")
}
