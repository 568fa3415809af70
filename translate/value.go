package translate

import (
	"encoding/json"
	"strconv"
	"strings"

	"banyan/expression"
	"banyan/money"
)

func (c *codec) amount(text string) (money.Amount, error) {
	return money.ParseDecimal(text, c.scale, c.unit)
}

// value gives a column's value as expressions see it: int64, bool, string,
// time.Time, money.Decimal, money.Amount, what JSON holds, or nil for NULL.
// What is no number (NaN, Infinity) is nil: nothing can be computed with it.
func (c *codec) value(text string) (any, error) {
	switch c.kind {
	case kindInt:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, errForm
		}
		return n, nil
	case kindBool:
		return text == "t", nil
	case kindFloat, kindNumeric:
		if text == "NaN" || strings.HasSuffix(text, "Infinity") {
			return nil, nil
		}
		return expression.ParseNumber(text)
	case kindMoney:
		return c.amount(text)
	case kindTime, kindDate:
		return expression.ParseTime(text)
	case kindJSON:
		return decodeJSON([]byte(text))
	case kindArray:
		b, err := c.appendJSON(nil, text)
		if err != nil {
			return nil, err
		}
		return decodeJSON(b)
	}
	return text, nil
}

// decodeJSON keeps the text of every number, which expression.FromJSON does not:
// a rule may pass a column's JSON on as it is.
func decodeJSON(b []byte) (any, error) {
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, errForm
	}
	return v, nil
}
