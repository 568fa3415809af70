package stats

import "math"

// Move is a price move that some lines share: the sums over all lines whose
// candidate price is the same multiple of the control price. Sums are whole
// units of money (cents, say), all of one currency and scale.
//
// A bin may gather lines whose ratios are nearly the same; the ratio of the sums
// stands for all of them then, which is exact only for the differences at fixed
// demand.
type Move struct {
	// Control and Candidate are the sums of quantity times price.
	Control, Candidate int64
	// KnownControl and KnownCandidate are the same over the lines whose unit cost is
	// known, KnownCost the sum of quantity times that cost.
	KnownControl, KnownCandidate, KnownCost int64
}

// shift is ln(candidate/control), and whether there is one. Lines that were free
// or would be, and lines that were taken back, have none: no model of demand says
// anything of them, and their volume is left as it was.
func (m Move) shift() (float64, bool) {
	if m.Control <= 0 || m.Candidate <= 0 {
		return 0, false
	}
	if change := float64(m.Candidate-m.Control) / float64(m.Control); math.Abs(change) < 0.5 {
		return math.Log1p(change), true // prices that are near are subtracted without loss
	}
	return math.Log(float64(m.Candidate)) - math.Log(float64(m.Control)), true
}

// Demand is how the quantity sold answers to a price.
type Demand int

const (
	// ConstantElasticity sells q (p'/p)^e: the same elasticity e at every price.
	ConstantElasticity Demand = iota
	// Linear sells q (1 + e (p'/p - 1)), and nothing where that is negative.
	Linear
)

// String gives the model's name as a report prints it.
func (d Demand) String() string {
	if d == Linear {
		return "linear"
	}
	return "constant elasticity"
}

// Measure is what is compared.
type Measure int

const (
	// Revenue is quantity times price.
	Revenue Measure = iota
	// Margin is quantity times price less unit cost, over the lines of known cost.
	Margin
)

// String gives the measure's name.
func (m Measure) String() string {
	if m == Margin {
		return "margin"
	}
	return "revenue"
}

// steepest bounds the exponent of a volume factor, so that absurd ratios (a cent
// instead of a million) at absurd elasticities give huge sums and never Inf-Inf.
const steepest = 600

func grow(exponent float64) float64 {
	return math.Expm1(max(-steepest, min(steepest, exponent)))
}

// Volume is the factor by which the quantity changes when the price becomes
// ratio times what it was.
func (d Demand) Volume(ratio, elasticity float64) float64 {
	if d == Linear {
		return max(0, 1+elasticity*(ratio-1))
	}
	return 1 + grow(elasticity*math.Log(ratio))
}

// Difference is what the candidate would have brought more than the control, in
// the unit of the moves, had demand answered with the elasticity (0 or negative
// where people buy less of what costs more).
//
// At elasticity 0 it is the exact sum of the differences (as long as a float64
// holds it, 2^53 units), and under ConstantElasticity the Revenue at -1 is exactly
// 0, but for moves without a ratio: from a price of zero, to one, or of goods
// taken back. Those keep their volume at every elasticity.
func (d Demand) Difference(measure Measure, moves []Move, elasticity float64) float64 {
	return d.curve(measure, moves).at(elasticity)
}

// curve is Difference made ready to be looked at many elasticities.
type curve struct {
	demand  Demand
	measure Measure
	fixed   float64 // the difference of all moves at fixed demand
	still   float64 // that of the moves whose volume does not answer
	answers []answer
}

// answer is a move whose volume answers to its price.
type answer struct {
	change  float64 // p'/p - 1
	shift   float64 // ln(p'/p)
	control float64
	worth   float64 // what the same volume brings at the candidate's price
}

