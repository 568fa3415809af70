package expression

import (
	"encoding/json"
	"testing"
)

func benchProgram(b *testing.B, source string) (*Env, *Program) {
	b.Helper()
	env := jsonEnv()
	p, err := Compile(source, env)
	if err != nil {
		b.Fatal(err)
	}
	return env, p
}

// BenchmarkEval measures one evaluation on a document that has been read.
func BenchmarkEval(b *testing.B) {
	for _, source := range []string{
		"state.address.city",
		"state.id * 2 + 1000",
		"state.total * 3 - goods",
		`state.status == "placed" and state.id > 1000`,
		"sum(state.lines, .quantity * .unit_price)",
		"sum(filter(state.lines, .quantity > 0), .quantity * .unit_price)",
		"date(occurredAt)",
	} {
		b.Run(source, func(b *testing.B) {
			env, p := benchProgram(b, source)
			doc := env.NewDocument()
			if err := doc.Read([]byte(shopEvent)); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := p.Eval(doc); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkJSON measures the ways from an event's bytes to values.
func BenchmarkJSON(b *testing.B) {
	raw := []byte(shopEvent)
	b.Run("encoding/json", func(b *testing.B) {
		b.SetBytes(int64(len(raw)))
		b.ReportAllocs()
		for b.Loop() {
			var v any
			if err := json.Unmarshal(raw, &v); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("FromJSON", func(b *testing.B) {
		b.SetBytes(int64(len(raw)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := FromJSON(raw); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Extract10", func(b *testing.B) {
		e := NewExtractor(Path{"occurredAt"}, Path{"state", "id"}, Path{"state", "invoice_no"}, Path{"state", "customer_id"}, Path{"state", "status"},
			Path{"state", "channel"}, Path{"state", "country"}, Path{"state", "total"}, Path{"state", "placed_at"}, Path{"state", "address", "city"})
		b.SetBytes(int64(len(raw)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := e.Extract(raw); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("DocumentLines", func(b *testing.B) {
		env, _ := benchProgram(b, "sum(filter(state.lines, .quantity > 0), .quantity * .unit_price)")
		doc := env.NewDocument()
		b.SetBytes(int64(len(raw)))
		b.ReportAllocs()
		for b.Loop() {
			if err := doc.Read(raw); err != nil {
				b.Fatal(err)
			}
		}
	})
}
