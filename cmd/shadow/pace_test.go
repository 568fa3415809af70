package main

import (
	"testing"
	"time"
)

// A shadow that falls behind compares fewer and fewer customers, and all again once it
// has caught up; in between nothing changes, or it would swing.
func TestPace(t *testing.T) {
	p := &pace{most: 8000, maxLag: 30 * time.Minute}
	for _, step := range []struct {
		lag  time.Duration
		want int64
	}{
		{0, 8000}, {29 * time.Minute, 8000}, {31 * time.Minute, 5000}, {20 * time.Minute, 5000}, {time.Hour, 2500},
		{time.Hour, 1000}, {10 * time.Hour, 1000}, {4 * time.Minute, 1000}, {2 * time.Minute, 8000}, {40 * time.Minute, 5000},
	} {
		next := p.next(step.lag)
		if next != step.want {
			t.Fatalf("at %d and %s behind it goes to %d, want %d", p.sample(), step.lag, next, step.want)
		}
		p.now.Store(next)
	}
	few := &pace{most: 2000, maxLag: time.Minute}
	if got := few.next(time.Hour); got != 1000 {
		t.Errorf("a sample of 20 %% goes to %d, want 1000", got)
	}
}