func (d Demand) curve(measure Measure, moves []Move) curve {
	c := curve{demand: d, measure: measure}
	var fixed, still int64
	for _, m := range moves {
		move, worth := m.Candidate-m.Control, m.Candidate
		if measure == Margin {
			move, worth = m.KnownCandidate-m.KnownControl, m.KnownCandidate-m.KnownCost
		}
		fixed += move
		shift, ok := m.shift()
		if !ok || shift == 0 {
			still += move
			continue
		}
		control := float64(m.Control)
		c.answers = append(c.answers, answer{
			change: float64(m.Candidate-m.Control) / control, shift: shift, control: control, worth: float64(worth),
		})
	}
	c.fixed, c.still = float64(fixed), float64(still)
	return c
}

// at is the difference at one elasticity: what fixed demand gives, and what the change
// of volume adds. Near -1 a revenue is summed as control ((p'/p)^(1+e) - 1) instead,
// which is the same but without a rounding where it is zero.
func (c curve) at(elasticity float64) float64 {
	var sum float64
	switch {
	case elasticity == 0:
		return c.fixed
	case c.demand == Linear:
		for _, a := range c.answers {
			sum += max(-1, elasticity*a.change) * a.worth
		}
	case c.measure == Revenue && elasticity < -0.5:
		for _, a := range c.answers {
			sum += a.control * grow((1+elasticity)*a.shift)
		}
		return c.still + sum
	default:
		for _, a := range c.answers {
			sum += grow(elasticity*a.shift) * a.worth
		}
	}
	return c.fixed + sum
}

// Exact is the difference at fixed demand, in whole units. It is a sum, and
// depends on no model.
func Exact(measure Measure, moves []Move) int64 {
	var sum int64
	for _, m := range moves {
		if measure == Margin {
			sum += m.KnownCandidate - m.KnownControl
		} else {
			sum += m.Candidate - m.Control
		}
	}
	return sum
}

// Band is a range of elasticities, both ends included; Low is the more elastic.
type Band struct {
	Low, High float64
}

const (
	// Tellis1988 is the mean price elasticity of 367 estimates for over 220 brands:
	// Gerard J. Tellis, The Price Elasticity of Selective Demand, Journal of
	// Marketing Research 25 (1988).
	Tellis1988 = -1.76
	// Bijmolt2005 is the mean of 1851 elasticities from 81 studies: Tammo H. A.
	// Bijmolt, Harald J. van Heerde, Rik G. M. Pieters, New Empirical Generalizations
	// on the Determinants of Price Elasticity, Journal of Marketing Research 42 (2005).
	Bijmolt2005 = -2.62
)

// Plausible is the band between the two means of the literature. Both are of
// brands, not of a shop: they are scenarios that a verdict must survive, and an
// estimate from the shop itself takes their place where there is one.
var Plausible = Band{Low: Bijmolt2005, High: Tellis1988}

// Stress reaches from no answer at all to the stronger mean of the literature: a
// sign that holds over it needs no opinion about elasticity.
var Stress = Band{Low: Bijmolt2005, High: 0}

// Contains says whether the elasticity lies in the band.
func (b Band) Contains(elasticity float64) bool { return b.Low <= elasticity && elasticity <= b.High }

// bandSteps is how finely a band is looked at for a change of sign.
const bandSteps = 200

// Sign is the sign of the difference where it is the same over the whole band,
// Zero where there is none anywhere in it, else Mixed: then no sign may be
// claimed. A zero at one place of the band makes it Mixed.
func (d Demand) Sign(measure Measure, moves []Move, band Band) Sign {
	return d.curve(measure, moves).sign(band)
}

func (c curve) sign(band Band) Sign {
	var above, below, zero int
	for i := 0; i <= bandSteps; i++ {
		share := float64(i) / bandSteps
		switch v := c.at(band.High*(1-share) + band.Low*share); {
		case v > 0:
			above++
		case v < 0:
			below++
		default:
			zero++
		}
	}
	switch bandSteps + 1 {
	case above:
		return Positive
	case below:
		return Negative
	case zero:
		return Zero
	}
	return Mixed
}
