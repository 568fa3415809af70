package page

import (
	"math"
	"strconv"
	"strings"

	"banyan/money"
)

// chart is a drawing in two sizes, so that its letters are large enough on a phone and
// on paper alike; the style sheet shows one of them. Title and Desc are what a screen
// reader says in its place.
type chart struct {
	ID, Title, Desc string
	Keys            []key
	Drawings        []drawing
}

// key is an entry of the legend: its mark is drawn as it is in the chart.
type key struct {
	Mark []shape
	Text string
}

// drawing is a picture on a canvas of its own units.
type drawing struct {
	ID, Class string
	W, H      px
	Shapes    []shape
}

// px is a place on a canvas. It is written with one decimal, so that the same report
// gives the same bytes.
type px float64

// String writes the place as SVG wants it.
func (p px) String() string {
	if math.IsNaN(float64(p)) || math.IsInf(float64(p), 0) {
		p = 0
	}
	s := strconv.FormatFloat(float64(p), 'f', 1, 64)
	s = strings.TrimSuffix(s, ".0")
	if s == "-0" {
		return "0"
	}
	return s
}

// shape is one mark. Kind is line, rect, path or text; what it looks like is the
// style sheet's affair.
type shape struct {
	Kind, Class  string
	X, Y, X2, Y2 px // of a rect: X2 and Y2 are its width and height
	D, Text      string
	Anchor       string // of a text: start, middle or end
	Tip          string // what pointing at it says
}

func (d *drawing) line(class string, x, y, x2, y2 px) {
	d.Shapes = append(d.Shapes, shape{Kind: "line", Class: class, X: x, Y: y, X2: x2, Y2: y2})
}

func (d *drawing) rect(class string, x, y, w, h px, tip string) {
	d.Shapes = append(d.Shapes, shape{Kind: "rect", Class: class, X: x, Y: y, X2: w, Y2: h, Tip: tip})
}

func (d *drawing) path(class, data string) {
	d.Shapes = append(d.Shapes, shape{Kind: "path", Class: class, D: data})
}

func (d *drawing) text(class, anchor string, x, y px, text string) {
	d.Shapes = append(d.Shapes, shape{Kind: "text", Class: class, Anchor: anchor, X: x, Y: y, Text: text})
}

// mark draws a point as a square, a circle or a diamond: its series can be told by its
// form as well as by its colour.
func (d *drawing) mark(form, class string, x, y px) {
	d.Shapes = append(d.Shapes, shape{Kind: "path", Class: class, D: outline(form, x, y)})
}

func outline(form string, x, y px) string {
	const r = 4
	switch form {
	case "square":
		return "M" + at(x-r, y-r) + "h8v8h-8z"
	case "diamond":
		return "M" + at(x, y-r-2) + "l6 6l-6 6l-6 -6z"
	}
	return "M" + at(x-r-.5, y) + "a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0z"
}

func at(x, y px) string { return x.String() + " " + y.String() }

// letter is the width that a character is taken to have at the size of a chart's
// texts: that of a wide face, as nobody knows which one a reader has.
const letter px = 7.6

func widthOf(text string) px {
	n := 0
	for range text {
		n++
	}
	return px(n) * letter
}

// axis maps numbers to places, with ticks at round numbers.
type axis struct {
	Low, High float64 // what is shown
	From, To  px      // where
	Ticks     []float64
	Step      float64
}

// newAxis shows at least low to high, and about so many ticks. Its ends are ticks.
func newAxis(low, high float64, from, to px, ticks int) axis {
	if !(low < high) {
		pad := math.Max(math.Abs(low)*.1, 1)
		low, high = low-pad, high+pad
	}
	step := roundStep((high - low) / float64(max(ticks, 1)))
	a := axis{From: from, To: to, Step: step}
	first, last := math.Floor(low/step+1e-9), math.Ceil(high/step-1e-9)
	a.Low, a.High = first*step, last*step
	for n := first; n <= last && len(a.Ticks) < 40; n++ {
		a.Ticks = append(a.Ticks, n*step+0) // +0: there is no minus nought
	}
	return a
}

// roundStep is the 1, 2 or 5 times a power of ten that is not below f.
func roundStep(f float64) float64 {
	if f <= 0 || math.IsNaN(f) || math.IsInf(f, 0) {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(f)))
	for _, m := range []float64{1, 2, 5} {
		if f <= m*power*(1+1e-9) {
			return m * power
		}
	}
	return 10 * power
}

// place is where a number lies; what is outside of the axis lies at its end.
func (a axis) place(f float64) px {
	share := (f - a.Low) / (a.High - a.Low)
	if math.IsNaN(share) {
		share = 0
	}
	share = math.Min(1, math.Max(0, share))
	return a.From + px(share)*(a.To-a.From)
}

// shows reports whether a number lies on the axis.
func (a axis) shows(f float64) bool { return f >= a.Low && f <= a.High }

// within is which part of the way from one number to another lies on the axis, as
// shares of it; ok is false where none does.
func (a axis) within(from, to float64) (begin, end float64, ok bool) {
	if from == to {
		return 0, 1, a.shows(from)
	}
	low, high := (a.Low-from)/(to-from), (a.High-from)/(to-from)
	begin, end = math.Max(0, math.Min(low, high)), math.Min(1, math.Max(low, high))
	return begin, end, begin < end
}

// label writes a tick of an axis, in thousands or millions where its numbers are.
func (a axis) label(f float64) string {
	most := math.Max(math.Abs(a.Low), math.Abs(a.High))
	for _, u := range []struct {
		size float64
		word string
	}{{1e12, "tn"}, {1e9, "bn"}, {1e6, "m"}, {1e3, "k"}} {
		if most < 10*u.size && !(most >= u.size && a.Step >= u.size/10) || most < u.size {
			continue
		}
		if f == 0 {
			return "0"
		}
		return trimmed(f/u.size, decimalsOf(a.Step/u.size)) + u.word
	}
	return trimmed(f, decimalsOf(a.Step))
}

// decimalsOf is how many decimals tell steps of this size apart.
func decimalsOf(step float64) int {
	return max(0, min(9, int(math.Ceil(-math.Log10(step)-1e-9))))
}

// reach is the least and the largest of values, and 0.
type reach struct{ low, high float64 }

func (r *reach) take(fs ...float64) {
	for _, f := range fs {
		if math.IsNaN(f) || math.IsInf(f, 0) {
			continue
		}
		r.low, r.high = math.Min(r.low, f), math.Max(r.high, f)
	}
}

func (r *reach) money(as ...money.Amount) {
	for _, a := range as {
		r.take(value(a))
	}
}

// room shares out rows to labels along an axis, so that none covers another.
type room struct{ ends []px }

// row gives the first row in which from..to is free, and takes it.
func (r *room) row(from, to px) int {
	const gap = 8
	for i, end := range r.ends {
		if from >= end+gap {
			r.ends[i] = to
			return i
		}
	}
	r.ends = append(r.ends, to)
	return len(r.ends) - 1
}
