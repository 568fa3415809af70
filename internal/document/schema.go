package document

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Schema writes a shape as a JSON Schema (draft 2020-12), for editors. It says
// of the form what Check says; of names that must exist it knows nothing.
func (s *Shape) Schema(id, title string) ([]byte, error) {
	body := s.schema()
	top := append(members{{"$schema", "https://json-schema.org/draft/2020-12/schema"}, {"$id", id}, {"title", title}}, body...)
	raw, err := json.Marshal(top)
	if err != nil {
		return nil, fmt.Errorf("write the schema: %w", err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, raw, "", "  "); err != nil {
		return nil, fmt.Errorf("write the schema: %w", err)
	}
	return append(out.Bytes(), '\n'), nil
}

// members is a JSON object in an order of ours.
type members []struct {
	name  string
	value any
}

// MarshalJSON keeps the order.
func (m members) MarshalJSON() ([]byte, error) {
	out := []byte{'{'}
	for i, one := range m {
		if i > 0 {
			out = append(out, ',')
		}
		name, err := json.Marshal(one.name)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(one.value)
		if err != nil {
			return nil, err
		}
		out = append(append(append(out, name...), ':'), value...)
	}
	return append(out, '}'), nil
}

type member = struct {
	name  string
	value any
}

func (s *Shape) schema() members {
	var m members
	if s.Doc != "" {
		m = append(m, member{"description", s.Doc})
	}
	if len(s.Either) > 0 {
		var of []members
		for _, one := range s.Either {
			of = append(of, one.schema())
		}
		return append(m, member{"anyOf", of})
	}
	switch s.Form {
	case Flag:
		m = append(m, member{"type", "boolean"})
	case Scalar:
		m = s.scalarSchema(m)
	case List:
		m = append(m, member{"type", "array"}, member{"items", s.Item.schema()})
		if s.Filled {
			m = append(m, member{"minItems", 1})
		}
	case Map:
		m = append(m, member{"type", "object"}, member{"additionalProperties", s.Item.schema()})
		if s.KeyPattern != nil {
			m = append(m, member{"propertyNames", members{{"pattern", s.KeyPattern.String()}}})
		}
		if s.Filled {
			m = append(m, member{"minProperties", 1})
		}
	case Object:
		var properties members
		required := []string{}
		for _, f := range s.Fields {
			properties = append(properties, member{f.Name, f.Shape.schema()})
			if f.Required {
				required = append(required, f.Name)
			}
		}
		m = append(m, member{"type", "object"}, member{"properties", properties}, member{"additionalProperties", false})
		if len(required) > 0 {
			m = append(m, member{"required", required})
		}
	}
	return m
}

// scalarSchema allows numbers and truths too where a text may look like one:
// YAML gives them their types before a schema sees them.
func (s *Shape) scalarSchema(m members) members {
	switch {
	case len(s.Words) > 0:
		return append(m, member{"enum", s.Words})
	case s.Pattern != nil && !s.Pattern.MatchString("1"):
		return append(m, member{"type", "string"}, member{"pattern", s.Pattern.String()})
	case s.Pattern != nil:
		return append(m, member{"type", []string{"string", "number"}}, member{"pattern", s.Pattern.String()})
	}
	return append(m, member{"type", []string{"string", "number", "boolean"}})
}
