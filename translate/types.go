package translate

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"banyan/expression"
	"banyan/wal"
)

// kindOf values in expressions. A kind decides the form in JSON too; docs/types.md
// is the table for people.
type kind uint8

const (
	kindText    kind = iota // everything without a better form
	kindInt                 // smallint, integer, bigint, oid
	kindBool                //
	kindFloat               // real, double precision
	kindNumeric             // numeric without a currency
	kindMoney               // numeric with one
	kindTime                // timestamp with and without time zone
	kindDate                //
	kindJSON                // json, jsonb
	kindBytes               // bytea
	kindArray               // of the above; multi-dimensional too
)

// codec knows one column's type.
type codec struct {
	kind    kind
	elem    *codec // of an array
	scale   int    // of money
	unit    string // its currency
	foreign bool   // the name is not one of Postgres' own: an enum, a domain, ...
}

var kinds = map[string]kind{
	"smallint": kindInt, "integer": kindInt, "bigint": kindInt, "oid": kindInt,
	"boolean": kindBool, "real": kindFloat, "double precision": kindFloat, "numeric": kindNumeric,
	"timestamp without time zone": kindTime, "timestamp with time zone": kindTime, "date": kindDate,
	"json": kindJSON, "jsonb": kindJSON, "bytea": kindBytes,
}

// byOID serves where a column comes without its type's name.
var byOID = map[uint32]string{
	16: "boolean", 17: "bytea", 20: "bigint", 21: "smallint", 23: "integer", 25: "text", 26: "oid", 114: "json",
	700: "real", 701: "double precision", 1042: "character", 1043: "character varying", 1082: "date",
	1114: "timestamp without time zone", 1184: "timestamp with time zone", 1700: "numeric", 3802: "jsonb",
	1000: "boolean[]", 1001: "bytea[]", 1005: "smallint[]", 1007: "integer[]", 1009: "text[]", 1015: "character varying[]",
	1016: "bigint[]", 1021: "real[]", 1022: "double precision[]", 1028: "oid[]", 1115: "timestamp without time zone[]",
	1182: "date[]", 1185: "timestamp with time zone[]", 1231: "numeric[]", 199: "json[]", 3807: "jsonb[]",
}

func typeName(c wal.Column) string {
	if c.TypeName != "" {
		return c.TypeName
	}
	return byOID[c.TypeOID]
}

func codecOf(name string) codec {
	if elem, ok := strings.CutSuffix(name, "[]"); ok && elem != "box" {
		e := codecOf(elem)
		return codec{kind: kindArray, elem: &e}
	}
	k, ok := kinds[name]
	return codec{kind: k, foreign: !ok && name != "text" && name != "character varying" && name != "character"}
}

var (
	errEncoding = errors.New("the text is not UTF-8")
	errForm     = errors.New("the text has not the form of its type")
)

// appendJSON appends a value's JSON form. text is in the form that Postgres
// writes under the settings of the wal package.
func (c *codec) appendJSON(dst []byte, text string) ([]byte, error) {
	switch c.kind {
	case kindInt:
		if !isInteger(text) {
			return dst, errForm
		}
		return append(dst, text...), nil
	case kindFloat:
		if text == "NaN" || strings.HasSuffix(text, "Infinity") {
			return expression.AppendText(dst, text), nil
		}
		if !json.Valid([]byte(text)) {
			return dst, errForm
		}
		return append(dst, text...), nil
	case kindBool:
		switch text {
		case "t":
			return append(dst, "true"...), nil
		case "f":
			return append(dst, "false"...), nil
		}
		return dst, errForm
	case kindMoney:
		a, err := c.amount(text)
		if err != nil {
			return dst, err
		}
		return a.AppendJSON(dst), nil
	case kindTime:
		return appendTime(dst, text), nil
	case kindJSON:
		return appendCompact(dst, text)
	case kindBytes:
		return appendBytea(dst, text)
	case kindArray:
		return c.appendArray(dst, text)
	}
	if !utf8.ValidString(text) {
		return dst, errEncoding
	}
	return expression.AppendText(dst, text), nil
}

