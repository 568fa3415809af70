package page

import (
	"reflect"
	"strings"
	"unicode"
	"unicode/utf8"

	"banyan/compare"
)

// longest is how many characters of any text of a report are shown. Sentences of the
// analysis are far below it; what is above it came in from outside.
const longest = 600

// tidy gives a copy of a report in which every text can be shown: no control
// characters, none that turn the direction of what follows, none without a width, and
// none longer than longest. It walks over the whole report, so that no field can be
// forgotten, and leaves the report itself as it was.
func tidy(r *compare.Report, most int) *compare.Report {
	out := reflect.New(reflect.TypeOf(*r))
	tidyInto(out.Elem(), reflect.ValueOf(*r), most)
	return out.Interface().(*compare.Report)
}

func tidyInto(dst, src reflect.Value, most int) {
	switch src.Kind() {
	case reflect.String:
		dst.SetString(clean(src.String(), most))
	case reflect.Struct:
		dst.Set(src) // with it go fields that others keep to themselves, as time.Time does
		for i := range src.NumField() {
			if src.Type().Field(i).IsExported() {
				tidyInto(dst.Field(i), src.Field(i), most)
			}
		}
	case reflect.Slice:
		if src.IsNil() {
			return
		}
		dst.Set(reflect.MakeSlice(src.Type(), src.Len(), src.Len()))
		for i := range src.Len() {
			tidyInto(dst.Index(i), src.Index(i), most)
		}
	case reflect.Pointer:
		if src.IsNil() {
			return
		}
		dst.Set(reflect.New(src.Type().Elem()))
		tidyInto(dst.Elem(), src.Elem(), most)
	case reflect.Map:
		tidyMap(dst, src, most)
	default:
		dst.Set(src)
	}
}

func tidyMap(dst, src reflect.Value, most int) {
	if src.IsNil() {
		return
	}
	dst.Set(reflect.MakeMap(src.Type()))
	for _, k := range src.MapKeys() {
		key, v := reflect.New(k.Type()).Elem(), reflect.New(src.Type().Elem()).Elem()
		tidyInto(key, k, most)
		tidyInto(v, src.MapIndex(k), most)
		dst.SetMapIndex(key, v)
	}
}

// larger reports whether a value has more than so many bytes of text and numbers in it,
// without writing them: a report that is too large by far is not to fill the memory.
func larger(v any, most int) bool { return weigh(reflect.ValueOf(v), most) < 0 }

// weigh gives what is left of a number of bytes; once it is below 0 it goes no further.
func weigh(v reflect.Value, left int) int {
	switch v.Kind() {
	case reflect.String:
		return left - v.Len()
	case reflect.Pointer:
		if !v.IsNil() {
			return weigh(v.Elem(), left)
		}
	case reflect.Struct:
		for i := 0; i < v.NumField() && left >= 0; i++ {
			if v.Type().Field(i).IsExported() {
				left = weigh(v.Field(i), left)
			}
		}
		return left
	case reflect.Slice:
		for i := 0; i < v.Len() && left >= 0; i++ {
			left = weigh(v.Index(i), left)
		}
		return left
	}
	return left - 1
}

// clean makes one line of a text that anybody may have written, of at most so many
// characters; what is cut off leaves an ellipsis.
func clean(s string, most int) string {
	if len(s) <= most && !strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c > '~' }) {
		return s
	}
	var b strings.Builder
	n := 0
	for _, c := range s {
		keep := c
		switch {
		case c == '\n' || c == '\r' || c == '\t' || c == '\u2028' || c == '\u2029':
			keep = ' '
		case unicode.Is(unicode.Cf, c) || c == '\ufeff':
			continue // marks that turn the direction of a text, and those without a width
		case unicode.IsControl(c) || !unicode.IsPrint(c) && !unicode.IsSpace(c):
			keep = utf8.RuneError
		}
		if n == most {
			return strings.TrimRight(b.String(), " ") + "…"
		}
		b.WriteRune(keep)
		n++
	}
	return b.String()
}

// short cuts a text that is clean already.
func short(most int, s string) string { return clean(s, most) }
