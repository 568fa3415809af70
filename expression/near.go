package expression

import (
	"fmt"
	"slices"
	"strings"
)

// DidYouMean is the end of a message about a word that is not known: the known
// word nearest to it, or a list of the known ones.
func DidYouMean(word string, known []string) string {
	if best := nearest(word, known); best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	if len(known) == 0 {
		return "there is none"
	}
	list := slices.Clone(known)
	more := ""
	if len(list) > 12 {
		list, more = list[:12], ", ..."
	}
	return "known are " + strings.Join(list, ", ") + more
}

// nearest gives "" where nothing is near: one slip in a short word, two in a
// longer one.
func nearest(word string, known []string) string {
	best, distance := "", 3
	if len(word) <= 3 {
		distance = 2
	}
	for _, k := range known {
		if d := editDistance(strings.ToLower(word), strings.ToLower(k)); d < distance && d < len(k) {
			best, distance = k, d
		}
	}
	return best
}

// editDistance counts letters that are wrong, missing, too many, or swapped
// with their neighbour.
func editDistance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row = last, row, before
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := last[j-1]
			if a[i-1] != b[j-1] {
				cost++
			}
			row[j] = min(cost, last[j]+1, row[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}
