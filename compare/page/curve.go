package page

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"banyan/compare"
	"banyan/money"
)

// size is a canvas: how wide and high, where its plot begins, how many ticks fit.
type size struct {
	class             string
	w, h              px
	left, right       px
	top, bottom       px
	ticksX, ticksY    int
	everyElasticityAt float64
}

// The canvases. A narrow one is shown at its own size on a screen of 320 pixels.
var (
	wide   = size{class: "wide", w: 680, h: 380, left: 64, right: 16, top: 12, bottom: 46, ticksX: 7, ticksY: 6, everyElasticityAt: .5}
	narrow = size{class: "narrow", w: 288, h: 300, left: 52, right: 10, top: 12, bottom: 46, ticksX: 3, ticksY: 5, everyElasticityAt: 1}
)

var sizes = []size{wide, narrow}

// curveChart is the headline chart: what revenue and margin would have changed by, by
// how strongly demand answers. It begins on the left with the exact sum (nobody
// answers), and goes to strong answers on the right, as it is told in words.
func curveChart(i int, m compare.Money) *chart {
	points := curveOf(m.Demand)
	if len(points) < 2 {
		return nil
	}
	c := &chart{ID: fmt.Sprintf("curve-%d", i), Title: "Difference of revenue and margin by price elasticity, " + m.Currency}
	last := points[len(points)-1]
	c.Desc = fmt.Sprintf("From elasticity 0, where nobody answers to another price, to %s. Revenue goes from %s to %s", decimal(last.Elasticity, 1),
		aboutSigned(points[0].Revenue), aboutSigned(last.Revenue))
	if costKnown(m) {
		c.Desc += fmt.Sprintf(", margin from %s to %s", aboutSigned(points[0].Margin), aboutSigned(last.Margin))
	}
	c.Desc += ". " + m.Demand.Revenue.Sentence + " " + m.Demand.Margin.Sentence
	for _, s := range sizes {
		c.Drawings = append(c.Drawings, drawCurve(s, c.ID, points, m))
	}
	c.Keys = curveKeys(m, points)
	return c
}

// curveOf is the curve from 0 downwards, thinned to what a chart can show.
func curveOf(d compare.DemandView) []compare.CurvePoint {
	points := slices.Clone(d.Curve)
	slices.SortStableFunc(points, func(a, b compare.CurvePoint) int { return cmp.Compare(b.Elasticity, a.Elasticity) })
	const most = 120
	if len(points) <= most {
		return points
	}
	var out []compare.CurvePoint
	for i := range most {
		out = append(out, points[i*(len(points)-1)/(most-1)])
	}
	return out
}

// reachOf is what the vertical axis has to show: the exact difference and the whole of
// the plausible band, and of the rest as much again on either side. Where a few prices
// fall to nearly nothing constant elasticity goes on to trillions, and would flatten all
// else; so a curve may leave the chart, and its table has the figures.
func reachOf(points []compare.CurvePoint, m compare.Money) reach {
	var all, core reach
	for _, of := range seriesOf(m) {
		core.money(of.read(points[0]).free)
		if b := bandOf(m.Demand, of.read); b != nil {
			core.money(b.Low, b.High)
		}
		for _, p := range points {
			r := of.read(p)
			all.money(r.free)
			if r.stock != nil {
				all.money(*r.stock)
			}
		}
	}
	room := core.high - core.low
	if room == 0 {
		return all
	}
	return reach{max(min(all.low, core.low), core.low-room), min(max(all.high, core.high), core.high+room)}
}

// series is a line of the chart, with the form of its marks.
type series struct {
	class, form string
	read        func(compare.CurvePoint) reading
}

// seriesOf are those that there is something to say of, the first drawn first.
func seriesOf(m compare.Money) []series {
	all := []series{{"margin", "square", ofMargin}, {"revenue", "circle", ofRevenue}}
	if !costKnown(m) {
		return all[1:]
	}
	return all
}

