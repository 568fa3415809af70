package quote

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"banyan/money"
)

// Limits of what is read from the other side.
const (
	MaxBody   = 8 << 20 // bytes of a request
	MaxOrders = 1_000   // orders in a request
)

// wireAmount is an amount that knows which of its parts were there. A price without
// its amount would be read as nothing at all, and sold so.
type wireAmount struct {
	Amount   *int64  `json:"amount"`
	Scale    *int    `json:"scale"`
	Currency *string `json:"currency"`
}

// The types of the wire differ from those of Go in their amounts and times alone: a
// field of the outer struct hides the embedded one of the same name.
type (
	wireRequest struct {
		Orders []wireOrder `json:"orders"`
	}
	wireOrder struct {
		Order
		PlacedAt    string     `json:"placedAt"`
		CommittedAt string     `json:"committedAt"`
		Lines       []wireLine `json:"lines"`
	}
	wireLine struct {
		Line
		Known wireProduct `json:"known"`
	}
	wireProduct struct {
		Product
		List *wireAmount `json:"list"`
		Tier *wireAmount `json:"tier"`
		Cost *wireAmount `json:"cost"`
	}
	wireResponse struct {
		Response
		Answers []json.RawMessage `json:"answers"`
	}
	wireAnswer struct {
		Answer
		Lines []wirePrice `json:"lines"`
	}
	wirePrice struct {
		Price
		Unit  *wireAmount `json:"unit"`
		Total *wireAmount `json:"total"`
		Trail []wireStep  `json:"trail"`
	}
	wireStep struct {
		Step
		From *wireAmount `json:"from"`
		To   *wireAmount `json:"to"`
	}
)

// DecodeRequest reads the body of POST /quotes. Numbers are whole, without exponent
// or fraction, and an amount has all of its parts; unknown fields are passed over.
// Errors are Faults, which name field, value and the way out. Of a field that stands
// there twice the last one counts.
func DecodeRequest(body []byte) (Request, error) {
	var w wireRequest
	if err := json.Unmarshal(body, &w); err != nil {
		return Request{}, unreadable("", err)
	}
	var c checker
	if n := len(w.Orders); n == 0 || n > MaxOrders {
		c.say("orders", fmt.Sprintf("%d orders", n), fmt.Sprintf("want 1 to %d in one request", MaxOrders))
		return Request{}, c.err()
	}
	r := Request{Orders: make([]Order, len(w.Orders))}
	for i := range w.Orders {
		at := fmt.Sprintf("orders[%d].", i)
		o := &r.Orders[i]
		*o = w.Orders[i].order(&c, at)
		o.check(&c, at)
	}
	if err := c.err(); err != nil {
		return Request{}, err
	}
	return r, nil
}

func (w *wireOrder) order(c *checker, at string) Order {
	o := w.Order
	o.PlacedAt = timeOf(c, at+"placedAt", w.PlacedAt)
	o.CommittedAt = timeOf(c, at+"committedAt", w.CommittedAt)
	o.Lines = make([]Line, len(w.Lines))
	for i := range w.Lines {
		l, known := w.Lines[i].Line, &w.Lines[i].Known
		at := fmt.Sprintf("%slines[%d].known.", at, i)
		l.Known = known.Product
		l.Known.List = known.List.amount(c, at+"list")
		l.Known.Tier = known.Tier.amount(c, at+"tier")
		l.Known.Cost = known.Cost.amount(c, at+"cost")
		o.Lines[i] = l
	}
	return o
}

