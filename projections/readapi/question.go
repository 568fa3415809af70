package readapi

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"banyan/event"
	"banyan/projections/state"
)

// resource is a Resource with its SQL.
type resource struct {
	Resource
	shape *state.Shape
	key   []int // columns
	one   string
}

// question is one request, checked.
type question struct {
	sql  string
	args []any
	key  []string // of the row; empty for a page
	ref  event.Ref
}

func compile(r Resource) (*resource, error) {
	if r.Path == "" || strings.ContainsAny(r.Path, "/ ") {
		return nil, errors.New("the path has to be one segment of a URL")
	}
	shape, err := state.Compile(r.Table)
	if err != nil {
		return nil, err
	}
	c := &resource{Resource: r, shape: shape}
	var where []string
	for i, name := range r.Table.Key {
		c.key = append(c.key, shape.Column(name))
		where = append(where, fmt.Sprintf("%s = $%d", pgx.Identifier{name}.Sanitize(), i+1))
	}
	c.one = fmt.Sprintf("SELECT row_to_json(r)::text FROM %s AS r WHERE %s", r.View.Sanitize(), strings.Join(where, " AND "))
	return c, nil
}

// value reads text as the column's type.
func (r *resource) value(column int, text string) (any, error) {
	c := r.shape.Table().Columns[column]
	v, err := r.shape.Coerce(column, text)
	if err != nil {
		return nil, fmt.Errorf("%s: %q is no %s", c.Name, text, c.Type)
	}
	return v, nil
}

// parse reads the rest of the path and the query. All faults are reported.
func (r *resource) parse(segments []string, query url.Values, pageSize int) (*question, error) {
	if len(segments) == 0 {
		return r.page(query, pageSize)
	}
	if len(segments) != len(r.key) {
		return nil, fmt.Errorf("/%s wants a key of %d parts, /%s/{%s}, not %d", r.Path, len(r.key), r.Path, strings.Join(r.Table.Key, "}/{"), len(segments))
	}
	if len(query) > 0 {
		return nil, errors.New("one row takes no parameters")
	}
	q := &question{sql: r.one}
	var errs []error
	for i, s := range segments {
		text, err := url.PathUnescape(s)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %q: %w", r.Table.Key[i], s, err))
			continue
		}
		v, err := r.value(r.key[i], text)
		errs = append(errs, err)
		q.args, q.key = append(q.args, v), append(q.key, text)
	}
	if r.Aggregate != "" {
		q.ref = event.Ref{Aggregate: r.Aggregate, Key: event.JoinKey(q.key...)}
	}
	return q, errors.Join(errs...)
}

// page is a question for rows in the order of their keys: ?column=value filters,
// ?limit=N, and ?after=KEY, the last key of the page before.
func (r *resource) page(query url.Values, pageSize int) (*question, error) {
	q := &question{}
	var errs []error
	var where []string
	limit := min(100, pageSize)
	for _, name := range slices.Sorted(mapKeys(query)) {
		text := query.Get(name)
		switch i := r.shape.Column(name); {
		case name == "limit":
			n, err := strconv.Atoi(text)
			if err != nil || n < 1 || n > pageSize {
				errs = append(errs, fmt.Errorf("limit: %q: want 1 to %d", text, pageSize))
			}
			limit = n
		case name == "after":
			more, err := r.after(text, q)
			errs = append(errs, err)
			where = append(where, more)
		case i < 0:
			errs = append(errs, fmt.Errorf("%s: /%s has no such column; it has %s, and limit and after", name, r.Path, strings.Join(r.columns(), ", ")))
		default:
			v, err := r.value(i, text)
			errs = append(errs, err)
			q.args = append(q.args, v)
			where = append(where, fmt.Sprintf("%s = $%d", pgx.Identifier{name}.Sanitize(), len(q.args)))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	condition := ""
	if len(where) > 0 {
		condition = " WHERE " + strings.Join(where, " AND ")
	}
	q.sql = fmt.Sprintf(`SELECT coalesce(json_agg(row_to_json(r)), '[]')::text FROM (SELECT * FROM %s%s ORDER BY %s LIMIT %d) AS r`,
		r.View.Sanitize(), condition, r.keyList(), limit)
	return q, nil
}

// after adds the key to begin behind.
func (r *resource) after(text string, q *question) (string, error) {
	parts, err := event.SplitKey(text)
	if err != nil || len(parts) != len(r.key) {
		return "", fmt.Errorf("after: %q: want the last key, its parts joined by commas: %s", text, strings.Join(r.Table.Key, ","))
	}
	var errs []error
	var marks []string
	for i, p := range parts {
		v, err := r.value(r.key[i], p)
		errs = append(errs, err)
		q.args = append(q.args, v)
		marks = append(marks, fmt.Sprintf("$%d", len(q.args)))
	}
	return fmt.Sprintf("(%s) > (%s)", r.keyList(), strings.Join(marks, ", ")), errors.Join(errs...)
}

func (r *resource) keyList() string {
	var names []string
	for _, k := range r.Table.Key {
		names = append(names, pgx.Identifier{k}.Sanitize())
	}
	return strings.Join(names, ", ")
}

func (r *resource) columns() []string {
	var names []string
	for _, c := range r.Table.Columns {
		names = append(names, c.Name)
	}
	return names
}
