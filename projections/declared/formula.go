package declared

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"banyan/expression"
	"banyan/internal/document"
)

// formula is an expression of the definition.
type formula struct {
	*expression.Program
	node document.Node
	// late: it names old or calls lookup, so it needs rows.
	late bool
	old  bool
}

// vocabulary says what the expressions of one place may name.
type vocabulary struct {
	env   *expression.Env
	names []string  // of variables
	old   *relation // whose columns old has; nil where there is no old
}

// with gives a vocabulary with more names.
func (x vocabulary) with(names ...string) vocabulary {
	x.names = append(slices.Clone(x.names), names...)
	return x
}

// reserved are names that values may not have.
var reserved = []string{"state", "last", "data", "key", "key_parts", "event", "old", "item", "timer", "lookup", "setting",
	"window_start", "window_end", "alerted_at"}

var eventFields = map[string]expression.Type{
	"type": {Kind: expression.Text}, "version": {Kind: expression.Int}, "time": {Kind: expression.Time},
	"position": {Kind: expression.Text}, "id": {Kind: expression.Text}, "topic": {Kind: expression.Text},
}

// ofEvents are the variables that every expression over an event may name.
var ofEvents = []string{"state", "last", "data", "key", "key_parts", "event"}

func (c *compiler) env(vars map[string]expression.Type) *expression.Env {
	return &expression.Env{Vars: vars, Functions: map[string]expression.Function{
		"lookup": {Params: []expression.Kind{expression.Text, expression.Any}, Variadic: true, Check: c.checkLookup, Call: lookup},
		"setting": {Params: []expression.Kind{expression.Text}, Check: func(args []expression.Argument) error {
			name, ok := args[0].Value.(string)
			if !args[0].Constant || !ok {
				return errors.New("want the name of a setting in quotes")
			}
			if c.p.settings[name] == nil {
				return fmt.Errorf("there is no setting %q; %s", name, expression.DidYouMean(name, sortedNames(c.p.settings)))
			}
			return nil
		}, Call: func(in expression.Input, args []any) (any, error) {
			s := in.(*scope)
			name, _ := args[0].(string)
			return s.p.settings[name].at(s.position()), nil
		}},
	}}
}

// checkLookup refuses what lookup could not find, when the file is compiled.
func (c *compiler) checkLookup(args []expression.Argument) error {
	if !c.file.Aligned {
		return errors.New("needs order: aligned, or the table may not be there yet; another way is a view that joins both tables")
	}
	name, ok := args[0].Value.(string)
	if !args[0].Constant || !ok {
		return errors.New("want the name of a table in quotes first")
	}
	table := c.p.relations[name]
	if table == nil {
		return fmt.Errorf("there is no table %q here; %s", name, expression.DidYouMean(name, sortedNames(c.p.relations)))
	}
	if len(args)-1 != len(table.table.Key) {
		return fmt.Errorf("the key of %s has %d columns (%s), not %d", name, len(table.table.Key), strings.Join(table.table.Key, ", "), len(args)-1)
	}
	c.looksUp(name)
	return nil
}

// lookup gives a row of a table by its key, NULL where there is none.
func lookup(in expression.Input, args []any) (any, error) {
	s := in.(*scope)
	name, _ := args[0].(string)
	r := s.p.relations[name]
	nothing := &oldRow{table: r}
	for _, v := range args[1:] {
		if v == nil {
			return nothing, nil
		}
	}
	if r.shape == nil {
		return nothing, nil // while it is compiled
	}
	values, err := r.keyValues(args[1:])
	if err != nil {
		return nil, err
	}
	key, err := r.shape.Key(values...)
	if err != nil {
		return nil, err
	}
	if s.tx == nil {
		s.wish = append(s.wish, wish{r.name, key})
		return nothing, nil
	}
	table, err := rows(s.tx, r)
	if err != nil {
		return nil, err
	}
	row, ok, err := table.Get(key)
	if err != nil || !ok {
		return nothing, err
	}
	return &oldRow{r, row}, nil
}

// foresee notes the rows that a formula will look up. What cannot be known
// before there are rows is read when it is needed.
func (s *scope) foresee(f *formula) {
	if f == nil || !f.late || !slices.Contains(f.Calls(), "lookup") {
		return
	}
	before := len(s.wish)
	if _, err := f.Eval(s); err != nil {
		s.wish = s.wish[:before]
	}
}

// formula compiles an expression; nil after a fault.
func (c *compiler) formula(x vocabulary, at document.Node, source string, want expression.Kind) *formula {
	p, err := expression.Compile(source, x.env)
	if err != nil {
		c.fault(at, source, "%s", message(err))
		return nil
	}
	if err := p.Want(want); err != nil {
		c.fault(at, source, "%s", message(err))
		return nil
	}
	f := &formula{Program: p, node: at, old: p.Uses("old"), late: p.Uses("old") || slices.Contains(p.Calls(), "lookup")}
	for _, v := range p.Vars() {
		if !slices.Contains(x.names, v) {
			c.fault(at, source, "there is no %s here; known are %s", v, strings.Join(x.names, ", "))
			return nil
		}
	}
	for _, path := range p.Paths() {
		if path[0] == "old" && len(path) > 1 {
			if _, ok := x.old.index[path[1]]; !ok {
				c.fault(at, source, "%s", (&noColumn{x.old, path[1]}).Error())
			}
		}
	}
	c.note(x, f)
	if f.late {
		c.try(f)
	}
	return f
}

// note remembers what a formula asks of the events of a topic.
func (c *compiler) note(x vocabulary, f *formula) {
	t := c.p.topics[c.topic]
	if t == nil || t.env != x.env {
		return
	}
	t.whole = t.whole || f.Uses("data")
	for _, path := range f.Paths() {
		if path[0] == "state" || path[0] == "data" {
			c.paths = append(c.paths, askedPath{c.topic, path, f})
		}
	}
}

// try evaluates a formula on nothing, so that columns that looked up rows do not
// have are told now.
func (c *compiler) try(f *formula) {
	_, err := f.Eval(&scope{p: c.p, doc: (&expression.Env{}).NewDocument()})
	var wrong *noColumn
	if errors.As(err, &wrong) {
		c.fault(f.node, f.Source(), "%s", wrong.Error())
	}
}

// fault notes a fault of an expression at a node whose value may be more than
// the expression.
func (c *compiler) fault(at document.Node, source, format string, args ...any) {
	at.FaultOf(source, format, args...)
}

func message(err error) string {
	var e *expression.Error
	if errors.As(err, &e) {
		return e.Error()
	}
	return err.Error()
}