func drawCurve(s size, id string, points []compare.CurvePoint, m compare.Money) drawing {
	d := drawing{ID: id + "-" + s.class, Class: s.class, W: s.w}
	crossings := breakEvens(m, points)
	labels, rows := placeCrossings(s, crossings, points)
	top := s.top + px(rows)*18
	bottom := top + s.h - s.top - s.bottom
	d.H = bottom + s.bottom
	r := reachOf(points, m)
	y := newAxis(r.low, r.high, bottom, top, s.ticksY)
	x := elasticityAxis(s, points)

	zero := y.place(0)
	if zero < bottom {
		d.rect("loss-ground", s.left, zero, s.w-s.left-s.right, bottom-zero, "")
	}
	if low, high := m.Demand.BandLow, m.Demand.BandHigh; low != high {
		from, to := x.place(high), x.place(low)
		d.rect("band", min(from, to), top, max(from, to)-min(from, to), bottom-top, "")
	}
	for _, t := range y.Ticks {
		d.line("grid", s.left, y.place(t), s.w-s.right, y.place(t))
		d.text("tick", "end", s.left-9, y.place(t)+4, y.label(t))
	}
	d.line("zero", s.left, zero, s.w-s.right, zero)
	drawElasticities(&d, s, x, bottom)
	drawSeries(&d, x, y, points, seriesOf(m))
	for i, c := range crossings {
		at := x.place(c.at)
		d.line("callout", at, labels[i].Y+4, at, zero)
		d.mark("ring", "crossing "+c.class, at, zero)
		d.Shapes = append(d.Shapes, labels[i])
	}
	return d
}

// elasticityAxis runs from 0 on the left to the strongest answer on the right.
func elasticityAxis(s size, points []compare.CurvePoint) axis {
	return axis{Low: points[0].Elasticity, High: points[len(points)-1].Elasticity, From: s.left, To: s.w - s.right}
}

func drawElasticities(d *drawing, s size, x axis, bottom px) {
	low, high := min(x.Low, x.High), max(x.Low, x.High)
	for n := 0; n <= 40; n++ {
		e := high - float64(n)*s.everyElasticityAt
		if e < low-1e-9 {
			break
		}
		d.line("tickmark", x.place(e), bottom, x.place(e), bottom+4)
		if math.Abs(e-math.Round(e)) < 1e-9 {
			d.text("tick", "middle", x.place(e), bottom+18, trimmed(e, 1))
		}
	}
	title := "price elasticity: how strongly demand answers"
	if s.class == narrow.class {
		title = "price elasticity of demand"
	}
	d.text("axis", "middle", (s.left+s.w-s.right)/2, bottom+38, title)
}

func drawSeries(d *drawing, x, y axis, points []compare.CurvePoint, all []series) {
	for _, s := range all {
		d.path("linear "+s.class, trace(x, y, points, func(p compare.CurvePoint) money.Amount { return s.read(p).linear }))
	}
	for _, s := range all {
		d.path("series "+s.class, trace(x, y, points, func(p compare.CurvePoint) money.Amount { return s.read(p).free }))
	}
	for _, s := range all {
		for _, p := range points {
			if a := s.read(p).stock; a != nil && y.shows(value(*a)) {
				d.mark(s.form, "capped "+s.class, x.place(p.Elasticity), y.place(value(*a)))
			}
		}
	}
	goOn(d, x, y, points, all)
}

// goOn says where a curve leaves the chart that it does not end there.
func goOn(d *drawing, x, y axis, points []compare.CurvePoint, all []series) {
	rows := map[string]px{}
	for _, s := range slices.Backward(all) { // the one that leaves first
		for i := len(points) - 1; i > 0; i-- {
			before, v := value(s.read(points[i-1]).free), value(s.read(points[i]).free)
			if y.shows(v) {
				break // it comes to its end on the chart
			}
			if !y.shows(before) {
				continue
			}
			arrow, at, step := " goes on ↑", y.To+14, px(17)
			if v < y.Low {
				arrow, at, step = " goes on ↓", y.From-6, -17
			}
			_, share, _ := y.within(before, v)
			left, right := x.place(points[i-1].Elasticity), x.place(points[i].Elasticity)
			edge, anchor, text := left+px(share)*(right-left)+8, "start", s.class+arrow
			if edge+widthOf(text) > x.To {
				text = strings.TrimSpace(arrow) // on a phone; it is told by its colour
			}
			if edge+widthOf(text) > x.To {
				// The curve is further left down there.
				edge, anchor, text = edge-20-max(rows[arrow], -rows[arrow]), "end", s.class+arrow
			}
			d.text("label "+s.class, anchor, edge, at+rows[arrow], text)
			rows[arrow] += step
			break
		}
	}
}

