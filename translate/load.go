package translate

import (
	"crypto/sha256"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"banyan/internal/document"
	"banyan/money"
)

func sortStrings(s []string) { slices.Sort(s) }

var (
	sourceName    = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,39}$`)
	aggregateName = regexp.MustCompile(`^[A-Z][A-Za-z0-9]{0,62}$`)
	fieldName     = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,62}$`)
	topicName     = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,200}$`)
	slotName      = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)
)

// Load reads banyan.yaml. path is what errors call the file. It is strict: a
// key that is not known, a missing one, a value of another form are Faults, and
// all of them are returned at once, each with line, column, field, value and
// what would be right. Whether tables and columns exist is Compile's to say.
func Load(path string, b []byte) (*Config, error) {
	f := &faults{}
	f.Path = path
	c := &Config{Path: path, Unknown: "park", digest: sha256.Sum256(b)}
	c.Store.MaxBytes = 10 << 30
	c.Store.Provenance = ProvenanceConfig{Age: 24 * time.Hour, Bytes: 1 << 30}
	top, ok := document.Parse(&f.Collector, b)
	if !ok {
		return nil, f.err()
	}
	root := nodeOf(f, top)
	pos := root.keys(map[string]func(node){
		"version": func(v node) { c.Version = v.integer(1, 1) },
		"source":  c.loadSource,
		"store":   c.loadStore,
		"kafka":   c.loadKafka,
		"unknown": func(v node) { c.Unknown = v.oneOf("park", "stop") },
		"tables":  c.loadTables,
		"aggregates": func(v node) {
			for _, e := range v.entries() {
				c.Aggregates = append(c.Aggregates, loadAggregate(e))
			}
		},
	})
	for _, key := range []string{"version", "source", "tables", "aggregates"} {
		if _, ok := pos[key]; !ok {
			f.add(place{Line: 1, Column: 1}, key, "", "is missing")
		}
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Config) loadSource(v node) {
	s := &c.Source
	pos := v.keys(map[string]func(node){
		"name": func(v node) {
			if s.Name = v.text(); !sourceName.MatchString(s.Name) {
				v.fault("want a short name of a-z, 0-9, _ and - that begins with a letter")
			}
		},
		"url": func(v node) {
			if s.URL = v.text(); hasPassword(s.URL) {
				s.URL = ""
				v.f.add(v.at(), v.field, "", "has a password in it; leave it out and give it in BANYAN_SOURCE or a PGPASSFILE")
			}
		},
		"slot": func(v node) {
			if s.Slot = v.text(); !slotName.MatchString(s.Slot) {
				v.fault("want a slot name of a-z, 0-9 and _")
			}
		},
		"publication": func(v node) { s.Publication = v.name() },
		"mask_key":    func(v node) { s.MaskKey = v.name() },
	})
	if _, ok := pos["name"]; !ok {
		v.f.add(v.at(), "source.name", "", "is missing: the first part of every event id, such as shop")
	}
	if s.Slot == "" {
		s.Slot = "banyan_" + strings.ReplaceAll(s.Name, "-", "_")
	}
	if s.Publication == "" {
		s.Publication = "banyan_" + strings.ReplaceAll(s.Name, "-", "_")
	}
}

var urlPassword = regexp.MustCompile(`^[a-z]+://[^/@]*:[^/@]+@|(?i)[?& ]password=|^password=`)

func hasPassword(url string) bool { return urlPassword.MatchString(url) }

func (c *Config) loadStore(v node) {
	s := &c.Store
	v.keys(map[string]func(node){
		"url": func(v node) {
			if s.URL = v.text(); hasPassword(s.URL) {
				s.URL = ""
				v.f.add(v.at(), v.field, "", "has a password in it; leave it out and give it in BANYAN_STORE or a PGPASSFILE")
			}
		},
		"max_bytes": func(v node) { s.MaxBytes = v.size() },
		"provenance": func(v node) {
			v.keys(map[string]func(node){
				"age":   func(v node) { s.Provenance.Age = v.duration() },
				"bytes": func(v node) { s.Provenance.Bytes = v.size() },
			})
		},
	})
}

func (c *Config) loadKafka(v node) {
	k := &c.Kafka
	v.keys(map[string]func(node){
		"brokers": func(v node) { k.Brokers = v.names(nil) },
		"tls": func(v node) {
			v.keys(map[string]func(node){
				"ca":   func(v node) { k.TLS.CA = v.text() },
				"cert": func(v node) { k.TLS.Cert = v.text() },
				"key":  func(v node) { k.TLS.Key = v.text() },
			})
		},
	})
}

