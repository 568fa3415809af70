package structure

import "slices"

// How far subsequence looks. Lists that are further apart than that have, for
// it, nothing in common: their equal elements are told as moved.
const (
	mostEdits = 1000       // elements left out or put in
	mostSteps = 20_000_000 // comparisons, about
)

// subsequence gives the index pairs of a longest common subsequence, by the
// greedy algorithm of E. Myers, "An O(ND) Difference Algorithm and Its
// Variations" (1986): what is left out of x goes before what is put in from y.
func subsequence(x, y []*node) [][2]int {
	n, m := len(x), len(y)
	if n == 0 || m == 0 {
		return nil
	}
	// furthest[k] is how far in x the diagonal k (index in x less index in y) has
	// been reached, with an offset that keeps the index above zero.
	limit := min(n+m, mostEdits, mostSteps/(n+m))
	furthest := make([]int, 2*limit+3)
	at := func(k int) int { return k + limit + 1 }
	var trace [][]int // furthest[-d..d] before the round d
	for d := 0; d <= limit; d++ {
		trace = append(trace, slices.Clone(furthest[at(-d)-1:at(d)+2]))
		for k := -d; k <= d; k += 2 {
			i := furthest[at(k-1)] + 1
			if k == -d || k != d && furthest[at(k-1)] < furthest[at(k+1)] {
				i = furthest[at(k+1)]
			}
			for i < n && i-k < m && i-k >= 0 && x[i].digest == y[i-k].digest {
				i++
			}
			if furthest[at(k)] = i; i >= n && i-k >= m {
				return walkBack(trace, n, m)
			}
		}
	}
	return nil
}

// walkBack reads from the trace which pairs the path has kept.
func walkBack(trace [][]int, i, j int) [][2]int {
	var kept [][2]int
	for d := len(trace) - 1; d >= 0; d-- {
		before := func(k int) int { return trace[d][k+d+1] }
		k := i - j
		from := k - 1
		if k == -d || k != d && before(k-1) < before(k+1) {
			from = k + 1
		}
		startI := before(from)
		startJ := startI - from
		if d == 0 {
			startI, startJ = 0, 0
		}
		for i > startI && j > startJ {
			i, j = i-1, j-1
			kept = append(kept, [2]int{i, j})
		}
		i, j = startI, startJ
	}
	slices.Reverse(kept)
	return kept
}