// trace draws a line through the points, as far as it stays on the chart.
func trace(x, y axis, points []compare.CurvePoint, of func(compare.CurvePoint) money.Amount) string {
	var b strings.Builder
	open := false
	for i := 1; i < len(points); i++ {
		from, to := value(of(points[i-1])), value(of(points[i]))
		begin, end, ok := y.within(from, to)
		if !ok {
			open = false
			continue
		}
		along := func(share float64) string {
			left, right := x.place(points[i-1].Elasticity), x.place(points[i].Elasticity)
			return at(left+px(share)*(right-left), y.place(from+share*(to-from)))
		}
		if !open || begin > 0 {
			b.WriteString("M" + along(begin))
		}
		b.WriteString("L" + along(end))
		open = end == 1
	}
	return b.String()
}

// crossing is a place where a difference changes its sign.
type crossing struct {
	at          float64
	class, text string
}

// breakEvens are those of constant elasticity that lie on the chart.
func breakEvens(m compare.Money, points []compare.CurvePoint) []crossing {
	low, high := points[len(points)-1].Elasticity, points[0].Elasticity
	var out []crossing
	add := func(roots []float64, class string) {
		for _, at := range roots {
			if at >= low && at <= high && len(out) < 6 {
				out = append(out, crossing{at, class, class + " breaks even at " + decimal(at, 2)})
			}
		}
	}
	add(m.Demand.Revenue.Constant, "revenue")
	if costKnown(m) {
		add(m.Demand.Margin.Constant, "margin")
	}
	slices.SortStableFunc(out, func(a, b crossing) int { return cmp.Compare(b.at, a.at) })
	return out
}

// placeCrossings gives each crossing a label above the plot, in rows of their own
// where two would touch.
func placeCrossings(s size, crossings []crossing, points []compare.CurvePoint) (labels []shape, rows int) {
	x := elasticityAxis(s, points)
	var taken room
	for _, c := range crossings {
		w := widthOf(c.text)
		from := min(max(x.place(c.at)-w/2, s.left), s.w-4-w)
		row := taken.row(from, from+w)
		rows = max(rows, row+1)
		labels = append(labels, shape{Kind: "text", Class: "label " + c.class, Anchor: "middle", X: from + w/2, Y: px(row)*18 + 14, Text: c.text})
	}
	return labels, rows
}

func curveKeys(m compare.Money, points []compare.CurvePoint) []key {
	stroke := func(class string) []shape {
		return []shape{{Kind: "line", Class: class, X: 1, Y: 8, X2: 27, Y2: 8}}
	}
	keys := []key{
		{stroke("series revenue"), "revenue"},
	}
	if costKnown(m) {
		keys = append(keys, key{stroke("series margin"), "margin, where the cost is known"})
	}
	keys = append(keys, key{stroke("linear revenue"), "dashed: linear demand"})
	if m.Demand.BandLow != m.Demand.BandHigh {
		keys = append(keys, key{[]shape{{Kind: "rect", Class: "band", X: 1, Y: 2, X2: 26, Y2: 12}},
			"plausible, " + decimal(max(m.Demand.BandLow, m.Demand.BandHigh), 2) + " to " + decimal(min(m.Demand.BandLow, m.Demand.BandHigh), 2)})
	}
	if slices.ContainsFunc(points, func(p compare.CurvePoint) bool { return p.RevenueCapped != nil }) {
		marks := []shape{{Kind: "path", Class: "capped revenue", D: outline("circle", 7, 8)}}
		if costKnown(m) {
			marks = append(marks, shape{Kind: "path", Class: "capped margin", D: outline("square", 21, 8)})
		}
		keys = append(keys, key{marks, "as far as stock allows"})
	}
	return append(keys, key{[]shape{{Kind: "rect", Class: "loss-ground", X: 1, Y: 2, X2: 26, Y2: 12}}, "below zero: a loss"})
}
