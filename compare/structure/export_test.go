package structure

// Common is how many elements of two lists of JSON texts stay in their order; it
// panics where what is paired is not equal or not in order.
func Common(x, y []string) int {
	c := &Comparer{}
	nodes := func(list []string) []*node {
		var out []*node
		for _, s := range list {
			d, err := c.Parse([]byte(s))
			if err != nil {
				panic(err)
			}
			out = append(out, d.root)
		}
		return out
	}
	a, b := nodes(x), nodes(y)
	last := [2]int{-1, -1}
	kept := common(a, b)
	for _, p := range kept {
		if p[0] <= last[0] || p[1] <= last[1] || a[p[0]].digest != b[p[1]].digest {
			panic("pairs out of order, or not equal")
		}
		last = p
	}
	return len(kept)
}
