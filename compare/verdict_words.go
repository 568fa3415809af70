package compare

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"banyan/money"
)

// moneyWords say what the candidate would have changed, by currency, for a sentence.
func (a *analysis) moneyWords() string {
	var parts []string
	for _, c := range a.findings {
		if c.book.Compared.Lines == 0 {
			continue
		}
		h := c.money.Headline
		switch diff := c.book.Diff(); {
		case diff > 0:
			parts = append(parts, fmt.Sprintf("%s more (%s)", inWords(h.Diff), percentText(rounded(h.Percent, 2))))
		case diff < 0:
			parts = append(parts, fmt.Sprintf("%s less (%s)", inWords(positive(h.Diff)), percentText(rounded(-h.Percent, 2))))
		default:
			parts = append(parts, "just as much in "+c.book.Currency)
		}
	}
	of := ""
	if a.sampled() {
		of = " of the customers in the sample"
	}
	return fmt.Sprintf("the same orders%s would have brought %s", of, strings.Join(parts, " and "))
}

// inWords writes an amount for a sentence, with commas between thousands.
func inWords(a money.Amount) string { return grouped(a.Number()) + " " + a.Currency }

// signedWords are inWords, with a plus before what is above zero.
func signedWords(a money.Amount) string {
	if a.Amount > 0 {
		return "+" + inWords(a)
	}
	return inWords(a)
}

// grouped puts commas between the thousands of a number.
func grouped(number string) string {
	whole, fraction, point := strings.Cut(number, ".")
	sign := ""
	if strings.HasPrefix(whole, "-") {
		sign, whole = "-", whole[1:]
	}
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if point {
		whole += "." + fraction
	}
	return sign + whole
}

// counted writes a whole number for a sentence, with commas between thousands.
func counted[N int | int64](n N) string { return grouped(strconv.FormatInt(int64(n), 10)) }

func positive(a money.Amount) money.Amount {
	if a.Amount < 0 {
		a.Amount = -a.Amount
	}
	return a
}

// marginAt is the point of the band.
func (c *finding) marginAt(i int) BandPoint { return c.money.Demand.Band[i] }

func (p BandPoint) loss() money.Amount { return positive(p.Margin) }

func days(n int) string {
	if n == 1 {
		return "1 day"
	}
	return fmt.Sprintf("%d days", n)
}

// sentence makes one of a reason.
func sentence(text string) string {
	first, size := utf8.DecodeRuneInString(text)
	text = string(unicode.ToUpper(first)) + text[size:]
	return strings.TrimSuffix(text, ".") + "."
}
