package main

import (
	"bufio"
	"compress/gzip"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

// row is one invoice line of the real year (Online Retail, UCI Machine
// Learning Repository, doi 10.24432/C5BW33), as the file has it.
type row struct {
	code        string
	description string
	quantity    int32
	at          time.Time
	price       amount
}

// paper is all rows of one invoice number. In the file an invoice has one
// customer and one country, but can have two times.
type paper struct {
	no       string
	customer string // empty: a guest
	country  string
	rows     []row
}

// when is the earliest time on the paper.
func (p *paper) when() time.Time {
	first := p.rows[0].at
	for _, r := range p.rows {
		if r.at.Before(first) {
			first = r.at
		}
	}
	return first
}

var yearColumns = []string{"InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country"}

// openYear opens a CSV file, plain or gzipped. The caller closes it.
func openYear(name string) (io.ReadCloser, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	buffered := bufio.NewReaderSize(f, 1<<16)
	if magic, _ := buffered.Peek(2); string(magic) != "\x1f\x8b" {
		return readCloser{buffered, f}, nil
	}
	plain, err := gzip.NewReader(buffered)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("unpack %s: %w", name, err), f.Close())
	}
	return readCloser{plain, f}, nil
}

type readCloser struct {
	io.Reader
	io.Closer
}

// readYear reads the papers in the order of their first rows, and what the
// file's rows add up to.
func readYear(r io.Reader) ([]*paper, count, error) {
	lines := csv.NewReader(r)
	lines.ReuseRecord = true
	head, err := lines.Read()
	if err != nil {
		return nil, count{}, fmt.Errorf("read the head of the file: %w", err)
	}
	if got := strings.TrimPrefix(strings.Join(head, ","), "\ufeff"); got != strings.Join(yearColumns, ",") {
		return nil, count{}, fmt.Errorf("the columns are %q, not %q", got, strings.Join(yearColumns, ","))
	}
	words := wordStore{}
	byNo := map[string]*paper{}
	var papers []*paper
	var all count
	for {
		record, err := lines.Read()
		if errors.Is(err, io.EOF) {
			return papers, all, nil
		}
		line, _ := lines.FieldPos(0)
		if err != nil {
			return nil, all, fmt.Errorf("read row: %w", err)
		}
		r, err := parseRow(record, words)
		if err != nil {
			return nil, all, fmt.Errorf("line %d: %w", line, err)
		}
		customer, country := words.keep(strings.TrimSuffix(record[6], ".0")), words.keep(record[7])
		p := byNo[record[0]]
		if p == nil {
			p = &paper{no: strings.Clone(record[0]), customer: customer, country: country}
			byNo[p.no] = p
			papers = append(papers, p)
		}
		if p.customer != customer || p.country != country {
			return nil, all, fmt.Errorf("line %d: invoice %s has two customers or countries", line, p.no)
		}
		p.rows = append(p.rows, r)
		all.add(1, r.price*amount(r.quantity))
	}
}

func parseRow(record []string, words wordStore) (row, error) {
	quantity, err := strconv.ParseInt(record[3], 10, 32)
	if err != nil {
		return row{}, fmt.Errorf("Quantity %q is no whole number", record[3])
	}
	when, err := time.Parse(time.DateTime, record[4])
	if err != nil {
		return row{}, fmt.Errorf("InvoiceDate %q is not like 2010-12-01 08:26:00", record[4])
	}
	price, err := parseAmount(record[5])
	if err != nil {
		return row{}, fmt.Errorf("UnitPrice: %w", err)
	}
	return row{words.keep(record[1]), words.keep(record[2]), int32(quantity), when, price}, nil
}

// wordStore keeps one copy of each word; the year repeats few of them often.
type wordStore map[string]string

func (w wordStore) keep(s string) string {
	if kept, ok := w[s]; ok {
		return kept
	}
	s = strings.Clone(s)
	w[s] = s
	return s
}
