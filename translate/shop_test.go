package translate

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"banyan/wal"
)

var createTable = regexp.MustCompile(`(?s)CREATE TABLE IF NOT EXISTS (\w+) \((.*?)\n\);`)

// shopTables reads the shop's real schema, so that its rules cannot drift away.
func shopTables(t testing.TB) []*wal.Table {
	t.Helper()
	b, err := os.ReadFile("../cmd/legacy-shop/schema.sql")
	if err != nil {
		t.Fatal(err)
	}
	var out []*wal.Table
	for i, m := range createTable.FindAllStringSubmatch(string(b), -1) {
		out = append(out, parseTable(uint32(16384+i), "public", m[1], strings.Split(m[2], "\n")))
	}
	if len(out) < 15 {
		t.Fatalf("found %d tables in the shop's schema", len(out))
	}
	return out
}

var typeNames = map[string]string{"serial": "integer", "bigserial": "bigint", "timestamp": "timestamp without time zone",
	"timestamptz": "timestamp with time zone", "varchar": "character varying", "int": "integer"}

// parseTable reads column definitions, one a line, as in CREATE TABLE.
func parseTable(oid uint32, schema, name string, lines []string) *wal.Table {
	t := &wal.Table{OID: oid, Schema: schema, Name: name, ReplicaIdentity: 'd'}
	for _, line := range lines {
		line, _, _ = strings.Cut(line, "--")
		line = strings.TrimSuffix(strings.TrimSpace(line), ",")
		if rest, ok := strings.CutPrefix(line, "PRIMARY KEY ("); ok {
			for n, col := range strings.Split(strings.TrimSuffix(rest, ")"), ", ") {
				c := &t.Columns[t.Column(col)]
				c.Key, c.Identity, c.NotNull = n+1, true, true
			}
			continue
		}
		name, rest, ok := strings.Cut(line, " ")
		if !ok {
			continue
		}
		rest = strings.TrimSpace(rest)
		typ, _, _ := strings.Cut(rest, " ")
		c := wal.Column{Name: name, TypMod: -1, NotNull: strings.Contains(rest, "NOT NULL")}
		if base, mod, ok := strings.Cut(typ, "("); ok && base == "numeric" {
			typ = base
			if strings.HasPrefix(mod, "12,3") {
				c.TypMod = 12<<16 | 3 + 4
			}
		}
		if c.TypeName = typ; typeNames[typ] != "" {
			c.TypeName = typeNames[typ]
		}
		if strings.Contains(rest, "PRIMARY KEY") {
			c.Key, c.Identity, c.NotNull = 1, true, true
		}
		t.Columns = append(t.Columns, c)
	}
	return t
}

func shopRules(t testing.TB) *Rules {
	t.Helper()
	b, err := os.ReadFile("../scenarios/shop.yaml")
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := Load("shop.yaml", b)
	if err != nil {
		t.Fatal(err)
	}
	rules, warnings, err := Compile(cfg, shopTables(t), 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range warnings {
		t.Errorf("warning: %s", w)
	}
	return rules
}

func TestShopRulesCompile(t *testing.T) {
	rules := shopRules(t)
	if n := len(rules.Topics()); n != 8 {
		t.Errorf("the shop has %d topics", n)
	}
	if got := rules.Capture()["public.customers"]; strings.Contains(strings.Join(got, " "), "password") {
		t.Errorf("the password is captured: %v", got)
	}
}
