package parity_test

import (
	"testing"

	"banyan/shadow/parity"
)

// BenchmarkRun is requests a second through both services on loopback, equal and
// not: the services' own work is a few microseconds.
func BenchmarkRun(b *testing.B) {
	const order = `{"id":"1234","customer":17,"lines":[{"sku":"22423","quantity":3,"price":{"amount":12750,"scale":3,"currency":"GBP"}}],"placedAt":"2011-01-04T10:00:00Z"}`
	const other = `{"id":1234,"customer":17,"lines":[{"sku":"22423","quantity":3,"price":{"amount":12751,"scale":3,"currency":"GBP"}}],"placedAt":"2011-01-04T10:00:00Z"}`
	for name, candidate := range map[string]string{"equal": order, "differing": other} {
		b.Run(name, func(b *testing.B) {
			c := parity.Config{Control: serve(b, says(order)), Candidate: serve(b, says(candidate)), Concurrency: 8}
			r, err := parity.Run(b.Context(), c, paths(b.N))
			if err != nil || r.Compared != b.N {
				b.Fatal(err, r)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
		})
	}
}
