// Package page writes a compare.Report for people: a page that opens offline and that
// a finance lead can sign (HTML), a comment for a pull request (Markdown), a screen of
// a terminal (Text), a document for machines (JSON), a table of lines (Lines), and a
// page that follows a run while it goes on (Live, LiveServer).
//
// It decides nothing. All figures, and all sentences about them, are the report's; here
// they are put in order, written with separators and signs, and drawn. The same report
// gives the same bytes. Nothing that is written loads anything from anywhere, and names
// of products, which come from outside, are cleaned and escaped wherever they appear.
package page
