package structure

import (
	"slices"
	"strconv"
	"strings"
)

// Two documents are handed to go-cmp as trees of maps, in which a step has the
// same name on both sides if and only if the two values under it are to be
// compared. Pairs that are equal are left out, so that the size of the trees is
// that of the differences.

// place names a step. Pos makes steps of one map unique and sorts them; the
// fields are exported because go-cmp reads them.
type place struct {
	Pos           int
	Name, General string
}

// branch is an object or a list; its values are branch or leaf.
type branch map[place]any

// leaf is a value that is compared as a whole. Moved says that it is a list of
// which elements stand elsewhere, and is nothing but that.
type leaf struct {
	Node  *node
	Moved bool
}

// aligner pairs two documents.
type aligner struct {
	path   []place
	left   int // places that may still be put into the trees
	more   int // places that were not
	hidden func(path []place, by *rule, x, y *node)
}

func (a *aligner) pair(x, y *node) (any, any) {
	switch {
	case x.money != nil && y.money != nil:
	case x.kind == object && y.kind == object:
		return a.objects(x, y)
	case x.kind == list && y.kind == list:
		return a.lists(x, y)
	}
	return leaf{Node: x}, leaf{Node: y}
}

// both puts a pair, one side of which may be nil, under p.
func (a *aligner) both(bx, by branch, p place, x, y *node) {
	if by := ignoredBy(x, y); by != nil {
		if x == nil || y == nil || x.whole != y.whole {
			a.hidden(append(a.path, p), by, x, y)
		}
		return
	}
	if x != nil && y != nil && x.digest == y.digest {
		if x.whole != y.whole { // only to count what is hidden
			a.path = append(a.path, p)
			a.pair(x, y)
			a.path = a.path[:len(a.path)-1]
		}
		return
	}
	if a.left == 0 {
		a.more++
		return
	}
	a.left--
	switch {
	case y == nil:
		bx[p] = leaf{Node: x}
	case x == nil:
		by[p] = leaf{Node: y}
	default:
		a.path = append(a.path, p)
		bx[p], by[p] = a.pair(x, y)
		a.path = a.path[:len(a.path)-1]
	}
}

func ignoredBy(x, y *node) *rule {
	if x != nil && x.by().ignored != nil {
		return x.by().ignored
	}
	if y != nil {
		return y.by().ignored
	}
	return nil
}

func (a *aligner) objects(x, y *node) (branch, branch) {
	bx, by := branch{}, branch{}
	names := slices.Concat(x.names, y.names)
	slices.Sort(names)
	for i, name := range slices.Compact(names) {
		p := place{Pos: i, Name: memberText(name)}
		if p.General = p.Name; x.by().mapped {
			p.General = ".*"
		}
		a.both(bx, by, p, x.kid(name), y.kid(name))
	}
	return bx, by
}

// rows is two lists on their way into branches.
type rows struct {
	*aligner
	x, y   []*node
	bx, by branch
	pos    int
}

func (a *aligner) lists(x, y *node) (branch, branch) {
	r := &rows{aligner: a, x: x.kids, y: y.kids, bx: branch{}, by: branch{}}
	switch {
	case x.by().list == nil:
		r.inSequence(x, y)
	case x.by().list.key != "":
		r.byKey(x.by().list.key)
	default:
		r.inAnyOrder()
	}
	return r.bx, r.by
}

// put pairs x[i] and y[j]; -1 is nothing.
func (r *rows) put(i, j int) {
	var x, y *node
	shown := i
	if i >= 0 {
		x = r.x[i]
	} else {
		shown = j
	}
	if j >= 0 {
		y = r.y[j]
	}
	r.named(strconv.Itoa(shown), x, y)
}

func (r *rows) named(label string, x, y *node) {
	r.both(r.bx, r.by, place{Pos: r.pos, Name: "[" + label + "]", General: "[*]"}, x, y)
	r.pos++
}

// byKey pairs elements of the same key, in their order where there are several;
// those without one are a key of their own.
func (r *rows) byKey(key string) {
	label := func(n *node, seen map[string]int) string {
		s := "without " + key
		if k := n.kid(key); k != nil && k.kind != object && k.kind != list {
			v := k.value
			if d := k.number(); k.kind == number && d.valid {
				v = d.plain()
			}
			s = key + "=" + v
		}
		if seen[s]++; seen[s] > 1 {
			s += "#" + strconv.Itoa(seen[s])
		}
		return s
	}
	of := map[string]*node{}
	seen := map[string]int{}
	order := make([]string, 0, len(r.y))
	for _, n := range r.y {
		l := label(n, seen)
		of[l] = n
		order = append(order, l)
	}
	clear(seen)
	for _, n := range r.x {
		l := label(n, seen)
		r.named(shown(l), n, of[l])
		delete(of, l)
	}
	for _, l := range order {
		if n := of[l]; n != nil {
			r.named(shown(l), nil, n)
		}
	}
}

