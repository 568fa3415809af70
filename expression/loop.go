package expression

import "fmt"

// loopNode is a function that goes through a list with a condition or a
// computation per item.
type loopNode struct {
	ops  ops
	name string
	list node
	each node
}

func (n *loopNode) eval(in Input, at *cursor) (any, error) {
	list, err := evalList(n.ops, n.name, n.list, in, at)
	if err != nil {
		return nil, err
	}
	c := within(at)
	if n.name == "map" {
		out := make([]any, len(list))
		for i, item := range list {
			if err := c.next(item, i); err != nil {
				return nil, err
			}
			if out[i], err = n.each.eval(in, c); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	return n.search(list, c, in)
}

// search is for conditions.
func (n *loopNode) search(list []any, c *cursor, in Input) (any, error) {
	var count int64
	var kept []any
	if n.name == "filter" {
		kept = make([]any, 0, len(list))
	}
	for i, item := range list {
		if err := c.next(item, i); err != nil {
			return nil, err
		}
		holds, err := truth(n.each, in, c)
		if err != nil {
			return nil, err
		}
		switch n.name {
		case "all":
			if !holds {
				return false, nil
			}
			continue
		case "none":
			if holds {
				return false, nil
			}
			continue
		}
		if !holds {
			continue
		}
		switch n.name {
		case "any":
			return true, nil
		case "find":
			return item, nil
		case "filter":
			kept = append(kept, item)
		}
		count++
	}
	switch n.name {
	case "all", "none":
		return true, nil
	case "any":
		return false, nil
	case "one":
		return count == 1, nil
	case "count":
		return count, nil
	case "filter":
		return kept, nil
	}
	return nil, nil // find
}

func evalList(o ops, name string, n node, in Input, at *cursor) ([]any, error) {
	v, err := n.eval(in, at)
	if err != nil {
		return nil, err
	}
	list, ok := v.([]any)
	if !ok && v != nil && !o.lenient {
		return nil, fmt.Errorf("%s() of %s, want a list", name, describe(v))
	}
	return list, nil
}
