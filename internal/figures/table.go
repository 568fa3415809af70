package figures

import (
	"bufio"
	"io"
	"strings"
	"unicode/utf8"
)

// Align says which cells of a table stand at the right of their column.
type Align int

const (
	// Numbers puts the cells that are numbers at the right, all others at the
	// left.
	Numbers Align = iota
	// First puts the first column at the left and all others, with their heads,
	// at the right.
	First
)

// Table writes rows of equal length in aligned columns, two spaces apart, each
// row after the indent and without spaces at its end. The first row holds the
// heads. No rows write nothing.
func Table(w io.Writer, indent string, align Align, rows [][]string) error {
	if len(rows) == 0 {
		return nil
	}
	width := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	b := bufio.NewWriter(w)
	for _, row := range rows {
		line := indent
		for i, cell := range row {
			if i > 0 {
				line += "  "
			}
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
			if right := align == First && i > 0 || align == Numbers && number(cell); right {
				line += pad + cell
			} else {
				line += cell + pad
			}
		}
		b.WriteString(strings.TrimRight(line, " "))
		b.WriteByte('\n')
	}
	return b.Flush()
}

// number reports whether a cell has nothing but digits and what stands among
// them.
func number(s string) bool {
	return s != "" && strings.Trim(s, "0123456789,.-") == ""
}
