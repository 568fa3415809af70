package structure

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/google/go-cmp/cmp"
)

// ParseError says that one of two documents could not be read.
type ParseError struct {
	Side string // "control" or "candidate"
	Err  error
}

func (e *ParseError) Error() string { return fmt.Sprintf("read the JSON of %s: %v", e.Side, e.Err) }
func (e *ParseError) Unwrap() error { return e.Err }

// JSON compares two JSON texts. Where one cannot be read, the error is, or
// joins, a *ParseError for each such side.
func (c *Comparer) JSON(control, candidate []byte) (Result, error) {
	x, errX := c.Parse(control)
	y, errY := c.Parse(candidate)
	var faults []error
	if errX != nil {
		faults = append(faults, &ParseError{"control", errX})
	}
	if errY != nil {
		faults = append(faults, &ParseError{"candidate", errY})
	}
	if len(faults) > 0 {
		return Result{Uses: c.Rules()}, errors.Join(faults...)
	}
	return c.Compare(x, y)
}

// Values compares two plain Go values, such as structs with exported fields, as
// the JSON that encoding/json makes of them: paths have the names of the tags,
// and what JSON leaves out is not compared. It fails on what has no JSON.
func (c *Comparer) Values(control, candidate any) (Result, error) {
	x, err := json.Marshal(control)
	if err != nil {
		return Result{Uses: c.Rules()}, fmt.Errorf("write control as JSON: %w", err)
	}
	y, err := json.Marshal(candidate)
	if err != nil {
		return Result{Uses: c.Rules()}, fmt.Errorf("write candidate as JSON: %w", err)
	}
	return c.JSON(x, y)
}

// Compare compares two documents that this Comparer has read; others are
// refused. It does not panic: what go-cmp cannot do comes back as an error.
func (c *Comparer) Compare(control, candidate *Document) (res Result, err error) {
	res.Uses = c.Rules()
	if control == nil || candidate == nil || control.by != c || candidate.by != c {
		return res, errors.New("compare documents: both must have been read by this Comparer")
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("compare documents: go-cmp gave up: %v", p)
		}
	}()
	res.Uses = Add(Add(res.Uses, control.uses), candidate.uses)
	if control.root.digest == candidate.root.digest && len(c.rules) == 0 {
		return res, nil
	}
	hide := func(by *rule, d Difference) {
		res.Uses[by.number].Hid++
		if d.Rule = by.text; len(res.Hidden) < MaxDifferences {
			res.Hidden = append(res.Hidden, d)
		}
	}
	a := &aligner{left: maxPlaces}
	a.hidden = func(path []place, by *rule, x, y *node) { hide(by, differ(path, leaf{Node: x}, leaf{Node: y})) }
	x, y := a.pair(control.root, candidate.root)
	r := &reporter{strict: c.strict, hide: hide}
	cmp.Equal(x, y, cmp.Comparer(func(p, q leaf) bool { return sameLeaf(p, q, c.strict) }), cmp.Reporter(r))
	res.Differences, res.More = r.found, r.more+a.more
	return res, nil
}

// sameLeaf is symmetric, as go-cmp demands.
func sameLeaf(p, q leaf, strict bool) bool {
	if p.Moved || q.Moved {
		return false
	}
	return same(p.Node, q.Node, strict) || tolerated(p.Node, q.Node) != nil
}

func same(x, y *node, strict bool) bool {
	if !strict && x.money != nil && y.money != nil {
		return x.money.amount.equal(y.money.amount) && x.money.currency == y.money.currency
	}
	return x.digest == y.digest
}

// tolerated gives the rule that lets two numbers pass.
func tolerated(x, y *node) *rule {
	by := x.by().limit
	if by == nil || y.by().limit == nil || !numbers(x, y) || !by.limit.allows(x.number(), y.number()) {
		return nil
	}
	return by
}

// reporter is told by go-cmp of every pair that it has looked at. It takes from
// it where it stands and what it holds, and never its text.
type reporter struct {
	strict bool
	steps  []cmp.PathStep
	hide   func(by *rule, d Difference)
	found  []Difference
	more   int
}

// PushStep goes one step down.
func (r *reporter) PushStep(s cmp.PathStep) { r.steps = append(r.steps, s) }

// PopStep goes back up.
func (r *reporter) PopStep() { r.steps = r.steps[:len(r.steps)-1] }

// Report hears of one pair.
func (r *reporter) Report(rs cmp.Result) {
	vx, vy := r.steps[len(r.steps)-1].Values()
	x, y := leafOf(vx), leafOf(vy)
	if rs.Equal() {
		if x.Node == nil || y.Node == nil || same(x.Node, y.Node, r.strict) {
			return
		}
		if by := tolerated(x.Node, y.Node); by != nil {
			r.hide(by, differ(r.path(), x, y))
		}
		return
	}
	if len(r.found) == MaxDifferences {
		r.more++
		return
	}
	r.found = append(r.found, differ(r.path(), x, y))
}

func (r *reporter) path() []place {
	var path []place
	for _, s := range r.steps {
		if m, ok := s.(cmp.MapIndex); ok {
			path = append(path, m.Key().Interface().(place))
		}
	}
	return path
}

// leafOf is empty where there is none.
func leafOf(v reflect.Value) leaf {
	if !v.IsValid() {
		return leaf{}
	}
	l, _ := v.Interface().(leaf)
	return l
}

// differ writes a difference down.
func differ(path []place, x, y leaf) Difference {
	var p, general strings.Builder
	p.WriteByte('$')
	general.WriteByte('$')
	for _, s := range path {
		p.WriteString(s.Name)
		general.WriteString(s.General)
	}
	d := Difference{Path: p.String(), General: general.String(), Cause: Order, Count: 1, Control: x.Node.String(), Candidate: y.Node.String()}
	if x.Moved {
		return d
	}
	if d.Cause = causeOf(x.Node, y.Node); numbers(x.Node, y.Node) {
		d.Apart = apartText(x.Node.number(), y.Node.number())
	}
	return d
}

// numbers reports whether how far apart they are means something.
func numbers(x, y *node) bool {
	switch {
	case x == nil || y == nil || x.kind != y.kind:
		return false
	case x.kind == object:
		return sameCurrency(x, y)
	}
	return x.number().valid && y.number().valid
}

func sameCurrency(x, y *node) bool {
	return x.money != nil && y.money != nil && x.money.currency == y.money.currency
}

// causeOf tells causes apart; nil is a side that has nothing.
func causeOf(x, y *node) Cause {
	switch {
	case y == nil && x.kind == null, x == nil && y.kind == null:
		return Null
	case y == nil:
		return Missing
	case x == nil:
		return Extra
	case x.kind != y.kind:
		return Type
	case x.money != nil && y.money != nil && !sameCurrency(x, y):
		return Currency
	case numbers(x, y) && x.number().equal(y.number()):
		return Form
	case x.kind == text && alike(x.value, y.value):
		return Form
	}
	if a, ok := x.instant(); ok {
		if b, ok := y.instant(); ok && a.Equal(b) {
			_, zoneA := a.Zone()
			if _, zoneB := b.Zone(); zoneA == zoneB {
				return Form
			}
			return Zone
		}
	}
	if numbers(x, y) && rounded(x.number(), y.number()) {
		return Rounding
	}
	return Value
}

// alike ignores white space at both ends, how much of it stands between words,
// and letter case.
func alike(a, b string) bool {
	return strings.EqualFold(strings.Join(strings.Fields(a), " "), strings.Join(strings.Fields(b), " "))
}
