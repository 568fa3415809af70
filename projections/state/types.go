package state

import (
	"fmt"
	"strconv"
	"strings"
)

// kind is what a column's values are, whatever the type's modifiers.
type kind uint8

const (
	kindNone kind = iota
	kindInt2
	kindInt4
	kindInt8
	kindNumeric
	kindBool
	kindText
	kindVarchar
	kindUUID
	kindDate
	kindTimestamp
	kindTimestamptz
	kindJSON
	kindJSONB
	kindBytea
	kindFloat4
	kindFloat8
)

// kinds are the types of Postgres that a column may have: their name as
// format_type prints it, and the oids of the type and of its arrays, which are
// the same in every database.
var kinds = [...]struct {
	name       string
	oid, array uint32
}{
	kindInt2:        {"smallint", 21, 1005},
	kindInt4:        {"integer", 23, 1007},
	kindInt8:        {"bigint", 20, 1016},
	kindNumeric:     {"numeric", 1700, 1231},
	kindBool:        {"boolean", 16, 1000},
	kindText:        {"text", 25, 1009},
	kindVarchar:     {"character varying", 1043, 1015},
	kindUUID:        {"uuid", 2950, 2951},
	kindDate:        {"date", 1082, 1182},
	kindTimestamp:   {"timestamp without time zone", 1114, 1115},
	kindTimestamptz: {"timestamp with time zone", 1184, 1185},
	kindJSON:        {"json", 114, 199},
	kindJSONB:       {"jsonb", 3802, 3807},
	kindBytea:       {"bytea", 17, 1001},
	kindFloat4:      {"real", 700, 1021},
	kindFloat8:      {"double precision", 701, 1022},
}

// spellings are all names under which people know the types.
var spellings = map[string]kind{
	"smallint": kindInt2, "int2": kindInt2,
	"integer": kindInt4, "int": kindInt4, "int4": kindInt4,
	"bigint": kindInt8, "int8": kindInt8,
	"numeric": kindNumeric, "decimal": kindNumeric,
	"boolean": kindBool, "bool": kindBool,
	"text":              kindText,
	"character varying": kindVarchar, "varchar": kindVarchar,
	"uuid": kindUUID, "date": kindDate,
	"timestamp": kindTimestamp, "timestamp without time zone": kindTimestamp,
	"timestamptz": kindTimestamptz, "timestamp with time zone": kindTimestamptz,
	"json": kindJSON, "jsonb": kindJSONB, "bytea": kindBytea,
	"real": kindFloat4, "float4": kindFloat4,
	"double precision": kindFloat8, "float8": kindFloat8, "float": kindFloat8,
}

// instead says what to take in place of types that people may try.
var instead = map[string]string{
	"money":     "a sum of money is numeric(p,s), or jsonb where its currency belongs to it",
	"char":      "char pads with blanks; take text or varchar(n)",
	"character": "char pads with blanks; take text or varchar(n)",
	"bpchar":    "char pads with blanks; take text or varchar(n)",
	"serial":    "rows get their keys from events; take bigint",
	"interval":  "take numeric (seconds) or text",
	"time":      "take text",
	"string":    "take text",
	"datetime":  "take timestamptz",
}

const knownTypes = "smallint, integer, bigint, numeric(p,s), boolean, text, varchar(n), uuid, date, timestamp, timestamptz, json, jsonb, bytea, real, double precision"

// typ is a type with its modifiers.
type typ struct {
	kind      kind
	precision int // of numeric; 0: as many digits as it takes
	scale     int // of numeric with a precision
	limit     int // characters of varchar; 0: no limit
}

// parseType reads a type as people write it.
func parseType(text string) (typ, error) {
	name := strings.ToLower(strings.Join(strings.Fields(text), " "))
	args := ""
	if open := strings.IndexByte(name, '('); open >= 0 {
		end := strings.IndexByte(name, ')')
		if end < open {
			return typ{}, fmt.Errorf("the parenthesis is not closed")
		}
		args = strings.ReplaceAll(name[open+1:end], " ", "")
		name = strings.TrimSpace(name[:open]) + name[end+1:]
		if args == "" {
			return typ{}, fmt.Errorf("the parentheses are empty")
		}
	}
	k, ok := spellings[name]
	if !ok {
		if strings.HasSuffix(name, "[]") {
			return typ{}, fmt.Errorf("a column holds no arrays; take jsonb")
		}
		base, _, _ := strings.Cut(name, " ")
		if hint := instead[strings.TrimPrefix(strings.TrimPrefix(base, "small"), "big")]; hint != "" {
			return typ{}, fmt.Errorf("%s", hint)
		}
		return typ{}, fmt.Errorf("it is none of %s", knownTypes)
	}
	t := typ{kind: k}
	if args == "" {
		return t, nil
	}
	return t.modify(args)
}

// modify applies what stands in the parentheses.
func (t typ) modify(args string) (typ, error) {
	var n []int
	for _, a := range strings.Split(args, ",") {
		v, err := strconv.Atoi(a)
		if err != nil {
			return typ{}, fmt.Errorf("%q is no whole number", a)
		}
		n = append(n, v)
	}
	switch {
	case t.kind == kindVarchar && len(n) == 1:
		if n[0] < 1 || n[0] > 10485760 {
			return typ{}, fmt.Errorf("the length of varchar is 1 to 10485760")
		}
		t.limit = n[0]
	case t.kind == kindNumeric && len(n) <= 2:
		t.precision = n[0]
		if len(n) == 2 {
			t.scale = n[1]
		}
		if t.precision < 1 || t.precision > 1000 || t.scale < 0 || t.scale > t.precision {
			return typ{}, fmt.Errorf("numeric(p,s) has 1 to 1000 digits, of them 0 to p decimals")
		}
	case t.kind == kindTimestamp || t.kind == kindTimestamptz:
		return typ{}, fmt.Errorf("leave the precision out: times have whole microseconds")
	default:
		return typ{}, fmt.Errorf("%s takes no such parameters", kinds[t.kind].name)
	}
	return t, nil
}

// String is the type as format_type prints it.
func (t typ) String() string {
	name := kinds[t.kind].name
	switch {
	case t.limit > 0:
		return fmt.Sprintf("%s(%d)", name, t.limit)
	case t.precision > 0:
		return fmt.Sprintf("%s(%d,%d)", name, t.precision, t.scale)
	}
	return name
}

// collates says whether values are compared as text. Key columns that are get
// COLLATE "C": the order of keys is then that of their bytes, here as there, and
// does not change with the C library of the server.
func (t typ) collates() bool { return t.kind == kindText || t.kind == kindVarchar }

// unbounded says whether a value can be too long for an index.
func (t typ) unbounded() bool {
	switch t.kind {
	case kindText, kindVarchar, kindBytea, kindNumeric:
		return true
	}
	return false
}

// isTime says whether the values are times.
func (t typ) isTime() bool {
	return t.kind == kindDate || t.kind == kindTimestamp || t.kind == kindTimestamptz
}
