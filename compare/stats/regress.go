package stats

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"
)

// Fit is an ordinary least squares regression, with an intercept. Which of its errors
// to believe depends on what hangs together: rows of one customer or one product do.
type Fit struct {
	// Coefficients begin with the intercept; the others follow in the order of the
	// regressors.
	Coefficients []float64
	// Residuals are one for each row.
	Residuals []float64

	x       *mat.Dense    // rows by coefficients, the first column ones
	inverse *mat.SymDense // (X'X)^-1
}

// Errors are the standard errors of a Fit under one way of looking at the rows.
type Errors struct {
	// SE is one for each coefficient.
	SE []float64
	// Groups is how many independent units they rest on; 0 where each row is one.
	Groups int
	// Floored says for which coefficients the two-way variance came out below that of
	// one way, so that the larger of those was taken; nil but for TwoWay.
	Floored []bool
}

// worstCondition is that of regressors which cannot be told from each other.
const worstCondition = 1e12

// OLS regresses y on the regressors, one slice for each, all as long as y. An intercept
// is added. With no more rows than coefficients the error wraps ErrTooFew; regressors
// that do not vary, or say the same twice, are an error too.
func OLS(y []float64, regressors ...[]float64) (*Fit, error) {
	n, k := len(y), len(regressors)+1
	if n <= k {
		return nil, fmt.Errorf("regression of %d rows on %d coefficients: %w", n, k, ErrTooFew)
	}
	x := mat.NewDense(n, k, nil)
	for i := range n {
		x.Set(i, 0, 1)
	}
	for j, column := range regressors {
		if len(column) != n {
			return nil, fmt.Errorf("regression of %d rows: regressor %d has %d", n, j, len(column))
		}
		x.SetCol(j+1, column)
	}
	var qr mat.QR
	qr.Factorize(x)
	if c := qr.Cond(); !(c < worstCondition) {
		return nil, fmt.Errorf("regression: the regressors do not vary, or say the same twice (condition %.3g)", c)
	}
	var b mat.VecDense
	if err := qr.SolveVecTo(&b, false, mat.NewVecDense(n, y)); err != nil {
		return nil, fmt.Errorf("solve regression: %w", err)
	}
	fit := &Fit{Coefficients: make([]float64, k), Residuals: make([]float64, n), x: x}
	for j := range k {
		fit.Coefficients[j] = b.AtVec(j)
	}
	for i := range n {
		fit.Residuals[i] = y[i]
		for j, c := range fit.Coefficients {
			fit.Residuals[i] -= c * x.At(i, j)
		}
	}
	return fit, fit.invert()
}

// invert keeps (X'X)^-1, which every kind of error begins with.
func (f *Fit) invert() error {
	var square mat.SymDense
	square.SymOuterK(1, f.x.T())
	var chol mat.Cholesky
	if !chol.Factorize(&square) {
		return fmt.Errorf("regression: the regressors cannot be told from each other")
	}
	f.inverse = new(mat.SymDense)
	if err := chol.InverseTo(f.inverse); err != nil {
		return fmt.Errorf("invert regressors: %w", err)
	}
	return nil
}

func (f *Fit) size() (n, k float64) {
	rows, columns := f.x.Dims()
	return float64(rows), float64(columns)
}

// Classical are the textbook errors: s^2 (X'X)^-1, for rows that are independent and
// vary alike.
func (f *Fit) Classical() Errors {
	n, k := f.size()
	var squares float64
	for _, e := range f.Residuals {
		squares += e * e
	}
	e := Errors{SE: make([]float64, len(f.Coefficients))}
	for j := range e.SE {
		e.SE[j] = math.Sqrt(squares / (n - k) * f.inverse.At(j, j))
	}
	return e
}

// White are errors for rows that are independent but do not vary alike: HC1, which is
// White's of 1980 times n/(n-k).
func (f *Fit) White() Errors {
	n, k := f.size()
	each := make(Groups, len(f.Residuals))
	for i := range each {
		each[i] = i
	}
	return Errors{SE: roots(f.sandwich(each, n/(n-k)))}
}

