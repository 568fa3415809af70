package shadow

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"

	"banyan/compare"
	"banyan/projections/control"
	"banyan/quote"
)

// Options say what a shadow compares, and how. They are part of what its state is
// made of: with others, the state has to be made anew.
type Options struct {
	// Name tells this shadow from others beside it; a plain SQL name, "demand".
	Name    string  `json:"name"`
	Mapping Mapping `json:"mapping"`
	// Candidate names who is compared: builtin:demand, a URL, a topic. It is what
	// the state is of, and no address that is asked.
	Candidate string `json:"candidate"`
	// Segments are the dimensions that clusters are told apart by: channel, country,
	// customer.
	Segments []string `json:"segments"`
	// Taxes are rates, in ppm, that a price might have on it by mistake.
	Taxes []int64 `json:"taxes,omitempty"`
	// MaxFactor bounds what can be meant: a price above so many times the larger of
	// the price paid and the list price is none.
	MaxFactor int64 `json:"maxFactor"`
	// Sample is how many of 10,000 customers are compared; a customer is in the
	// sample with all orders or with none, and stays so.
	Sample int64 `json:"sample"`
	// Salt makes the names of customers in the state, and in all that is made of it,
	// useless elsewhere.
	Salt string `json:"salt"`
	// Since is the watermark at which the comparing began: orders before it are
	// counted as before-start, and are known to later ones. Zero is the beginning.
	Since control.Mark `json:"since"`
	// Journal keeps a line for each comparison beside the state.
	Journal bool `json:"journal"`
}

// Everybody is the Sample of all customers.
const Everybody = 10_000

// DefaultOptions compare all orders of the shop.
func DefaultOptions() Options {
	return Options{Mapping: ShopMapping(), Segments: []string{"channel", "country", "customer"}, Taxes: []int64{200_000},
		MaxFactor: 10, Sample: Everybody, Journal: true}
}

// Check reports all that is wrong with the options, each by its name.
func (o *Options) Check() error {
	faults := []error{o.Mapping.Check()}
	for _, s := range o.Segments {
		if s != "channel" && s != "country" && s != "customer" {
			faults = append(faults, fmt.Errorf("segments: %q: want some of channel, country, customer", s))
		}
	}
	if strings.HasSuffix(o.Name, "_orders") {
		faults = append(faults, fmt.Errorf("name: %q: want one that does not end with _orders, as the projection beside a shadow does", o.Name))
	}
	if o.Sample < 1 || o.Sample > Everybody {
		faults = append(faults, fmt.Errorf("sample: %g %%: want more than 0 and at most 100", float64(o.Sample)/100))
	}
	if o.MaxFactor < 2 {
		faults = append(faults, fmt.Errorf("maxFactor: %d: want at least 2", o.MaxFactor))
	}
	return errors.Join(faults...)
}

// sampled reports whether a cluster is left out of a sample of so many of 10,000.
// Smaller samples lie in larger ones.
func sampled(cluster string, sample int64) bool {
	if sample >= Everybody {
		return false
	}
	h := fnv.New64a()
	h.Write([]byte(cluster))
	return int64(h.Sum64()%Everybody) >= sample
}

// Got is what became of asking for an order: an answer, or the reason why there is
// none.
type Got struct {
	Answer *quote.Answer
	Reason compare.Reason
}

// Pricer gets answers for many orders at once, in their order. It blocks as long as
// the candidate is down, for it is better to come late than to count what was not
// asked. An error ends the run.
type Pricer interface {
	Price(ctx context.Context, orders []quote.Order) ([]Got, error)
}
