package randtest_test

import (
	"testing"
	"time"

	"banyan/internal/randtest"
)

func TestASeedGivesTheSameAgain(t *testing.T) {
	t.Setenv("BANYAN_SEED", "18446744073709551615")
	if got := randtest.Seed(t); got != 1<<64-1 {
		t.Errorf("the seed is %d", got)
	}
	one, two := randtest.New(t), randtest.New(t)
	for range 10 {
		if a, b := one.Uint64(), two.Uint64(); a != b {
			t.Errorf("%d and then %d", a, b)
		}
	}
	t.Setenv("BANYAN_SEED", "")
	if a, b := randtest.Seed(t), randtest.Seed(t); a == b {
		t.Errorf("two tests without a seed have the same: %d", a)
	}
	select {
	case <-randtest.Within(one, time.Millisecond):
	case <-time.After(time.Minute):
		t.Error("there is no moment")
	}
}
