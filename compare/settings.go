package compare

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Settings are what a reader of a Report may want to have decided before it is made.
// Fill it with Defaults, change what you must, and Check it.
type Settings struct {
	// MinDays and MinClusters are what a verdict needs at least: days with orders
	// between the first and the last, and customers or guest orders.
	MinDays     int `json:"minDays" yaml:"minDays"`
	MinClusters int `json:"minClusters" yaml:"minClusters"`
	// Horizon is N* of the anytime-valid sequence: how many clusters one expects.
	Horizon int `json:"horizon" yaml:"horizon"`
	// Replicates of the bootstrap.
	Replicates int    `json:"replicates" yaml:"replicates"`
	Seed       uint64 `json:"seed" yaml:"seed"`
	// MissingCap is kappa: how far, in percent, a price that the candidate owes is
	// taken to move at most.
	MissingCap float64 `json:"missingCap" yaml:"missingCap"`
	// Segments are the dimensions that were named before the data were looked at.
	Segments []string `json:"segments" yaml:"segments"`
	// TaxRates, in percent, which a price might have on it by mistake.
	TaxRates []float64 `json:"taxRates" yaml:"taxRates"`

	// Guardrails; a negative one is off.
	MaxMissing   float64 `json:"maxMissing" yaml:"maxMissing"`     // percent of lines that may be owed
	MaxRise      float64 `json:"maxRise" yaml:"maxRise"`           // percent that a single price may rise
	MaxRisen     float64 `json:"maxRisen" yaml:"maxRisen"`         // percent of customers that may pay more by over RisenBy
	RisenBy      float64 `json:"risenBy" yaml:"risenBy"`           // percent
	MaxBelowCost float64 `json:"maxBelowCost" yaml:"maxBelowCost"` // lines below cost, beyond those of the control
	MinMargin    float64 `json:"minMargin" yaml:"minMargin"`       // percent of revenue that margin must stay at
}

// Defaults ask for a week and a hundred customers before a verdict, as experiment
// platforms do, and have guardrails that a finance lead would set.
func Defaults() Settings {
	return Settings{
		MinDays: 7, MinClusters: 100, Horizon: 5000, Replicates: 2000, Seed: 1, MissingCap: 10,
		Segments: []string{"channel", "country", "customer"}, TaxRates: []float64{20},
		MaxMissing: 1, MaxRise: 15, MaxRisen: 25, RisenBy: 5, MaxBelowCost: 0, MinMargin: -1,
	}
}

// Check reports all that is wrong with the settings, each with its value and what
// would be right.
func (s Settings) Check() error {
	var faults []error
	want := func(ok bool, name string, value any, right string) {
		if !ok {
			faults = append(faults, fmt.Errorf("%s: %v: want %s", name, value, right))
		}
	}
	want(s.MinDays >= 1, "minDays", s.MinDays, "at least 1")
	want(s.MinClusters >= 30, "minClusters", s.MinClusters, "at least 30; the sequence is asymptotic, and 100 is its least by rights")
	want(s.Horizon >= 100, "horizon", s.Horizon, "at least 100 clusters")
	want(s.Replicates >= 200 && s.Replicates <= 100_000, "replicates", s.Replicates, "200 to 100,000")
	want(s.MissingCap >= 0 && s.MissingCap <= 100, "missingCap", s.MissingCap, "0 to 100 percent")
	for _, g := range []struct {
		name  string
		value float64
	}{{"maxMissing", s.MaxMissing}, {"maxRise", s.MaxRise}, {"maxRisen", s.MaxRisen}, {"risenBy", s.RisenBy}, {"maxBelowCost", s.MaxBelowCost}, {"minMargin", s.MinMargin}} {
		want(!math.IsNaN(g.value) && !math.IsInf(g.value, 0), g.name, g.value, "a number, a negative one to turn it off")
	}
	for _, r := range s.TaxRates {
		want(r > 0 && r < 100, "taxRates", r, "percentages between 0 and 100")
	}
	return errors.Join(faults...)
}

// off names the guardrails that are turned off although a candidate is held to them
// unless somebody says otherwise.
func (s Settings) off() []string {
	var list []string
	for _, g := range []struct {
		name  string
		value float64
	}{{"lines without an answer", s.MaxMissing}, {"the largest rise of a price", s.MaxRise}, {"customers who pay more", s.MaxRisen}, {"lines below cost", s.MaxBelowCost}} {
		if g.value < 0 {
			list = append(list, g.name)
		}
	}
	return list
}

// Facts are what Analyse cannot find in a Ledger.
type Facts struct {
	Candidate  Candidate
	AsOf       time.Time
	Position   string
	Topics     []TopicSpan
	Build      string
	Salted     string // digest of the salt, so that two reports can be told to name customers alike
	Operations *Operations
	// SampleVaried says that the sample was not the same all the time, as when the
	// comparator fell behind: then nothing can be said of those who are not in it.
	SampleVaried bool
	Noise        *Noise
	// NoiseDue says why a noise floor is asked for before a verdict; "" where one
	// was measured for this candidate.
	NoiseDue   string
	Projection ProjectionCheck
	// Unhealthy are reasons from outside the ledger: a breaker that is open, a
	// comparator that lags.
	Unhealthy []string
	SignedBy  string
	// Replay makes the command that shows an example again, of its place.
	Replay func(at string) string
}
