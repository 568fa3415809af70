package pricing

import (
	_ "embed"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"

	"banyan/internal/document"
	"banyan/money"
)

// DefaultText is the file of rules to begin with, with comments.
//
//go:embed default.yaml
var DefaultText string

// Default are the rules of DefaultText. It panics where that is wrong, which a test
// sees before anyone else.
func Default() Rules {
	rules, err := ParseRules("default.yaml", []byte(DefaultText))
	if err != nil {
		panic(err)
	}
	return rules
}

// Open makes a candidate of the rules in a file, of those of Default where path is
// empty. The error says that the file cannot be read, or is that of ParseRules.
func Open(path string) (*Demand, error) {
	if path == "" {
		return New(Default())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	rules, err := ParseRules(path, text)
	if err != nil {
		return nil, err
	}
	return New(rules)
}

// ParseRules reads a file of rules as DefaultText is one. The error tells all that is
// wrong with it, one line each, with line, column, field and value; path is what it
// calls the file.
func ParseRules(path string, text []byte) (Rules, error) {
	c := &document.Collector{Path: path}
	root, ok := document.Parse(c, text)
	if !ok {
		return nil, c.Faults().Err()
	}
	items := readItems(root)
	rules := make(Rules, len(items))
	unread := make([]bool, len(items))
	for i, item := range items {
		before := c.Len()
		rules[i] = readRule(item)
		unread[i] = c.Len() > before
	}
	rules.check(func(i int, field, value, want string) {
		if unread[i] {
			return // what is wrong with it is told already
		}
		at := items[i]
		if n := at.Get(field); !n.Null() {
			at = n
		}
		c.Add(at.At(), fmt.Sprintf("rules[%d].%s", i, field), value, "%s", want)
	})
	if err := c.Faults().Err(); err != nil {
		return nil, err
	}
	return rules, nil
}

// readItems gives the list of rules; what else stands in the file is wrong.
func readItems(root document.Node) []document.Node {
	entries, _ := root.Entries()
	for i, e := range entries {
		switch {
		case e.Key != "rules":
			e.Fault("is no key here; want rules, a list")
		case slices.ContainsFunc(entries[:i], func(f document.Entry) bool { return f.Key == e.Key }):
			e.Fault("is named twice")
		}
	}
	items, ok := root.Get("rules").List()
	if !ok {
		root.Fault("want rules, a list of rules with name and kind")
	}
	return items
}

var (
	dayShape = &document.Shape{Pattern: regexp.MustCompile(`^\d{4}-\d\d-\d\d$`), Want: "a day such as 2010-12-01"}
	// Numbers and amounts are bounded in length, so that they fit whatever they say.
	numberShape = &document.Shape{Pattern: regexp.MustCompile(`^\d{1,15}$`), Want: "a whole number"}
	moveShape   = &document.Shape{Pattern: regexp.MustCompile(`^[+-]?\d{1,9}$`), Want: "basis points, a whole number: 100 is 1 %"}
	moneyShape  = &document.Shape{Pattern: regexp.MustCompile(`^\d{1,12}(\.\d{1,6})?$`), Want: "an amount such as 0.01"}
	bandShape   = &document.Shape{Form: document.Map, Item: moveShape, Filled: true, KeyPattern: regexp.MustCompile(`^\d{1,9}$`), KeyWant: "a whole number"}
	bandsShape  = &document.Shape{Form: document.Object, Fields: []document.Field{{Name: "below", Shape: bandShape}, {Name: "above", Shape: bandShape}}}
)

// partShapes are the fields of each kind beside those that all have.
var partShapes = map[string][]document.Field{
	kindTier.String(): nil,
	kindPace.String(): {{Name: "least", Shape: numberShape, Required: true}, {Name: "cover", Shape: bandsShape},
		{Name: "trend", Shape: bandsShape}, {Name: "most", Shape: numberShape, Required: true}},
	kindRound.String():  {{Name: "step", Shape: moneyShape, Required: true}, {Name: "ending", Shape: moneyShape}},
	kindMargin.String(): {{Name: "least", Shape: numberShape, Required: true}},
	kindBounds.String(): {{Name: "currency", Shape: &document.Shape{Pattern: regexp.MustCompile(`^[A-Z]{3}$`), Want: "a currency such as GBP"}, Required: true},
		{Name: "floor", Shape: moneyShape}, {Name: "ceiling", Shape: moneyShape}},
	kindChange.String(): {{Name: "most", Shape: numberShape, Required: true}},
}

// shapeOf is the shape of a rule of a kind.
func shapeOf(kind string) *document.Shape {
	return &document.Shape{Form: document.Object, Fields: append([]document.Field{
		{Name: "name", Shape: &document.Shape{}, Required: true},
		{Name: "kind", Shape: &document.Shape{Words: kindNames[:]}, Required: true},
		{Name: "since", Shape: dayShape}, {Name: "until", Shape: dayShape},
	}, partShapes[kind]...)}
}

// readRule reads one rule; what is wrong with it is noted with the node.
func readRule(v document.Node) Rule {
	kind := v.Get("kind").Text()
	if _, known := partShapes[kind]; !known {
		// What else stands there cannot be judged.
		if at := v.Get("kind"); at.Null() {
			v.Fault("want a rule with a kind: tier, demand, round, margin, bounds or change")
		} else {
			at.Fault("want tier, demand, round, margin, bounds or change")
		}
		return Rule{}
	}
	shapeOf(kind).Check(v)
	r := Rule{Name: v.Get("name").Text(), Since: readDay(v.Get("since")), Until: readDay(v.Get("until"))}
	switch kind {
	case "tier":
		r.Does = Tier{}
	case "demand":
		r.Does = Pace{Least: readNumber(v.Get("least")), Cover: readBands(v.Get("cover")), Trend: readBands(v.Get("trend")), Most: readNumber(v.Get("most"))}
	case "round":
		r.Does = Round{Step: readMoney(v.Get("step")), Ending: readMoney(v.Get("ending"))}
	case "margin":
		r.Does = Margin{Least: readNumber(v.Get("least"))}
	case "bounds":
		r.Does = Bounds{Currency: v.Get("currency").Text(), Floor: readMoney(v.Get("floor")), Ceiling: readMoney(v.Get("ceiling"))}
	case "change":
		r.Does = Change{Most: readNumber(v.Get("most"))}
	}
	return r
}

func readDay(v document.Node) Day {
	text, ok := v.Scalar()
	if !ok || !dayShape.Pattern.MatchString(text) {
		return 0 // missing, or noted already
	}
	d, err := ParseDay(text)
	if err != nil {
		v.Fault("want a day that is in the calendar")
	}
	return d
}

// readNumber gives 0 for what is no number, which is noted already.
func readNumber(v document.Node) int64 {
	n, err := strconv.ParseInt(v.Text(), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func readMoney(v document.Node) money.Decimal {
	d, err := money.ParseNumber(v.Text())
	if err != nil {
		return money.Decimal{}
	}
	return d
}

func readBands(v document.Node) Bands {
	return Bands{Below: readBand(v.Get("below")), Above: readBand(v.Get("above"))}
}

func readBand(v document.Node) []Band {
	entries, _ := v.Entries()
	var bands []Band
	for _, e := range entries {
		at, err := strconv.ParseInt(e.Key, 10, 64)
		if err == nil {
			bands = append(bands, Band{At: at, Move: readNumber(e.Node)})
		}
	}
	return bands
}