// shown makes a key one step of a path that can be read.
func shown(label string) string {
	const longest = 60
	label = strings.Map(func(c rune) rune {
		if c == ']' || c == '[' || !strconv.IsPrint(c) {
			return '_'
		}
		return c
	}, label)
	if runes := []rune(label); len(runes) > longest {
		return string(runes[:longest]) + "..."
	}
	return label
}

// inAnyOrder pairs equal elements; what is left over is paired in its order
// where both are objects or lists, which are likely the same thing, changed.
func (r *rows) inAnyOrder() {
	equal, xs, ys := sortOut(r.x, r.y, indices(len(r.x), nil, 0), indices(len(r.y), nil, 1))
	for _, p := range equal {
		r.put(p[0], p[1])
	}
	for len(xs) > 0 && len(ys) > 0 && r.x[xs[0]].kind == r.y[ys[0]].kind && r.x[xs[0]].kind >= object {
		r.put(xs[0], ys[0])
		xs, ys = xs[1:], ys[1:]
	}
	r.rest(xs, ys)
}

func (r *rows) rest(xs, ys []int) {
	for _, i := range xs {
		r.put(i, -1)
	}
	for _, j := range ys {
		r.put(-1, j)
	}
}

// sortOut pairs what is equal on both sides, wherever it stands, and gives the
// rest: of the elements of x and y with the indices is and js.
func sortOut(x, y []*node, is, js []int) (equal [][2]int, xs, ys []int) {
	have := map[digest][]int{}
	for _, j := range js {
		have[y[j].digest] = append(have[y[j].digest], j)
	}
	taken := make([]bool, len(y))
	for _, i := range is {
		d := x[i].digest
		of := have[d]
		if len(of) == 0 {
			xs = append(xs, i)
			continue
		}
		equal = append(equal, [2]int{i, of[0]})
		taken[of[0]], have[d] = true, of[1:]
	}
	for _, j := range js {
		if !taken[j] {
			ys = append(ys, j)
		}
	}
	return equal, xs, ys
}

// indices are those from 0 to n that are not kept on the given side.
func indices(n int, kept [][2]int, side int) []int {
	var left []int
	for i := range n {
		if len(kept) > 0 && kept[0][side] == i {
			kept = kept[1:]
			continue
		}
		left = append(left, i)
	}
	return left
}

// inSequence pairs two lists whose order matters: the longest common
// subsequence stays, what has an equal elsewhere has moved, and the rest of each
// gap between is paired from its start.
func (r *rows) inSequence(x, y *node) {
	kept := common(r.x, r.y)
	moved, xs, ys := sortOut(r.x, r.y, indices(len(r.x), kept, 0), indices(len(r.y), kept, 1))
	if len(moved) > 0 {
		p := place{Pos: -1}
		if r.left == 0 {
			r.more++
		} else {
			r.left--
			r.bx[p], r.by[p] = leaf{x, true}, leaf{y, true}
		}
	}
	for _, end := range kept {
		r.gap(takeBelow(&xs, end[0]), takeBelow(&ys, end[1]))
		r.put(end[0], end[1])
	}
	r.gap(xs, ys)
}

// gap pairs what is left between two kept elements.
func (r *rows) gap(xs, ys []int) {
	n := min(len(xs), len(ys))
	for k := range n {
		r.put(xs[k], ys[k])
	}
	r.rest(xs[n:], ys[n:])
}

func takeBelow(from *[]int, limit int) []int {
	n := 0
	for n < len(*from) && (*from)[n] < limit {
		n++
	}
	taken := (*from)[:n]
	*from = (*from)[n:]
	return taken
}

// common gives the index pairs of a longest common subsequence; of several
// always the same one.
func common(x, y []*node) [][2]int {
	var kept, tail [][2]int
	from := 0
	for from < min(len(x), len(y)) && x[from].digest == y[from].digest {
		kept = append(kept, [2]int{from, from})
		from++
	}
	xe, ye := len(x), len(y)
	for xe > from && ye > from && x[xe-1].digest == y[ye-1].digest {
		xe, ye = xe-1, ye-1
		tail = append(tail, [2]int{xe, ye})
	}
	slices.Reverse(tail)
	middle := subsequence(x[from:xe], y[from:ye])
	for i := range middle {
		middle[i][0] += from
		middle[i][1] += from
	}
	return slices.Concat(kept, middle, tail)
}
