package shadow

import (
	"sync/atomic"
	"testing"

	"banyan/compare"
	"banyan/internal/pgtest"
	"banyan/internal/randtest"
)

// The report has to know that what was compared is not of one sample, after a restart
// too.
func TestASampleThatVariedIsToldAsOne(t *testing.T) {
	shop := newShop(t, randtest.Seed(t))
	h := newHouse(t, pgtest.New(t), shop)
	o := named("paced")
	var sample atomic.Int64
	who := Candidates{InProcess: thrifty{}, Sample: sample.Load, Operations: func() *compare.Operations { return &compare.Operations{} }}
	v, program := h.shadow(o, who)
	for _, step := range []struct {
		sample int64
		varied bool
		told   float64
	}{{2_500, false, 25}, {2_500, false, 25}, {1_000, true, 10}, {Everybody, true, 10}} {
		sample.Store(step.sample)
		shop.trade(20)
		h.catchUp(program(), v, nil)
		f := h.picture("paced").Facts
		if f.SampleVaried != step.varied || f.Operations.Sampled != step.told {
			t.Errorf("with %d of 10,000: varied is %v, and %g %% is told; want %v and %g %%", step.sample, f.SampleVaried, f.Operations.Sampled, step.varied, step.told)
		}
	}
}
