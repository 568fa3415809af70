package compare

import (
	"math"

	"banyan/money"
)

// minorUnit is that of the currency; of one that nobody knows it is taken to be 2.
func minorUnit(currency string) int {
	if n, ok := money.MinorUnit(currency); ok {
		return n
	}
	return 2
}

// exactly is a sum as it is: with Scale decimals, less the zeros at the end that the
// currency's minor unit does not ask for. It rounds nothing.
func (b *Book) exactly(u Units) money.Amount {
	scale := Scale
	for least := minorUnit(b.Currency); scale > least && u%10 == 0; scale-- {
		u /= 10
	}
	return money.Amount{Amount: u, Scale: scale, Currency: b.Currency}
}

// about is an estimate, rounded to the minor unit, half away from zero: more digits
// would be pretence, and would differ between machines.
func (b *Book) about(units float64) money.Amount {
	scale := minorUnit(b.Currency)
	n := math.Round(units / math.Pow10(Scale-scale))
	return money.Amount{Amount: int64(max(-most, min(most, n))), Scale: scale, Currency: b.Currency}
}

// most is the largest estimate that is written: every float64 up to it is an int64.
const most = 1 << 62

// Decimals of the floats in a Report. What is beyond them says nothing, and is cut off
// so that a Report is the same wherever it is made.
const (
	percentDecimals    = 4
	elasticityDecimals = 6
	chanceDecimals     = 6
)

// rounded cuts a figure to so many decimals. What is no number is 0, and so is minus
// nought: JSON has no word for the one, and people none for the other.
func rounded(x float64, decimals int) float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return 0
	}
	p := math.Pow10(decimals)
	if math.Abs(x) > math.MaxInt64/p {
		return math.Round(x)
	}
	if x = math.Round(x*p) / p; x == 0 {
		return 0
	}
	return x
}

// percentOf is part as a percentage of whole; 0 of nothing.
func percentOf(part, whole int64) float64 {
	if whole == 0 {
		return 0
	}
	return rounded(100*float64(part)/float64(whole), percentDecimals)
}
