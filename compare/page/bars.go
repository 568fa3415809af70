package page

import (
	"fmt"
	"time"

	"banyan/compare"
	"banyan/money"
)

// intervalRow is one line of the chart of what is known how well.
type intervalRow struct {
	Name      string
	Low, High money.Amount
	At        *money.Amount
	Form      string // of the mark at At
	Class     string
}

// intervalRows are the two uncertainties, which have nothing to do with each other, on
// one axis: what a next period may bring at the same demand, and what demand may do.
func intervalRows(m compare.Money) []intervalRow {
	exactly := m.Headline.Diff
	rows := []intervalRow{{"this window, exact", exactly, exactly, &exactly, "diamond", "exactly"}}
	if m.Bounds.Missing > 0 {
		rows = append(rows, intervalRow{"with missing prices", m.Bounds.Low, m.Bounds.High, nil, "", "missing"})
	}
	if s := m.Projection.Sequence; s.Known() {
		rows = append(rows, intervalRow{"a next period like it", s.Low, s.High, &s.Estimate, "circle", "projected"})
	}
	for _, what := range []string{"revenue", "margin"} {
		if b := bandFor(m, what); b != nil {
			rows = append(rows, intervalRow{"if demand answers: " + what, b.Low, b.High, nil, "", "demand"})
		}
	}
	return rows
}

func intervalChart(i int, m compare.Money) *chart {
	rows := intervalRows(m)
	c := &chart{ID: fmt.Sprintf("sure-%d", i), Title: "What is known how well, difference of revenue in " + m.Currency}
	for _, r := range rows {
		if r.Low == r.High {
			c.Desc += fmt.Sprintf("%s: %s. ", r.Name, signed(r.Low))
			continue
		}
		c.Desc += fmt.Sprintf("%s: %s to %s. ", r.Name, aboutSigned(r.Low), aboutSigned(r.High))
	}
	for _, s := range sizes {
		c.Drawings = append(c.Drawings, drawIntervals(s, c.ID, rows))
	}
	return c
}

// drawIntervals writes the name of a row above it: names are longer than a phone has
// room beside a bar.
func drawIntervals(s size, id string, rows []intervalRow) drawing {
	const rowHeight px = 46
	d := drawing{ID: id + "-" + s.class, Class: s.class, W: s.w, H: 10 + rowHeight*px(len(rows)) + 34}
	var r reach
	for _, row := range rows {
		r.money(row.Low, row.High)
	}
	const side = 28
	x := newAxis(r.low, r.high, side, s.w-side, s.ticksX)
	bottom := 10 + rowHeight*px(len(rows))
	for _, t := range x.Ticks {
		d.line("grid", x.place(t), 6, x.place(t), bottom)
		d.text("tick", "middle", x.place(t), bottom+18, x.label(t))
	}
	d.line("zero", x.place(0), 6, x.place(0), bottom+4)
	for i, row := range rows {
		y := 10 + rowHeight*px(i)
		d.text("row", "start", 2, y+14, row.Name)
		from, to, middle := x.place(value(row.Low)), x.place(value(row.High)), y+30
		if row.Low != row.High {
			d.rect("interval "+row.Class, from, middle-5, max(to-from, 2), 10, aboutSigned(row.Low)+" to "+aboutSigned(row.High))
			d.line("end "+row.Class, from, middle-8, from, middle+8)
			d.line("end "+row.Class, max(to, from+2), middle-8, max(to, from+2), middle+8)
		}
		if row.At != nil {
			d.mark(row.Form, "dot "+row.Class, x.place(value(*row.At)), middle)
		}
	}
	return d
}

// movesChart shows how many lines move by how much.
func movesChart(i int, m compare.Money) *chart {
	bars := m.Moves
	if len(bars) == 0 {
		return nil
	}
	if len(bars) > 40 {
		bars = bars[:40]
	}
	c := &chart{ID: fmt.Sprintf("moves-%d", i), Title: "Lines by how far their price moves, " + m.Currency}
	c.Desc = fmt.Sprintf("%s fall, %s rise, %s stay.", plural(m.Headline.Fall.Lines, "line", "lines"), plural(m.Headline.Rise.Lines, "line", "lines"), plural(m.Headline.Same, "line", "lines"))
	for _, s := range sizes {
		c.Drawings = append(c.Drawings, drawMoves(s, c.ID, bars))
	}
	return c
}

func drawMoves(s size, id string, bars []compare.MoveBar) drawing {
	d := drawing{ID: id + "-" + s.class, Class: s.class, W: s.w, H: 250}
	bottom := d.H - s.bottom
	var r reach
	for _, b := range bars {
		r.take(float64(b.Lines))
	}
	y := newAxis(0, max(r.high, 1), bottom, s.top, 4)
	for _, t := range y.Ticks {
		d.line("grid", s.left, y.place(t), s.w-s.right, y.place(t))
		d.text("tick", "end", s.left-9, y.place(t)+4, y.label(t))
	}
	step := (s.w - s.left - s.right) / px(len(bars))
	for i, b := range bars {
		class := "bar"
		if stays(b) {
			class = "bar still"
		}
		top := y.place(float64(b.Lines))
		if b.Lines > 0 {
			top = min(top, bottom-1)
		}
		d.rect(class, s.left+step*px(i)+1, top, max(step-2, 1), bottom-top, moveName(bars, i)+": "+plural(b.Lines, "line", "lines"))
	}
	drawEdges(&d, s, step, bottom, bars)
	d.line("zero", s.left, bottom, s.w-s.right, bottom)
	d.text("axis", "middle", (s.left+s.w-s.right)/2, bottom+38, "price move in percent")
	return d
}

