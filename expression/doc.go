// Package expression is the language of the house: what people write in YAML
// where a value is computed or a condition is asked, in rules as in
// projections. docs/expressions.md is its page for those who write.
//
// The grammar is that of github.com/expr-lang/expr, which parses and checks
// types; what the operators and functions mean is decided here. Everything is
// exact: numbers are int64 or decimals of any size, sums of money stay sums of
// money, nothing is ever a float. NULL (nil) equals NULL, every order with it is
// false, what is computed from it is NULL, and as a condition it is false. An
// expression terminates, changes nothing and sees only what its caller gives
// it: there is no clock in it and no loop but that over a list.
//
// A caller says in an Env which variables and functions there are, compiles
// once and evaluates often, from as many goroutines as it likes:
//
//	env := &expression.Env{Vars: map[string]expression.Type{"state": {}, "key": {Kind: expression.Text}}}
//	p, err := expression.Compile("sum(state.lines, .quantity * .unit_price)", env)
//	doc := env.NewDocument()      // decodes only what the programs of env name
//	err = doc.Read(event.Data)    // {"state": ...}: its members are variables
//	value, err := p.Eval(doc)
//
// # Values
//
//	nil             NULL, and whatever is not there
//	bool
//	int64           whole numbers that fit
//	money.Decimal   all other numbers
//	json.Number     a number of JSON whose text is kept (only where a caller gives one)
//	money.Amount    a sum of money
//	string
//	time.Time       an instant
//	Date            a day
//	time.Duration   of duration("5m"); in sums and comparisons with numbers it is seconds
//	[]any           a list
//	map[string]any  an object
//	Object          an object whose members are made when asked for
package expression
