package pricing

import (
	"math"
	"math/bits"
)

// floor is the highest price of the rounding's look that is not above n.
func (w *work) floor(n int64) int64 {
	if n == math.MaxInt64 || n < w.ending {
		return n
	}
	return n - (n-w.ending)%w.unit
}

// ceil is the lowest price of the rounding's look that is not below n.
func (w *work) ceil(n int64) int64 {
	if n <= w.ending {
		return n
	}
	if rest := (n - w.ending) % w.unit; rest > 0 && n <= math.MaxInt64-w.unit {
		return n - rest + w.unit
	}
	return n
}

// scaled gives n times so many basis points, rounded half away from zero as all
// money is; n is not negative. False where it does not fit.
func scaled(n, points int64) (int64, bool) {
	to := share(n, points, basis/2)
	return to, to >= 0
}

// share gives (n*points + more) / basis in whole units, -1 where that does not fit.
// With more 0 it is the highest amount not above the exact share, with basis-1 the
// lowest not below it, with half of basis the nearest. None of n, points and more is
// negative.
func share(n, points, more int64) int64 {
	if n < 1<<47 && points < 1<<15 {
		return (n*points + more) / basis
	}
	hi, lo := bits.Mul64(uint64(n), uint64(points))
	lo, carry := bits.Add64(lo, uint64(more), 0)
	if hi += carry; hi >= basis {
		return -1
	}
	q, _ := bits.Div64(hi, lo, basis)
	if q > math.MaxInt64 {
		return -1
	}
	return int64(q)
}

// nearest gives the multiple of step that is nearest to n, of two the one further
// from zero.
func nearest(n, step int64) int64 {
	rest := n % step
	switch {
	case rest >= step-rest:
		if n > math.MaxInt64-step {
			return n - rest
		}
		return n - rest + step
	case -rest >= step+rest:
		return n - rest - step
	}
	return n - rest
}
