package shadow

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"banyan/compare"
	"banyan/money"
	"banyan/projections/control"
)

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// OrdersName is the projection that counts the orders a shadow consumes, by itself.
func OrdersName(o Options) string { return Prefix + o.Name + "_orders" }

// OrdersProjection is the definition of a projection that counts the lines of the same
// orders and what was paid for them: another program, which knows nothing of a
// candidate. What it says must be what the ledger says it has consumed, down to lines
// without a price, and to those with more decimals than are counted, which are lines
// without money in both.
func OrdersProjection(o Options) string {
	m := &o.Mapping.Orders
	list := func(types ...[]string) string { return strings.Join(slices.Concat(types...), ", ") }
	var b strings.Builder
	fmt.Fprintf(&b, "projection: %s\ngroups:\n  lines:\n    from:\n", OrdersName(o))
	part := func(types, each, other string) {
		price := "item." + m.Line.Price
		fmt.Fprintf(&b, "      - topic: %s\n        of: events\n        types: [%s]\n        each: %s\n        values:\n", m.Topic, types, each)
		fmt.Fprintf(&b, "          currency: currency(%s)%s ?? %q\n", price, other, noCurrency)
		fmt.Fprintf(&b, "          paid: \"round(number(%s), %d) == number(%s) ? number(%s) * item.%s : 0\"\n", price, compare.Scale, price, price, m.Line.Quantity)
	}
	// A line without a price is in the currency of the order's first that has one.
	part(list(m.Placed, m.Recorded), path(m.Lines), fmt.Sprintf(" ?? currency(first(filter(%[1]s, .%[2]s >= 0 || .%[2]s < 0)).%[2]s)", path(m.Lines), m.Line.Price))
	if len(m.Added) > 0 {
		part(list(m.Added), fmt.Sprintf("filter(%s, .%s == %s)", path(m.Lines), m.Line.Number, path(m.AddedLine)), "")
	}
	b.WriteString("    by: {currency: text}\n    measures:\n      orders_lines: count\n      paid: {sum: paid, type: \"numeric(30,4)\"}\n")
	b.WriteString("    comment: lines of orders and what was paid for them, as a shadow must find them\n")
	return b.String()
}

// path is a name of a mapping in an expression: state is a variable of its own.
func path(name string) string {
	if strings.HasPrefix(name, "state.") {
		return name
	}
	return "data." + name
}

// counted is what the projection says of a partition in one currency.
type counted struct {
	lines   int64
	control compare.Units
}

// CheckOrders holds what a ledger has consumed against the projection of orders, by
// partition, where both stand at the same offset: there they must be equal. Elsewhere
// nothing can be said at the moment.
func CheckOrders(ctx context.Context, db DB, o Options, l *compare.Ledger, ours, theirs []control.Part, schema string) (compare.ProjectionCheck, error) {
	at := map[int]int64{}
	for _, p := range ours {
		if p.Topic == o.Mapping.Orders.Topic {
			at[p.Part] = p.Next
		}
	}
	same, apart := map[int]bool{}, 0
	for _, p := range theirs {
		if next, ok := at[p.Part]; ok && next == p.Next {
			same[p.Part] = true
		} else {
			apart++
		}
	}
	sums, err := readCounted(ctx, db, schema, same)
	if err != nil {
		return compare.ProjectionCheck{}, err
	}
	return judgeOrders(l, sums, same, apart), nil
}

func readCounted(ctx context.Context, db DB, schema string, same map[int]bool) (map[string]counted, error) {
	rows, err := db.Query(ctx, `SELECT currency, banyan_partition, orders_lines,
		greatest(least(paid * 10000, 9223372036854775807), -9223372036854775808)::bigint FROM `+table(schema, "lines__parts"))
	if err != nil {
		return nil, fmt.Errorf("read what the projection of orders says: %w", err)
	}
	sums := map[string]counted{}
	var currency string
	var part int
	var lines int64
	var paid compare.Units
	_, err = pgx.ForEachRow(rows, []any{&currency, &part, &lines, &paid}, func() error {
		if same[part] {
			c := sums[currency]
			c.lines += lines
			c.control += paid
			sums[currency] = c
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read what the projection of orders says: %w", err)
	}
	return sums, nil
}

func judgeOrders(l *compare.Ledger, theirs map[string]counted, same map[int]bool, apart int) compare.ProjectionCheck {
	ours := map[string]counted{}
	for currency, b := range l.Books {
		for part, t := range b.ByPartition {
			if same[part] {
				c := ours[currency]
				c.lines += t.Lines
				c.control += t.Control
				ours[currency] = c
			}
		}
	}
	if len(same) == 0 {
		return compare.ProjectionCheck{State: "not comparable", Detail: "it stands at other offsets at the moment; ask again when the orders pause"}
	}
	check := compare.ProjectionCheck{State: "equal"}
	for _, currency := range slices.Compact(slices.Sorted(slices.Values(slices.Concat(sortedKeys(ours), sortedKeys(theirs))))) {
		a, b := ours[currency], theirs[currency]
		if a != b && (currency != noCurrency || a.control != b.control) {
			check.State = "differs" // of what has no currency there are no orders that could be read, and no money
		}
		check.Rows = append(check.Rows, compare.Versus{Currency: currency, Ours: countOf(a, currency), Theirs: countOf(b, currency)})
	}
	if apart > 0 {
		check.Detail = fmt.Sprintf("in %d of %d partitions; the others stand at different offsets at the moment", len(same), len(same)+apart)
	}
	return check
}

func countOf(c counted, currency string) compare.Count {
	return compare.Count{Lines: c.lines, Control: money.Amount{Amount: c.control, Scale: compare.Scale, Currency: currency}}
}