// drawEdges writes the numbers between the bars, and under a bar of lines that stay
// where they are its own.
func drawEdges(d *drawing, s size, step, bottom px, bars []compare.MoveBar) {
	free := px(-100)
	write := func(x px, f float64) {
		name := edge(f)
		if w := widthOf(name) / 2; x-w >= free {
			free = x + w + 6
			d.text("tick", "middle", x, bottom+18, name)
		}
	}
	for i, b := range bars {
		x := s.left + step*px(i)
		if i > 0 && !stays(b) && !stays(bars[i-1]) {
			d.line("tickmark", x, bottom, x, bottom+4)
			write(x, b.From)
		}
		if stays(b) {
			write(x+step/2, b.From)
		}
	}
}

// stays reports whether a bar is of the prices that do not move.
func stays(b compare.MoveBar) bool { return b.From == 0 && b.To == 0 }

// edge writes a move in percent, with its sign.
func edge(f float64) string { return plus(trimmed(f, 2), int64(f*1000)) }

// moveName says what a bar stands for; the first and the last are open to their side.
func moveName(bars []compare.MoveBar, i int) string {
	b := bars[i]
	switch {
	case i == 0 && len(bars) > 1:
		return "below " + edge(b.To)
	case i == len(bars)-1 && len(bars) > 1:
		return edge(b.From) + " and more"
	case b.From == b.To:
		return edge(b.From)
	}
	return edge(b.From) + " to " + edge(b.To)
}

// dayBar is a day, or the days of a week where there are too many of them.
type dayBar struct {
	Name          string
	Orders, Lines int64
	Control, Diff money.Amount
	Days          int
}

// maxDays is up to how many days each of them gets a bar.
const maxDays = 62

// dayBars sums days up to weeks where there are too many for a chart; a day that
// cannot be read stands for itself.
func dayBars(days []compare.DayView) []dayBar {
	var out []dayBar
	for _, v := range days {
		name := short(24, v.Day)
		if t, err := time.Parse(time.DateOnly, v.Day); err == nil && len(days) > maxDays {
			name = "week of " + t.AddDate(0, 0, -(int(t.Weekday())+6)%7).Format(time.DateOnly)
		}
		if n := len(out); n > 0 && out[n-1].Name == name {
			b := &out[n-1]
			control, err1 := b.Control.Add(v.Control)
			diff, err2 := b.Diff.Add(v.Diff)
			if err1 == nil && err2 == nil {
				b.Orders, b.Lines, b.Control, b.Diff, b.Days = b.Orders+v.Orders, b.Lines+v.Lines, control, diff, b.Days+1
				continue
			}
		}
		out = append(out, dayBar{name, v.Orders, v.Lines, v.Control, v.Diff, 1})
	}
	if len(out) > maxDays {
		out = out[len(out)-maxDays:]
	}
	return out
}

func daysChart(i int, m compare.Money) *chart {
	bars := dayBars(m.Days)
	if len(bars) < 2 {
		return nil
	}
	c := &chart{ID: fmt.Sprintf("days-%d", i), Title: "Difference of revenue by day, " + m.Currency}
	if len(m.Days) > maxDays {
		c.Title = "Difference of revenue by week, " + m.Currency
	}
	least, largest := bars[0], bars[0]
	for _, b := range bars {
		if value(b.Diff) < value(least.Diff) {
			least = b
		}
		if value(b.Diff) > value(largest.Diff) {
			largest = b
		}
	}
	c.Desc = fmt.Sprintf("From %s to %s. Lowest: %s, %s. Highest: %s, %s.", bars[0].Name, bars[len(bars)-1].Name, signed(least.Diff), least.Name, signed(largest.Diff), largest.Name)
	for _, s := range sizes {
		c.Drawings = append(c.Drawings, drawDays(s, c.ID, bars))
	}
	return c
}

func drawDays(s size, id string, bars []dayBar) drawing {
	d := drawing{ID: id + "-" + s.class, Class: s.class, W: s.w, H: 220}
	bottom := d.H - 30
	var r reach
	for _, b := range bars {
		r.money(b.Diff)
	}
	y := newAxis(r.low, r.high, bottom, s.top, 4)
	for _, t := range y.Ticks {
		d.line("grid", s.left, y.place(t), s.w-s.right, y.place(t))
		d.text("tick", "end", s.left-9, y.place(t)+4, y.label(t))
	}
	step := (s.w - s.left - s.right) / px(len(bars))
	zero := y.place(0)
	for i, b := range bars {
		to := y.place(value(b.Diff))
		class := "bar gain"
		if b.Diff.Amount < 0 {
			class = "bar loss"
		}
		d.rect(class, s.left+step*px(i)+step*.12, min(zero, to), step*.76, max(zero, to)-min(zero, to), b.Name+": "+signed(b.Diff))
	}
	d.line("zero", s.left, zero, s.w-s.right, zero)
	d.text("tick", "start", s.left, bottom+18, bars[0].Name)
	if last := bars[len(bars)-1].Name; widthOf(bars[0].Name)+widthOf(last)+12 < s.w-s.left-s.right {
		d.text("tick", "end", s.w-s.right, bottom+18, last)
	}
	return d
}