func (c *Config) loadTables(v node) {
	for _, e := range v.entries() {
		t := &TableConfig{Name: e.key, at: e.keyAt, pos: map[string]place{}, Omit: map[string]string{}, Money: map[string]MoneyConfig{}, Mask: map[string]string{}}
		c.Tables = append(c.Tables, t)
		fullName(e.node, e.keyAt, e.key)
		seen := e.keys(map[string]func(node){
			"columns": func(v node) { t.Columns = v.names(t.pos) },
			"omit": func(v node) {
				for _, o := range v.entries() {
					t.Omit[o.key], t.pos["omit."+o.key] = o.text(), o.keyAt
				}
			},
			"money": func(v node) {
				for _, m := range v.entries() {
					t.Money[m.key], t.pos["money."+m.key] = loadMoney(m.node), m.keyAt
				}
			},
			"mask": func(v node) {
				for _, m := range v.entries() {
					t.Mask[m.key], t.pos["mask."+m.key] = m.oneOf("hash", "drop"), m.keyAt
				}
			},
		})
		if _, ok := seen["columns"]; !ok || len(t.Columns) == 0 {
			v.f.add(e.keyAt, e.field+".columns", "", "is missing: name the columns to keep")
		}
	}
}

func fullName(v node, at place, name string) {
	if schema, table, ok := strings.Cut(name, "."); !ok || schema == "" || table == "" {
		v.f.add(at, v.field, name, "want the full name, schema.table")
	}
}

func loadMoney(v node) MoneyConfig {
	m := MoneyConfig{Scale: -1}
	v.keys(map[string]func(node){
		"currency": func(v node) {
			m.Currency = v.text()
			if _, ok := money.MinorUnit(m.Currency); !ok {
				v.fault("want a currency of ISO 4217 in capitals, such as GBP")
			}
		},
		"scale": func(v node) { m.Scale = v.integer(0, money.MaxScale) },
	})
	if m.Currency == "" {
		v.fault("want a currency, as in {currency: GBP, scale: 3}")
	} else if m.Scale < 0 {
		m.Scale, _ = money.MinorUnit(m.Currency)
	}
	return m
}

func loadAggregate(e entry) *AggregateConfig {
	a := &AggregateConfig{Name: e.key, at: e.keyAt, pos: map[string]place{}}
	if !aggregateName.MatchString(a.Name) {
		e.f.add(e.keyAt, e.field, e.key, "want a business word in capitals as Order or StockItem")
	}
	seen := e.keys(map[string]func(node){
		"table": func(v node) { a.Table, a.pos["table"] = v.name(), v.at() },
		"key":   func(v node) { a.Key = v.names(a.pos) },
		"topic": func(v node) {
			a.pos["topic"] = v.at()
			if a.Topic = v.text(); !topicName.MatchString(a.Topic) || strings.HasSuffix(a.Topic, ".latest") || strings.HasSuffix(a.Topic, ".watermarks") {
				v.fault("want a Kafka topic name of letters, digits, dots, _ and - that does not end in .latest or .watermarks")
			}
		},
		"state":    func(v node) { a.State = v.names(a.pos) },
		"children": func(v node) { a.Children = loadChildren(v) },
		"events": func(v node) {
			for _, item := range v.list() {
				a.Events = append(a.Events, loadEvent(item))
			}
		},
		"ignore": func(v node) {
			for _, item := range v.list() {
				a.Ignore = append(a.Ignore, loadIgnore(item))
			}
		},
	})
	for _, key := range []string{"table", "key", "topic"} {
		if _, ok := seen[key]; !ok {
			e.f.add(e.keyAt, e.field+"."+key, "", "is missing")
		}
	}
	return a
}

func loadChildren(v node) []*ChildConfig {
	var out []*ChildConfig
	for _, item := range v.list() {
		c := &ChildConfig{at: item.at(), pos: map[string]place{}}
		out = append(out, c)
		seen := item.keys(map[string]func(node){
			"table": func(v node) { c.Table, c.pos["table"] = v.name(), v.at() },
			"as": func(v node) {
				c.pos["as"] = v.at()
				if c.As = v.text(); !fieldName.MatchString(c.As) {
					v.fault("want a name of letters, digits and _")
				}
			},
			"key": func(v node) { c.Key = v.names(c.pos) },
			"parent": func(v node) {
				c.pos["parent"] = v.at()
				for _, p := range v.entries() {
					c.Parent = append(c.Parent, [2]string{p.key, p.name()})
				}
			},
			"state":    func(v node) { c.State = v.names(c.pos) },
			"orphans":  func(v node) { c.IgnoreOrphans = v.oneOf("ignore") == "ignore" },
			"children": func(v node) { c.Children = loadChildren(v) },
		})
		for _, key := range []string{"table", "as", "key", "parent"} {
			if _, ok := seen[key]; !ok {
				v.f.add(item.at(), item.field+"."+key, "", "is missing")
			}
		}
	}
	return out
}

