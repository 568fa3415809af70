package declared

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"banyan/event"
	"banyan/expression"
	"banyan/projections"
)

// samplePerEnd is how many records are read from each end of each partition: the
// oldest have the births, the newest what the source writes today.
const samplePerEnd = 50

// Look reads a sample of the topics of a file. names are all topics that there
// are; nil where nobody knows: then every topic is asked for. The sample is small,
// so an event type that is rare may be missing in it.
func Look(ctx context.Context, log projections.Log, f *File, names []string) (*Known, error) {
	return LookAt(ctx, log, f.Topics, names)
}

// LookAt is Look for topics of which there is no file yet.
func LookAt(ctx context.Context, log projections.Log, topics, names []string) (*Known, error) {
	k := &Known{Names: names, Topics: map[string]Topic{}}
	for _, topic := range topics {
		if names != nil && !slices.Contains(names, topic) {
			continue
		}
		t, err := lookAt(ctx, log, topic)
		if err != nil {
			return nil, fmt.Errorf("look at topic %s: %w", topic, err)
		}
		k.Topics[topic] = t
	}
	return k, nil
}

func lookAt(ctx context.Context, log projections.Log, topic string) (Topic, error) {
	n, err := log.Partitions(ctx, topic)
	if err != nil {
		return Topic{}, err
	}
	t := Topic{Partitions: n}
	for part := range n {
		first, next, err := log.Ends(ctx, topic, part)
		if err != nil {
			return t, err
		}
		t.Records += next - first
		ranges := [][2]int64{{first, next}}
		if next-first > 2*samplePerEnd {
			ranges = [][2]int64{{first, first + samplePerEnd}, {next - samplePerEnd, next}}
		}
		for _, r := range ranges {
			for record, err := range log.Read(ctx, topic, part, r[0], r[1]) {
				if err != nil {
					return t, err
				}
				e, err := event.FromRecord(topic, &record)
				if err != nil {
					return t, fmt.Errorf("partition %d, offset %d: %w", part, record.Offset, err)
				}
				t.Sample = append(t.Sample, e)
			}
		}
	}
	return t, nil
}

// checkTopics tells topics that do not exist.
func (c *compiler) checkTopics(known *Known) {
	if known == nil {
		return
	}
	for _, topic := range c.file.Topics {
		t, ok := known.Topics[topic]
		switch {
		case !ok && known.Names != nil && len(known.Names) == 0:
			c.topicNode(topic).FaultOf(topic, "there is no topic at all yet: cdc run makes those of its rules")
		case !ok && known.Names != nil:
			c.topicNode(topic).FaultOf(topic, "there is no such topic; %s", expression.DidYouMean(topic, known.Names))
		case !ok:
			c.topicNode(topic).FaultOf(topic, "there is no such topic")
		case len(t.Sample) == 0:
			c.topicNode(topic).WarnOf(topic, "has no events yet, so event types and fields could not be checked")
		}
	}
}

// tryOn tries the program on the samples: types that never came, fields that no
// event has, events that would park.
func (c *compiler) tryOn(known *Known) {
	for _, topic := range c.p.spec.Topics {
		sample := known.Topics[topic].Sample
		if len(sample) == 0 {
			continue
		}
		types := map[string]bool{}
		var values []any
		wrong := map[string]bool{}
		for i := range sample {
			e := sample[i]
			e.Topic = topic
			if e.Type != "" {
				types[e.Type] = true
			}
			if err := c.p.liftEvent(&e); err != nil {
				c.topicNode(topic).FaultOf(topic, "%s cannot be lifted: %s", e.ID, err)
				continue
			}
			var v any
			if e.Data != nil && json.Unmarshal(e.Data, &v) == nil {
				values = append(values, v)
			}
			c.tryEvent(&e, wrong)
		}
		c.checkTypes(topic, types)
		c.checkPaths(topic, values)
	}
}

// tryEvent prepares an event, and tells once for each part what goes wrong.
func (c *compiler) tryEvent(e *event.Event, wrong map[string]bool) {
	x := &projections.Event{Event: *e, Tombstone: e.Data == nil}
	err := c.p.Prepare(x)
	if err == nil {
		err = c.p.tryRows(x)
	}
	if err == nil {
		return
	}
	at, what := c.topicNode(e.Topic), ""
	var of *stepError
	if errors.As(err, &of) {
		at, what, err = of.step.at(), of.step.name(), of.err
	}
	if key := what + " " + e.Type; !wrong[key] {
		wrong[key] = true
		at.FaultOf(e.Type, "%s would park: %s", e.ID, err)
	}
}

// tryRows sees whether the columns can hold the rows of a prepared event.
func (p *Program) tryRows(e *projections.Event) error {
	done, _ := e.Prepared.(*prepared)
	if done == nil {
		return nil
	}
	for i, st := range p.topics[e.Topic].steps {
		w, ok := done.works[i].(*foldWork)
		if !ok || w == nil {
			continue
		}
		f := st.(*fold)
		for _, r := range w.rows {
			for at, col := range f.columns {
				if col.value.late {
					continue
				}
				v, err := f.shape.Coerce(at, r.row[at])
				if err == nil && v == nil && col.notNull {
					err = fmt.Errorf("column %s is not null, and %s is NULL here", col.name, col.value.Source())
				}
				if err != nil {
					return &stepError{st, err}
				}
			}
		}
	}
	return nil
}

// checkTypes tells event types that the sample does not show. One whose name is
// nearly that of another is taken for a slip of the pen; any other may be rare.
func (c *compiler) checkTypes(topic string, seen map[string]bool) {
	known := sortedNames(seen)
	for _, asked := range c.asked[topic] {
		if seen[asked.name] {
			continue
		}
		advice := expression.DidYouMean(asked.name, known)
		if strings.HasPrefix(advice, "did you mean") {
			asked.node.Fault("no event of %s has this type; %s", topic, advice)
		} else {
			asked.node.Warn("none of the events of %s that were looked at has this type; there were %s", topic, strings.Join(known, ", "))
		}
	}
}

// checkPaths tells fields that no event of the sample has.
func (c *compiler) checkPaths(topic string, sample []any) {
	for _, asked := range c.paths {
		if asked.topic != topic || len(asked.path) < 2 {
			continue
		}
		path := asked.path
		if path[0] == "data" {
			path = path[1:]
		}
		depth, near := 0, map[string]bool{}
		found := slices.ContainsFunc(sample, func(v any) bool {
			ok, deep, names := exists(v, path)
			if deep > depth {
				depth = deep
				clear(near)
			}
			if deep == depth {
				for _, name := range names {
					near[name] = true
				}
			}
			return ok
		})
		if !found {
			asked.by.node.WarnOf(asked.by.Source(), "none of the events of %s that were looked at has %s; %s", topic, asked.path, expression.DidYouMean(path[depth], sortedNames(near)))
		}
	}
}

// exists follows a path. Where it ends early, depth says how far it got and names
// what there was instead.
func exists(v any, path []string) (ok bool, depth int, names []string) {
	for i, name := range path {
		m, isObject := v.(map[string]any)
		if !isObject {
			// NULL and lists say nothing of what could be below.
			return true, i, nil
		}
		if v, ok = m[name]; !ok {
			return false, i, sortedNames(m)
		}
	}
	return true, len(path), nil
}
