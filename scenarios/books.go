package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// shopBooks is the report on sales as somebody would write it for the monolith:
// one query over four of its tables.
const shopBooks = `
	WITH lines(day, invoice, quantity, price) AS (
		SELECT i.added_at::date, o.invoice_no, i.quantity, i.unit_price FROM order_items i JOIN orders o ON o.id = i.order_id
		UNION ALL
		SELECT i.added_at::date, r.invoice_no, i.quantity, i.unit_price FROM return_items i JOIN returns r ON r.id = i.return_id
		UNION ALL
		SELECT adjusted_at::date, invoice_no, quantity, price FROM stock_adjustments
		UNION ALL
		SELECT charged_at::date, invoice_no, quantity, price FROM fees)
	SELECT day::text, count(*)::text, count(DISTINCT invoice)::text,
		coalesce(sum(quantity * price) FILTER (WHERE quantity > 0 AND price > 0), 0)::numeric(14,3)::text,
		coalesce(sum(quantity * price) FILTER (WHERE invoice LIKE 'C%'), 0)::numeric(14,3)::text,
		sum(quantity * price)::numeric(14,3)::text
	FROM lines GROUP BY day ORDER BY day`

// serviceBooks is the same from the service that has only that.
const serviceBooks = `
	SELECT day::text, rows::text, invoices::text, gross::text, cancellations::text, net::text
	FROM daily_sales.daily_sales ORDER BY day`

// compareBooks holds the copy that events have made against the monolith's tables.
func (t *tour) compareBooks(ctx context.Context) error {
	t.title("Do the books agree? (daily_sales against SQL over the shop's tables)")
	token, err := t.token(ctx)
	if err != nil {
		return err
	}
	want, err := t.read(ctx, "shop", shopBooks)
	if err != nil {
		return err
	}
	got, err := t.readAt(ctx, token, "daily_sales", serviceBooks)
	if err != nil {
		return err
	}
	say(t.out, "day         lines  invoices         gross  cancellations           net")
	for _, d := range got[:min(3, len(got))] {
		say(t.out, fmt.Sprintf("%s  %5s  %8s  %12s  %13s  %12s", d[0], d[1], d[2], d[3], d[4], d[5]))
	}
	differ := unequal(got, want)
	for _, d := range differ {
		say(t.out, d)
	}
	say(t.out, fmt.Sprintf("... %d of %d days differ, to the last thousandth of a pound", len(differ), len(want)))
	if len(differ) > 0 {
		return &notProved{strings.Join(differ, "\n")}
	}
	return nil
}

// unequal says which days differ. Both lists are in the order of the days.
func unequal(got, want [][]string) []string {
	var differ []string
	byDay := map[string][]string{}
	for _, d := range got {
		byDay[d[0]] = d
	}
	for _, d := range want {
		if !slices.Equal(byDay[d[0]], d) {
			differ = append(differ, fmt.Sprintf("%s: the service has %v, the books %v", d[0], byDay[d[0]], d))
		}
		delete(byDay, d[0])
	}
	for day, d := range byDay {
		differ = append(differ, fmt.Sprintf("%s: the service has %v, the books have no such day", day, d))
	}
	return differ
}