// DecodeResponse reads the answer to POST /quotes. It is as strict as DecodeRequest,
// since a price that is misread is a wrong sum in a report: whole numbers alone,
// amounts with all of their parts, none below zero, positions and probabilities in
// their form; unknown fields are passed over. One answer that is wrong does not
// spoil the others: the Response holds those that are right, and the error, Faults
// with fields such as "answers[2].lines[0].unit.amount", says what is wrong with the
// rest. Whether the answers are those that were asked for is the caller's to see. It
// never panics, whatever the bytes are.
func DecodeResponse(body []byte) (Response, error) {
	var w wireResponse
	if err := json.Unmarshal(body, &w); err != nil {
		return Response{}, unreadable("", err)
	}
	var all checker
	r := w.Response
	all.optional("candidate", r.Candidate)
	all.optional("build", r.Build)
	if all.err() != nil {
		return Response{}, all.err()
	}
	if w.Answers == nil {
		all.say("answers", "", "want a list of answers")
		return Response{}, all.err()
	}
	r.Answers = make([]Answer, 0, len(w.Answers))
	for i := range w.Answers {
		var c checker
		a, err := decodeAnswer(&c, w.Answers[i], fmt.Sprintf("answers[%d].", i))
		if err == nil {
			r.Answers = append(r.Answers, a)
			continue
		}
		for _, f := range err {
			all.say(f.Field, f.Value, f.Want)
		}
	}
	return r, all.err()
}

func decodeAnswer(c *checker, body []byte, at string) (Answer, Faults) {
	var w wireAnswer
	if err := json.Unmarshal(body, &w); err != nil {
		return Answer{}, unreadable(at, err)
	}
	a := w.Answer
	if w.Lines != nil {
		a.Lines = make([]Price, len(w.Lines))
	}
	for i := range w.Lines {
		a.Lines[i] = w.Lines[i].price(c, fmt.Sprintf("%slines[%d].", at, i))
	}
	a.check(c, at)
	return a, c.faults
}

func (w *wirePrice) price(c *checker, at string) Price {
	p := w.Price
	p.Unit = w.Unit.amount(c, at+"unit")
	p.Total = w.Total.amount(c, at+"total")
	if w.Trail != nil {
		p.Trail = make([]Step, len(w.Trail))
	}
	for i := range w.Trail {
		s, at := w.Trail[i].Step, fmt.Sprintf("%strail[%d].", at, i)
		s.From = w.Trail[i].From.amount(c, at+"from")
		s.To = w.Trail[i].To.amount(c, at+"to")
		p.Trail[i] = s
	}
	return p
}

// timeOf reads a time; what is no time is told, what is missing Check tells.
func timeOf(c *checker, field, text string) time.Time {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil && text != "" {
		c.say(field, text, wantTime)
		return time.Unix(0, 0).UTC() // so that it is not told again as missing
	}
	return t.UTC()
}

// amount gives the amount, or the zero Amount where there is none.
func (w *wireAmount) amount(c *checker, field string) money.Amount {
	if w == nil {
		return money.Amount{}
	}
	if w.Amount == nil || w.Scale == nil || w.Currency == nil {
		c.say(field, "", `want all of an amount: {"amount": 2550, "scale": 3, "currency": "GBP"}`)
		return money.Amount{}
	}
	return money.Amount{Amount: *w.Amount, Scale: *w.Scale, Currency: *w.Currency}
}

// unreadable makes Faults of what encoding/json says.
func unreadable(at string, err error) Faults {
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		field := strings.TrimSuffix(at+plainPath(e.Field), ".")
		if field == "" {
			field = "body"
		}
		return Faults{{field, cut(strings.TrimPrefix(e.Value, "number ")), "want " + wanted(e)}}
	}
	if at == "" {
		at = "body"
	}
	return Faults{{strings.TrimSuffix(at, "."), "", "want JSON: " + cut(err.Error())}}
}

// plainPath leaves out the names of embedded Go types, which encoding/json puts into
// the path of a field: ours are in capitals, JSON's are not.
func plainPath(path string) string {
	parts := strings.Split(path, ".")
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s != "" && s[0] >= 'A' && s[0] <= 'Z' }), ".")
}

// wanted says in words what a Go type stands for.
func wanted(e *json.UnmarshalTypeError) string {
	switch e.Type.Kind().String() {
	case "int64", "int":
		return "a whole number, without fraction or exponent, in 64 bits"
	case "string":
		return "a text"
	case "bool":
		return "true or false"
	case "slice":
		return "a list"
	}
	return "an object"
}
