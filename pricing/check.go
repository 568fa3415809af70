package pricing

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"

	"banyan/money"
)

// maxAmount stands for no ceiling.
const maxAmount = math.MaxInt64

// Bounds of what a rule may say. They keep a slip of the finger from becoming a
// price, and products of numbers within 64 bits.
const (
	mostMove   = 2_000   // basis points: 20 %
	mostMargin = 100_000 // ten times the cost on top
	mostBand   = 100_000 // days, or percent
)

var namePattern = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)

// Check tells all that is wrong with the rules, one line each.
func (r Rules) Check() error {
	var faults []error
	r.check(func(i int, field, value, want string) {
		at := fmt.Sprintf("rules[%d]", i)
		if name := r[i].Name; name != "" {
			at += " (" + name + ")"
		}
		faults = append(faults, fmt.Errorf("%s: %s %q: %s", at, field, value, want))
	})
	return errors.Join(faults...)
}

// check calls fault for each thing that is wrong: in which rule, in which of its
// fields (as the file calls it), what stands there and what would be right.
func (r Rules) check(fault func(i int, field, value, want string)) {
	names := map[string]bool{ListRule: true}
	last := kindTier
	for i := range r {
		rule := &r[i]
		say := func(field, value, want string) { fault(i, field, value, want) }
		switch {
		case !namePattern.MatchString(rule.Name):
			say("name", rule.Name, "want a name of lower case letters, digits and underscores")
		case names[rule.Name]:
			say("name", rule.Name, "want a name that no other rule has; "+ListRule+" is what each price begins with")
		}
		names[rule.Name] = true
		if rule.Since != 0 && rule.Until != 0 && rule.Until < rule.Since {
			say("until", rule.Until.String(), "want a day not before since, "+rule.Since.String())
		}
		if rule.Does == nil {
			say("kind", "", "want tier, demand, round, margin, bounds or change")
			continue
		}
		if k := rule.Does.part(); k < last && !(k.clamp() && last.clamp()) {
			say("kind", k.String(), "stands after "+last.String()+"; want the order tier, demand, round, and floors and ceilings last")
		} else {
			last = k
		}
		checkPart(rule.Does, say)
	}
}

func checkPart(p Part, say func(field, value, want string)) {
	within := func(field string, n, low, high int64, unit string) {
		if n < low || n > high {
			say(field, strconv.FormatInt(n, 10), fmt.Sprintf("want %d to %d %s", low, high, unit))
		}
	}
	switch p := p.(type) {
	case Pace:
		within("least", p.Least, 1, mostPieces, "pieces")
		within("most", p.Most, 1, mostMove, "basis points")
		checkBands("cover", p.Cover, say)
		checkBands("trend", p.Trend, say)
	case Round:
		if p.Step.Sign() <= 0 || !sayable(p.Step) {
			say("step", p.Step.String(), "want an amount above zero, such as 0.01")
		} else if p.Ending.Sign() < 0 || p.Ending.Cmp(p.Step) >= 0 {
			say("ending", p.Ending.String(), "want an amount from zero to below step")
		}
	case Margin:
		within("least", p.Least, 0, mostMargin, "basis points")
	case Bounds:
		checkBounds(p, say)
	case Change:
		within("most", p.Most, 0, mostMove, "basis points")
	}
}

func checkBounds(p Bounds, say func(field, value, want string)) {
	if _, ok := money.MinorUnit(p.Currency); !ok {
		say("currency", p.Currency, "want a currency of ISO 4217, such as GBP")
	}
	if p.Floor.Sign() < 0 || !sayable(p.Floor) {
		say("floor", p.Floor.String(), "want an amount from zero on")
	}
	if p.Ceiling.Sign() < 0 || p.Ceiling.Sign() > 0 && p.Ceiling.Cmp(p.Floor) < 0 || !sayable(p.Ceiling) {
		say("ceiling", p.Ceiling.String(), "want an amount not below floor, or none")
	}
}

// sayable reports whether some scale can hold the amount.
func sayable(d money.Decimal) bool {
	_, _, ok := d.Int64()
	return ok && d.Scale() <= money.MaxScale
}

func checkBands(field string, b Bands, say func(field, value, want string)) {
	b = b.sorted()
	for _, part := range []struct {
		name  string
		bands []Band
	}{{"below", b.Below}, {"above", b.Above}} {
		for i, band := range part.bands {
			value := fmt.Sprintf("%d: %d", band.At, band.Move)
			if band.At < 1 || band.At > mostBand {
				say(field+"."+part.name, value, fmt.Sprintf("want a bound from 1 to %d", mostBand))
			}
			if band.Move < -mostMove || band.Move > mostMove {
				say(field+"."+part.name, value, fmt.Sprintf("want a move from %d to %d basis points", -mostMove, mostMove))
			}
			if i > 0 && band.At == part.bands[i-1].At {
				say(field+"."+part.name, value, "want each bound once")
			}
		}
	}
	if below, above := len(b.Below), len(b.Above); below > 0 && above > 0 && b.Below[below-1].At > b.Above[above-1].At {
		say(field, fmt.Sprintf("below %d, above %d", b.Below[below-1].At, b.Above[above-1].At), "want below and above not to overlap")
	}
}
