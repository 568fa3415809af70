package shadow

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Mapping says where in the events of a source things stand. The zero values of a
// Mapping are filled by ShopMapping's; a source with other names has a file with its
// own. Paths are member names joined by dots, below the event's data; those of lines
// are below an item.
type Mapping struct {
	Source  string        `yaml:"source" json:"source"`
	Orders  OrderMapping  `yaml:"orders" json:"orders"`
	Returns ReturnMapping `yaml:"returns" json:"returns"`
	Stock   StockMapping  `yaml:"stock" json:"stock"`
	Prices  PriceMapping  `yaml:"prices" json:"prices"`
}

// OrderMapping is about orders.
type OrderMapping struct {
	Topic string `yaml:"topic" json:"topic"`
	// Placed are the types of events that tell of a new order, Added those that tell
	// of a line more, Recorded those of a snapshot, Refused those of orders that
	// were refused for lack of stock.
	Placed   []string `yaml:"placed" json:"placed"`
	Added    []string `yaml:"added" json:"added"`
	Recorded []string `yaml:"recorded" json:"recorded"`
	Refused  []string `yaml:"refused" json:"refused"`

	// At is business time; PlacedAt is, where that is not there, as in what a snapshot
	// tells. Where neither is, the commit's time stands for it.
	At       string `yaml:"at" json:"at"`
	PlacedAt string `yaml:"placedAt" json:"placedAt"`
	Customer string `yaml:"customer" json:"customer"`
	Channel  string `yaml:"channel" json:"channel"`
	Country  string `yaml:"country" json:"country"`
	// AddedLine is, in an Added event, the number of the line that was added.
	AddedLine string      `yaml:"addedLine" json:"addedLine"`
	Lines     string      `yaml:"lines" json:"lines"`
	Line      LineMapping `yaml:"line" json:"line"`
	// Refusals is the list of refused lines, and Refusal what stands in them.
	Refusals string         `yaml:"refusals" json:"refusals"`
	Refusal  RefusalMapping `yaml:"refusal" json:"refusal"`
}

// LineMapping is about a line of an order or of a return. Price is a sum of money, of
// one piece, as it was paid.
type LineMapping struct {
	Number   string `yaml:"number" json:"number"`
	Product  string `yaml:"product" json:"product"`
	Quantity string `yaml:"quantity" json:"quantity"`
	Price    string `yaml:"price" json:"price"`
}

// RefusalMapping is about a line that was refused.
type RefusalMapping struct {
	Product   string `yaml:"product" json:"product"`
	Wanted    string `yaml:"wanted" json:"wanted"`
	Available string `yaml:"available" json:"available"`
	Price     string `yaml:"price" json:"price"`
}

// ReturnMapping is about goods that come back. Quantities are negative.
type ReturnMapping struct {
	Topic    string   `yaml:"topic" json:"topic"`
	Accepted []string `yaml:"accepted" json:"accepted"`
	// Order is the order that the goods belong to, null where it is not known.
	Order string      `yaml:"order" json:"order"`
	Lines string      `yaml:"lines" json:"lines"`
	Line  LineMapping `yaml:"line" json:"line"`
}

// StockMapping is about stock. The record's key is the product.
type StockMapping struct {
	Topic  string `yaml:"topic" json:"topic"`
	Pieces string `yaml:"pieces" json:"pieces"`
}

// PriceMapping is about list prices. The record's key is the product.
type PriceMapping struct {
	Topic        string `yaml:"topic" json:"topic"`
	Code         string `yaml:"code" json:"code"`
	Description  string `yaml:"description" json:"description"`
	List         string `yaml:"list" json:"list"`
	TierQuantity string `yaml:"tierQuantity" json:"tierQuantity"`
	Tier         string `yaml:"tier" json:"tier"`
	Cost         string `yaml:"cost" json:"cost"`
}

// ShopMapping is that of the shop's events, as scenarios/shop.yaml makes them.
func ShopMapping() Mapping {
	line := LineMapping{Number: "line_no", Product: "product_id", Quantity: "quantity", Price: "unit_price"}
	return Mapping{
		Source: "shop",
		Orders: OrderMapping{
			Topic: "shop.orders", Placed: []string{"OrderPlaced"}, Added: []string{"OrderLineAdded"}, Recorded: []string{"OrderRecorded"}, Refused: []string{"OrderRejected"},
			At: "occurredAt", PlacedAt: "state.placed_at", Customer: "state.customer_id", Channel: "state.channel", Country: "state.country",
			AddedLine: "line", Lines: "state.lines", Line: line,
			Refusals: "state.rejections", Refusal: RefusalMapping{Product: "product_id", Wanted: "wanted", Available: "available", Price: "unit_price"},
		},
		Returns: ReturnMapping{Topic: "shop.returns", Accepted: []string{"ReturnAccepted"}, Order: "orderId", Lines: "state.lines", Line: line},
		Stock:   StockMapping{Topic: "shop.stock", Pieces: "state.stock"},
		Prices: PriceMapping{Topic: "shop.prices", Code: "state.stock_code", Description: "state.description", List: "state.price",
			TierQuantity: "state.tier_quantity", Tier: "state.tier_price", Cost: "state.cost"},
	}
}

// Topics are those that are read, orders first: within one transaction an order comes
// before the stock that it took.
func (m *Mapping) Topics() []string {
	return slices.DeleteFunc([]string{m.Orders.Topic, m.Returns.Topic, m.Prices.Topic, m.Stock.Topic}, func(t string) bool { return t == "" })
}

// Check reports all that is missing, each by its name in the file.
func (m *Mapping) Check() error {
	var faults []error
	for _, f := range []struct{ name, value string }{
		{"source", m.Source}, {"orders.topic", m.Orders.Topic}, {"orders.lines", m.Orders.Lines}, {"orders.line.number", m.Orders.Line.Number},
		{"orders.line.product", m.Orders.Line.Product}, {"orders.line.quantity", m.Orders.Line.Quantity}, {"orders.line.price", m.Orders.Line.Price},
	} {
		if f.value == "" {
			faults = append(faults, fmt.Errorf("%s: it is missing; docs/shadow.md says what it is", f.name))
		}
	}
	if len(m.Orders.Placed) == 0 {
		faults = append(faults, errors.New("orders.placed: no type of event tells of a new order; the shop's is OrderPlaced"))
	}
	seen := map[string]bool{}
	for _, t := range m.Topics() {
		if seen[t] {
			faults = append(faults, fmt.Errorf("topic %s stands for two things", t))
		}
		seen[t] = true
		if strings.HasPrefix(t, OwnPrefix) {
			faults = append(faults, fmt.Errorf("topic %s: what a shadow writes is not what it reads", t))
		}
	}
	return errors.Join(faults...)
}

// OwnPrefix begins the names of all topics that a shadow or a candidate may write.
const OwnPrefix = "shadow."