// Clustered are errors for rows that hang together within groups: the sandwich of the
// groups' scores times G/(G-1) (n-1)/(n-k), as Stata has it. With fewer than two
// groups they are +Inf; see Critical for how many errors make an interval.
func (f *Fit) Clustered(by Groups) (Errors, error) {
	v, count, err := f.clustered(by)
	if err != nil {
		return Errors{}, err
	}
	return Errors{SE: roots(v), Groups: count}, nil
}

func (f *Fit) clustered(by Groups) (v []float64, count int, err error) {
	if len(by) != len(f.Residuals) {
		return nil, 0, fmt.Errorf("cluster %d rows by %d groups", len(f.Residuals), len(by))
	}
	n, k := f.size()
	count = by.Count()
	if count < 2 {
		v = make([]float64, len(f.Coefficients))
		for j := range v {
			v[j] = math.Inf(1)
		}
		return v, count, nil
	}
	g := float64(count)
	return f.sandwich(by, g/(g-1)*(n-1)/(n-k)), count, nil
}

// TwoWay are errors for rows that hang together in two ways, by customer and product
// for example: the variance of one plus that of the other less that of both together
// (Cameron, Gelbach, Miller 2011), each with its own correction for the number of its
// groups, and never below that of one way alone. Groups is the smaller number.
func (f *Fit) TwoWay(one, other Groups) (Errors, error) {
	v1, count1, err := f.clustered(one)
	if err != nil {
		return Errors{}, err
	}
	v2, count2, err := f.clustered(other)
	if err != nil {
		return Errors{}, err
	}
	v12, _, err := f.clustered(GroupBoth(one, other))
	if err != nil {
		return Errors{}, err
	}
	e := Errors{Groups: min(count1, count2), Floored: make([]bool, len(v1))}
	for j := range v1 {
		v1[j], e.Floored[j] = twoWay(v1[j], v2[j], v12[j])
	}
	e.SE = roots(v1)
	return e, nil
}

// sandwich is the diagonal of (X'X)^-1 (sum of s s') (X'X)^-1 times factor, where s is
// the sum over a group of x times residual.
func (f *Fit) sandwich(by Groups, factor float64) []float64 {
	k := len(f.Coefficients)
	scores := mat.NewDense(by.Count(), k, nil)
	for i, e := range f.Residuals {
		row := scores.RawRowView(by[i])
		for j, x := range f.x.RawRowView(i) {
			row[j] += x * e
		}
	}
	var bread mat.Dense
	bread.Mul(scores, f.inverse)
	v := make([]float64, k)
	for g := range by.Count() {
		for j, b := range bread.RawRowView(g) {
			v[j] += factor * b * b
		}
	}
	return v
}

func roots(v []float64) []float64 {
	se := make([]float64, len(v))
	for i := range v {
		se[i] = math.Sqrt(v[i])
	}
	return se
}

// Groups says to which group each row belongs, as numbers from 0 on without gaps.
type Groups []int

// Group numbers names in the order in which they are first seen.
func Group[K comparable](names []K) Groups {
	numbers, groups := map[K]int{}, make(Groups, len(names))
	for i, name := range names {
		number, ok := numbers[name]
		if !ok {
			number = len(numbers)
			numbers[name] = number
		}
		groups[i] = number
	}
	return groups
}

// GroupBoth makes a group of each pair that occurs. Both must be of the same rows.
func GroupBoth(a, b Groups) Groups {
	pairs := make([][2]int, min(len(a), len(b)))
	for i := range pairs {
		pairs[i] = [2]int{a[i], b[i]}
	}
	return Group(pairs)
}

// Count is how many groups there are.
func (g Groups) Count() int {
	count := 0
	for _, number := range g {
		count = max(count, number+1)
	}
	return count
}
