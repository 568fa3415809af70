package page

import (
	"bufio"
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"banyan/compare"
	"banyan/money"
)

// Line is one line of an order, compared or not, for a spreadsheet. What is not known
// is empty: an Amount without a currency is written as nothing.
type Line struct {
	Event     string // id
	Topic     string
	Partition int
	Offset    int64
	Order     string // its key
	Day       string // business day, 2011-10-03
	Cluster   string // of the customer, salted; never a customer's key
	Number    int64  // of the line within the order
	Product   string
	Code      string
	// Description is the product's, as it came.
	Description string
	Quantity    int64
	// ControlUnit and CandidateUnit are prices of a piece; the totals are of the line.
	ControlUnit    money.Amount
	CandidateUnit  money.Amount
	ControlTotal   money.Amount
	CandidateTotal money.Amount
	Diff           money.Amount
	Currency       string
	Cause          compare.Cause
	Rule           string
	// Excluded is why the line was not compared; "" where it was.
	Excluded compare.Reason
}

// lineColumns are the header of a table of lines.
var lineColumns = []string{
	"event_id", "topic", "partition", "offset", "order", "day", "customer_cluster", "line", "product", "code", "description",
	"quantity", "control_unit", "candidate_unit", "control_total", "candidate_total", "diff", "currency", "cause", "rule", "excluded",
}

// LinesWriter writes lines.csv: a header, and a row for each line. Texts that a
// spreadsheet would take for a formula get an apostrophe in front; numbers are left as
// they are, with a point and an ASCII minus.
type LinesWriter struct {
	csv *csv.Writer
	row []string
}

// NewLinesWriter writes the header. The caller ends with Flush, and closes w itself.
func NewLinesWriter(w io.Writer) (*LinesWriter, error) {
	l := &LinesWriter{csv: csv.NewWriter(bufio.NewWriterSize(w, 64<<10)), row: make([]string, len(lineColumns))}
	if err := l.csv.Write(lineColumns); err != nil {
		return nil, fmt.Errorf("write the header of the lines: %w", err)
	}
	return l, nil
}

// Write adds a line. It is buffered: an error may be that of a line before.
func (l *LinesWriter) Write(v Line) error {
	row := append(l.row[:0],
		harmless(v.Event), harmless(v.Topic), strconv.Itoa(v.Partition), strconv.FormatInt(v.Offset, 10),
		harmless(v.Order), harmless(v.Day), harmless(v.Cluster), strconv.FormatInt(v.Number, 10),
		harmless(v.Product), harmless(v.Code), harmless(v.Description), strconv.FormatInt(v.Quantity, 10),
		bare(v.ControlUnit), bare(v.CandidateUnit), bare(v.ControlTotal), bare(v.CandidateTotal), bare(v.Diff),
		harmless(v.Currency), harmless(string(v.Cause)), harmless(v.Rule), harmless(string(v.Excluded)))
	if err := l.csv.Write(row); err != nil {
		return fmt.Errorf("write line %d of %s: %w", v.Number, v.Event, err)
	}
	return nil
}

// Flush writes what is buffered and says whether anything went wrong. It may be called
// any number of times.
func (l *LinesWriter) Flush() error {
	l.csv.Flush()
	if err := l.csv.Error(); err != nil {
		return fmt.Errorf("write the lines: %w", err)
	}
	return nil
}

// bare is an amount as a number, without separators.
func bare(a money.Amount) string {
	if a.Currency == "" {
		return ""
	}
	if a.Scale <= 0 || a.Scale > money.MaxScale || a.Amount == math.MinInt64 {
		return a.Number()
	}
	// The same as Number, without big numbers: there are five of them in a row.
	n, buf := a.Amount, [24]byte{}
	negative := n < 0
	if negative {
		n = -n
	}
	i := len(buf)
	for decimals := a.Scale; n > 0 || decimals >= 0; decimals-- {
		if decimals == 0 {
			i--
			buf[i] = '.'
		}
		i--
		buf[i] = byte('0' + n%10)
		n /= 10
	}
	if negative {
		i--
		buf[i] = '-'
	}
	return string(buf[i:])
}

// harmless keeps a text from being computed by a spreadsheet: those begin a formula
// with =, +, - or @, also after blanks, and some in their wide forms. See OWASP, CSV
// Injection. NUL has no place in a text.
func harmless(s string) string {
	if strings.IndexByte(s, 0) >= 0 {
		s = strings.ReplaceAll(s, "\x00", "")
	}
	if s == "" {
		return s
	}
	if c := s[0]; c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' {
		return s
	}
	begin, _ := utf8.DecodeRuneInString(strings.TrimLeft(s, " \u00a0\u200b\ufeff"))
	if strings.ContainsRune("=+-@＝＋－＠\u2212\t\r\n", begin) {
		return "'" + s
	}
	return s
}
