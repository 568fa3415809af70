package declared

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"banyan/expression"
	"banyan/money"
)

// seen is what a sample shows of one field.
type seen struct {
	name  string // in the state
	kinds map[string]int
	nulls int
	total int
	// scale and currencies of amounts.
	scale      int
	currencies map[string]bool
	items      *fields // of lists of objects
	mixed      bool    // some lists have other items
	unique     bool    // in every list
}

type fields struct {
	order []string
	by    map[string]*seen
	rows  int
}

// look adds an object to what was seen. order may be nil.
func (f *fields) look(object map[string]any, order []string) {
	f.rows++
	if order == nil {
		order = sortedNames(object)
	}
	for _, name := range order {
		s := f.by[name]
		if s == nil {
			s = &seen{name: name, kinds: map[string]int{}, currencies: map[string]bool{}, unique: true}
			f.by[name] = s
			f.order = append(f.order, name)
		}
		s.look(object[name])
	}
}

var (
	uuidText    = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	timeText    = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$`)
	dateText    = regexp.MustCompile(`^\d{4}-\d\d-\d\d$`)
	decimalText = regexp.MustCompile(`^-?\d+\.\d+$`)
)

func (s *seen) look(v any) {
	s.total++
	switch v := v.(type) {
	case nil:
		s.nulls++
	case bool:
		s.kinds["boolean"]++
	case int64:
		s.kinds["bigint"]++
	case money.Decimal:
		s.kinds["numeric"]++
	case money.Amount:
		s.kinds["amount"]++
		s.scale = max(s.scale, v.Scale)
		s.currencies[v.Currency] = true
	case string:
		s.kinds[kindOfText(v)]++
	case []any:
		s.kinds["list"]++
		s.lookAtItems(v)
	default:
		s.kinds["object"]++
	}
}

func kindOfText(s string) string {
	for _, k := range []struct {
		pattern *regexp.Regexp
		kind    string
	}{{uuidText, "uuid"}, {timeText, "timestamptz"}, {dateText, "date"}, {decimalText, "decimal"}} {
		if !k.pattern.MatchString(s) {
			continue
		}
		if k.kind == "timestamptz" || k.kind == "date" {
			if _, err := expression.ParseTime(s); err != nil {
				return "text"
			}
		}
		return k.kind
	}
	return "text"
}

func (s *seen) lookAtItems(list []any) {
	values := map[string]map[string]bool{}
	for _, item := range list {
		object, ok := item.(map[string]any)
		if !ok || s.mixed {
			s.mixed, s.items = true, nil
			return
		}
		if s.items == nil {
			s.items = &fields{by: map[string]*seen{}}
		}
		s.items.look(object, nil)
		for name, v := range object {
			text := describe(v)
			if values[name] == nil {
				values[name] = map[string]bool{}
			}
			if values[name][text] {
				s.items.by[name].unique = false
			}
			values[name][text] = true
		}
	}
}

// typ guesses a column's type and says why.
func (s *seen) typ() (typ, why string) {
	kinds := sortedNames(s.kinds)
	nulls := ""
	if s.nulls > 0 {
		nulls = fmt.Sprintf("; NULL in %d of %d", s.nulls, s.total)
	}
	switch {
	case len(kinds) == 0:
		return "text", "only NULL was seen; set the type"
	case len(kinds) == 2 && kinds[0] == "bigint" && kinds[1] == "numeric":
		return "numeric", "numbers, some with decimals" + nulls
	case len(kinds) > 1 && !slices.ContainsFunc(kinds, func(k string) bool {
		return k != "text" && k != "uuid" && k != "timestamptz" && k != "date" && k != "decimal"
	}):
		return "text", "texts of several forms" + nulls
	case len(kinds) > 1:
		return "jsonb", "values of several kinds: " + strings.Join(kinds, ", ") + nulls
	}
	switch kinds[0] {
	case "bigint":
		return "bigint", "whole numbers" + nulls
	case "numeric":
		return "numeric", "numbers with decimals" + nulls
	case "decimal":
		return "numeric", "texts that hold decimals, as numeric columns are told" + nulls
	case "amount":
		return fmt.Sprintf("numeric(18,%d)", s.scale), "money in " + strings.Join(sortedNames(s.currencies), ", ") + nulls
	case "timestamptz":
		return "timestamptz", "texts that hold times" + nulls
	case "date":
		return "date", "texts that hold days" + nulls
	case "uuid":
		return "uuid", "texts that hold uuids" + nulls
	case "boolean":
		return "boolean", "true or false" + nulls
	case "object", "list":
		return "jsonb", "an object or a list" + nulls
	}
	return "text", "texts" + nulls
}