func isInteger(s string) bool {
	if s != "" && s[0] == '-' {
		s = s[1:]
	}
	if s == "" || len(s) > 1 && s[0] == '0' {
		return false
	}
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// appendTime writes 2010-12-01T08:26:00Z for what lies in the years 1 to 9999;
// RFC 3339 has no form for the rest (infinity, BC, later years), which keep
// their Postgres text. A timestamp without time zone is read as UTC.
func appendTime(dst []byte, text string) []byte {
	if len(text) < 19 || text[4] != '-' || text[10] != ' ' || strings.HasSuffix(text, "BC") {
		return expression.AppendText(dst, text)
	}
	dst = append(dst, '"')
	dst = append(dst, text[:10]...)
	dst = append(dst, 'T')
	rest := text[11:]
	zone := strings.LastIndexAny(rest, "+-")
	if zone < 0 {
		dst = append(dst, rest...)
		return append(dst, 'Z', '"')
	}
	dst = append(dst, rest[:zone]...)
	switch offset := rest[zone:]; {
	case offset == "+00":
		dst = append(dst, 'Z')
	case len(offset) == 3:
		dst = append(dst, offset...)
		dst = append(dst, ":00"...)
	default:
		dst = append(dst, offset...)
	}
	return append(dst, '"')
}

// appendCompact writes JSON without the white space between its tokens.
// Numbers, strings and the order of keys stay as they are.
func appendCompact(dst []byte, text string) ([]byte, error) {
	if !utf8.ValidString(text) {
		return dst, errEncoding
	}
	if !json.Valid([]byte(text)) {
		return dst, errForm
	}
	inString := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case inString:
			dst = append(dst, c)
			if c == '\\' {
				i++
				dst = append(dst, text[i])
			} else if c == '"' {
				inString = false
			}
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
		default:
			inString = c == '"'
			dst = append(dst, c)
		}
	}
	return dst, nil
}

func appendBytea(dst []byte, text string) ([]byte, error) {
	digits, ok := strings.CutPrefix(text, `\x`)
	if !ok {
		return dst, errForm
	}
	raw, err := hex.DecodeString(digits)
	if err != nil {
		return dst, errForm
	}
	dst = append(dst, '"')
	dst = base64.StdEncoding.AppendEncode(dst, raw)
	return append(dst, '"'), nil
}

// appendArray writes an array as one of JSON, in as many dimensions as it has.
// An array with other lower bounds than 1, "[0:1]={a,b}", keeps its text: JSON
// has no bounds.
func (c *codec) appendArray(dst []byte, text string) ([]byte, error) {
	if strings.HasPrefix(text, "[") {
		if !utf8.ValidString(text) {
			return dst, errEncoding
		}
		return expression.AppendText(dst, text), nil
	}
	dst, rest, err := c.elem.appendItems(dst, text, 0)
	if err == nil && rest != "" {
		err = errForm
	}
	return dst, err
}

func (c *codec) appendItems(dst []byte, text string, depth int) ([]byte, string, error) {
	if text == "" || text[0] != '{' || depth > 6 {
		return dst, text, errForm
	}
	dst = append(dst, '[')
	text = text[1:]
	for first := true; ; first = false {
		if text == "" {
			return dst, text, errForm
		}
		if text[0] == '}' {
			return append(dst, ']'), text[1:], nil
		}
		if !first {
			if text[0] != ',' {
				return dst, text, errForm
			}
			text = text[1:]
			dst = append(dst, ',')
		}
		var err error
		if text != "" && text[0] == '{' {
			if dst, text, err = c.appendItems(dst, text, depth+1); err != nil {
				return dst, text, err
			}
			continue
		}
		var item string
		var quoted bool
		if item, quoted, text, err = arrayItem(text); err != nil {
			return dst, text, err
		}
		if !quoted && item == "NULL" {
			dst = append(dst, "null"...)
		} else if dst, err = c.appendJSON(dst, item); err != nil {
			return dst, text, err
		}
	}
}

func arrayItem(text string) (item string, quoted bool, rest string, err error) {
	if text != "" && text[0] == '"' {
		var b strings.Builder
		for i := 1; i < len(text); i++ {
			switch text[i] {
			case '\\':
				if i++; i == len(text) {
					return "", true, text, errForm
				}
			case '"':
				return b.String(), true, text[i+1:], nil
			}
			b.WriteByte(text[i])
		}
		return "", true, text, errForm
	}
	end := strings.IndexAny(text, ",}")
	if end <= 0 {
		return "", false, text, errForm
	}
	return text[:end], false, text[end:], nil
}

// valueError says which column's value has no exact form.
type valueError struct {
	table, column string
	err           error
}

func (e *valueError) Error() string {
	return fmt.Sprintf("column %s of %s: %s", e.column, e.table, e.err)
}

func (e *valueError) Unwrap() error { return e.err }
