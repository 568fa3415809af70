package main

import (
	"context"
	"io"
	"time"

	"banyan/compare"
	"banyan/compare/page"
	"banyan/money"
	"banyan/projections/control"
	"banyan/shadow"
)

// writeLines writes lines.csv from the journal: each line that the report has consumed,
// with both prices or the reason why there are none. A run that goes on has written more
// by now, which is not of this report.
func writeLines(ctx context.Context, store *control.Store, name string, spans []compare.TopicSpan, w io.Writer) error {
	p, err := shadow.Read(ctx, store, name)
	if err != nil {
		return err
	}
	csv, err := page.NewLinesWriter(w)
	if err != nil {
		return err
	}
	until := map[int]int64{}
	for _, s := range spans {
		if s.Topic == p.Options.Mapping.Orders.Topic {
			until[s.Partition] = s.Until
		}
	}
	for e, err := range shadow.Journal(ctx, store, name) {
		if err != nil {
			return err
		}
		topic, partition, offset, err := shadow.ParseAt(e.At)
		if err != nil {
			return err
		}
		if offset >= until[partition] {
			continue
		}
		row := page.Line{Event: e.Event, Topic: topic, Partition: partition, Offset: offset, Order: e.Order,
			Day: time.Unix(int64(e.Day)*86400, 0).UTC().Format(time.DateOnly), Cluster: e.Cluster}
		for i := range e.Lines {
			if err := csv.Write(lineOf(row, &e.Lines[i], p.Ledger)); err != nil {
				return err
			}
		}
	}
	return csv.Flush()
}

// lineOf fills a row with a line; how the product is called is the ledger's to say.
func lineOf(row page.Line, n *shadow.EntryLine, l *compare.Ledger) page.Line {
	amount := func(u compare.Units) money.Amount {
		return money.Amount{Amount: u, Scale: compare.Scale, Currency: n.Currency}
	}
	row.Number, row.Product, row.Quantity, row.Currency = n.Line, n.Product, n.Quantity, n.Currency
	row.ControlUnit, row.ControlTotal = amount(n.Control), amount(n.Paid)
	row.Cause, row.Rule, row.Excluded = n.Cause, n.Rule, n.Reason
	if n.Reason == "" {
		row.CandidateUnit, row.CandidateTotal, row.Diff = amount(n.Candidate), amount(n.Quoted), amount(n.Quoted-n.Paid)
	}
	if b := l.Books[n.Currency]; b != nil {
		if p := b.Products[n.Product]; p != nil {
			row.Code, row.Description = p.Code, p.Description
		}
	}
	return row
}
