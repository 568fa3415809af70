// Package randtest gives tests that leave something to chance a seed that is printed,
// so that a failure can be had again: BANYAN_SEED=<what it printed> go test -run ...
// Moments at which something is killed come from it too; those repeat only as far as
// the machine does.
//
// Tests only.
package randtest

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

// Seed is BANYAN_SEED, or a new one; it is printed. A BANYAN_SEED that is no number of
// 64 bits fails the test at once.
func Seed(t testing.TB) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if s := os.Getenv("BANYAN_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("BANYAN_SEED: %v", err)
		}
	}
	t.Logf("BANYAN_SEED=%d", seed)
	return seed
}

// New is a source of chance of the test's own, from Seed. It is for one goroutine.
func New(t testing.TB) *rand.Rand {
	t.Helper()
	return rand.New(rand.NewPCG(Seed(t), 1))
}

// Within is a moment at random, sooner than the limit, which must be positive: what is
// killed then is killed wherever it is.
func Within(rng *rand.Rand, limit time.Duration) <-chan time.Time {
	return time.After(time.Duration(rng.Int64N(int64(limit))))
}
