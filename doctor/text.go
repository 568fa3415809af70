package doctor

import (
	"fmt"
	"io"
	"strings"
)

const width = 80

// Text writes the report for people, in lines of at most 80 columns except
// where a statement is longer. Colour is used only where it is asked for.
func (r Report) Text(w io.Writer, colour bool) error {
	paint := func(code, s string) string {
		if !colour {
			return s
		}
		return "\x1b[" + code + "m" + s + "\x1b[0m"
	}
	tones := map[Severity]string{Error: "31", Warning: "33", Info: "36"}
	verdicts := map[Verdict]string{Ready: "32", ReadyWithWarnings: "33", Blocked: "31"}
	var b strings.Builder
	fmt.Fprintf(&b, "database %s on Postgres %s, as role %s, %s\n", r.Database, r.Server, r.Role, plural(r.Tables, "table", "tables"))
	for _, group := range groups(r.Findings) {
		f := group[0]
		b.WriteByte('\n')
		fmt.Fprintf(&b, "%s ", paint(tones[f.Severity], fmt.Sprintf("%-7s", f.Severity)))
		if len(group) == 1 {
			fmt.Fprintf(&b, "%s (%s)\n", f.Object, f.ID)
			wrap(&b, "  ", f.Message)
		} else {
			fmt.Fprintf(&b, "%s, %d times\n", f.ID, len(group))
			objects := make([]string, len(group))
			for i := range group {
				objects[i] = group[i].Object
			}
			wrap(&b, "  ", strings.Join(objects, ", "))
		}
		wrap(&b, "  why: ", f.Why)
		for _, sql := range f.Fix {
			if !strings.HasPrefix(sql, "--") {
				sql += ";"
			}
			fmt.Fprintf(&b, "  fix: %s\n", sql)
		}
	}
	if len(r.Unseen) > 0 {
		b.WriteString("\nnot seen:\n")
		for _, u := range r.Unseen {
			wrap(&b, "  - ", u)
		}
	}
	fmt.Fprintf(&b, "\n%s: %s, %s, %s\n", paint(verdicts[r.Verdict], strings.ReplaceAll(string(r.Verdict), "-", " ")),
		plural(r.Errors, "error", "errors"), plural(r.Warnings, "warning", "warnings"), plural(r.Infos, "note", "notes"))
	_, err := io.WriteString(w, b.String())
	return err
}

// groups puts notes of one kind, which have nothing to be fixed, side by side:
// twenty tables with the same trait are one thing to read. JSON has each with
// its own message.
func groups(findings []Finding) (all [][]Finding) {
	at := map[string]int{}
	for _, f := range findings {
		kind := f.ID + f.Why
		if i, ok := at[kind]; ok && f.Severity == Info && len(f.Fix) == 0 {
			all[i] = append(all[i], f)
			continue
		}
		if f.Severity == Info && len(f.Fix) == 0 {
			at[kind] = len(all)
		}
		all = append(all, []Finding{f})
	}
	return all
}

// wrap writes text with the prefix on its first line and as much space before
// the others.
func wrap(b *strings.Builder, prefix, text string) {
	line, indent := prefix, strings.Repeat(" ", len(prefix))
	empty := true
	for _, word := range strings.Fields(text) {
		if !empty && len(line)+1+len(word) > width {
			b.WriteString(line + "\n")
			line, empty = indent, true
		}
		if !empty {
			line += " "
		}
		line += word
		empty = false
	}
	b.WriteString(line + "\n")
}