func loadOn(v node, ops ...string) OnConfig {
	if _, ok := v.Scalar(); ok {
		return OnConfig{Op: v.oneOf(ops...)}
	}
	var on OnConfig
	v.keys(map[string]func(node){
		"table": func(v node) { on.Table = v.name() },
		"op":    func(v node) { on.Op = v.oneOf(ops...) },
	})
	return on
}

var reserved = []string{"occurredAt", "state", "changed", "last", "rekeyedTo"}

func loadEvent(item node) *EventConfig {
	e := &EventConfig{Version: 1, at: item.at(), pos: map[string]place{}}
	expression := func(v node) string {
		e.pos[v.last()] = v.at()
		return v.name()
	}
	seen := item.keys(map[string]func(node){
		"type": func(v node) {
			e.pos["type"] = v.at()
			if e.Type = v.text(); !aggregateName.MatchString(e.Type) {
				v.fault("want a fact in the past tense as OrderPlaced")
			}
		},
		"version":     func(v node) { e.Version = v.integer(1, math.MaxInt) },
		"on":          func(v node) { e.On, e.pos["on"] = loadOn(v, "insert", "update", "delete"), v.at() },
		"when":        func(v node) { e.When = expression(v) },
		"occurred_at": func(v node) { e.OccurredAt = expression(v) },
		"absorb":      func(v node) { e.Absorb = v.names(e.pos) },
		"reach": func(v node) {
			for _, r := range v.entries() {
				e.Reach = append(e.Reach, loadReach(r))
			}
		},
		"fields": func(v node) {
			for _, f := range v.entries() {
				if strings.ContainsAny(f.key, "().,#") {
					v.f.add(f.keyAt, f.field, f.key, "is no field name; an expression with a comma must be quoted inside { }")
					continue
				}
				if !fieldName.MatchString(f.key) || slices.Contains(reserved, f.key) {
					v.f.add(f.keyAt, f.field, f.key, "want a field name of letters, digits and _ other than %s", strings.Join(reserved, ", "))
				}
				e.Fields = append(e.Fields, FieldConfig{f.key, f.name(), f.at()})
			}
		},
	})
	for _, key := range []string{"type", "on"} {
		if _, ok := seen[key]; !ok {
			item.f.add(item.at(), item.field+"."+key, "", "is missing")
		}
	}
	if _, ok := seen["on"]; ok && e.On.Op == "" {
		item.f.add(e.pos["on"], item.field+".on.op", "", "is missing: insert, update or delete")
	}
	return e
}

func loadReach(e entry) *ReachConfig {
	r := &ReachConfig{Name: e.key, at: e.keyAt}
	if !fieldName.MatchString(r.Name) {
		e.f.add(e.keyAt, e.field, e.key, "want a name of letters, digits and _")
	}
	r.pos = e.keys(map[string]func(node){
		"table": func(v node) { r.Table = v.name() },
		"key": func(v node) {
			for _, k := range v.entries() {
				r.Key = append(r.Key, [2]string{k.key, k.name()})
			}
		},
		"cause": func(v node) { r.Cause = v.boolean() },
	})
	for _, key := range []string{"table", "key"} {
		if _, ok := r.pos[key]; !ok {
			e.f.add(e.keyAt, e.field+"."+key, "", "is missing")
		}
	}
	return r
}

func loadIgnore(item node) *IgnoreConfig {
	g := &IgnoreConfig{at: item.at(), pos: map[string]place{}}
	seen := item.keys(map[string]func(node){
		"on":     func(v node) { g.On, g.pos["on"] = loadOn(v, "insert", "update", "delete"), v.at() },
		"only":   func(v node) { g.Only = v.names(g.pos) },
		"reason": func(v node) { g.Reason = v.name() },
	})
	for _, key := range []string{"on", "reason"} {
		if _, ok := seen[key]; !ok {
			item.f.add(item.at(), item.field+"."+key, "", "is missing")
		}
	}
	if _, ok := seen["only"]; ok && g.On.Op != "update" {
		item.f.add(g.pos["on"], item.field+".only", "", "goes with on: update")
	}
	return g
}
