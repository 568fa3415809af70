package main

import (
	"fmt"
	"io"
	"sync"
)

// kind is what a row of the shop's year became.
type kind int

const (
	orderLines kind = iota
	returnLines
	adjustments
	feeLines
	kinds
)

var kindNames = [kinds]string{"order lines", "return lines", "stock adjustments", "fee lines"}

// count is a number of rows and the exact sum of quantity * price over them.
type count struct {
	Rows int64  `json:"rows"`
	Sum  amount `json:"sum"`
}

func (c *count) add(rows int, sum amount) { c.Rows, c.Sum = c.Rows+int64(rows), c.Sum+sum }

// tally counts what the shop has confirmed. It is safe for many goroutines.
type tally struct {
	mu        sync.Mutex
	kinds     [kinds]count
	customers int64
	orders    int64
	rejected  int64
	paid      int64
	declined  int64
	cancelled int64
	shipped   int64
	returns   int64
	example   int32
}

func (t *tally) add(k kind, rows int, sum amount) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kinds[k].add(rows, sum)
}

// more counts one more of something that is no row.
func (t *tally) more(n *int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	*n++
}

func (t *tally) total() count {
	var all count
	for _, c := range t.kinds {
		all.add(int(c.Rows), c.Sum)
	}
	return all
}

// summary is the result of a replay, as --output json prints it. Sums are
// decimal strings, exact to a thousandth.
type summary struct {
	Source           string  `json:"source"`           // "data" or "generate"
	Seconds          float64 `json:"seconds"`          // how long the replay took
	Calls            int64   `json:"calls"`            // REST calls that the shop answered
	RowsRead         int64   `json:"rowsRead"`         // rows of the file; with --generate the rows that were sent
	Rows             int64   `json:"rows"`             // rows that the shop has confirmed, the sum of the four kinds
	Sum              amount  `json:"sum"`              // quantity * price over all rows
	OrderLines       count   `json:"orderLines"`       // rows that became lines of orders
	ReturnLines      count   `json:"returnLines"`      // rows that became lines of returns
	StockAdjustments count   `json:"stockAdjustments"` // rows that became stock adjustments
	FeeLines         count   `json:"feeLines"`         // rows that became fees
	Customers        int64   `json:"customers"`        // customers registered
	Orders           int64   `json:"orders"`           // orders sent, rejected ones included
	Rejected         int64   `json:"rejected"`         // orders refused for lack of stock
	Paid             int64   `json:"paid"`             // orders paid
	Declined         int64   `json:"declined"`         // payment attempts declined
	Cancelled        int64   `json:"cancelled"`        // orders cancelled
	Shipped          int64   `json:"shipped"`          // orders shipped
	Returns          int64   `json:"returns"`          // returns accepted
	ExampleOrderID   int32   `json:"exampleOrderId"`   // with --generate: an order that went from placing to return
}

func (t *tally) summary() summary {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := t.total()
	return summary{
		Rows: all.Rows, Sum: all.Sum,
		OrderLines: t.kinds[orderLines], ReturnLines: t.kinds[returnLines],
		StockAdjustments: t.kinds[adjustments], FeeLines: t.kinds[feeLines],
		Customers: t.customers, Orders: t.orders, Rejected: t.rejected, Paid: t.paid, Declined: t.declined,
		Cancelled: t.cancelled, Shipped: t.shipped, Returns: t.returns, ExampleOrderID: t.example,
	}
}

// print writes the summary for people.
func (s summary) print(w io.Writer) {
	fmt.Fprintf(w, "%-18s %10s %18s\n", "kind", "rows", "quantity * price")
	for k, c := range []count{s.OrderLines, s.ReturnLines, s.StockAdjustments, s.FeeLines} {
		fmt.Fprintf(w, "%-18s %10d %18s\n", kindNames[k], c.Rows, c.Sum)
	}
	fmt.Fprintf(w, "%-18s %10d %18s\n", "together", s.Rows, s.Sum)
	fmt.Fprintf(w, "%-18s %10d\n\n", "rows read", s.RowsRead)
	fmt.Fprintf(w, "%d customers; %d orders: %d rejected, %d cancelled, %d paid, %d shipped; %d declined payments; %d returns\n",
		s.Customers, s.Orders, s.Rejected, s.Cancelled, s.Paid, s.Shipped, s.Declined, s.Returns)
	fmt.Fprintf(w, "%d calls in %.1f s\n", s.Calls, s.Seconds)
	if s.ExampleOrderID != 0 {
		fmt.Fprintf(w, "order %d went from placing to return\n", s.ExampleOrderID)
	}
}
