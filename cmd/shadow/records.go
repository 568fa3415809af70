package main

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"strconv"

	"banyan/bus"
	"banyan/event"
)

// recordsOf gives, of each event that lies in a topic now, what may stand in a request:
// its key and the plain fields of its state.
func recordsOf(ctx context.Context, cluster *bus.Cluster, topic string) iter.Seq2[map[string]string, error] {
	return func(yield func(map[string]string, error) bool) {
		for r, err := range cluster.Follow(ctx, topic, bus.FollowOptions{From: bus.First, UntilCaughtUp: true}) {
			if err != nil {
				yield(nil, err)
				return
			}
			e, err := event.FromRecord(topic, &r)
			if err != nil {
				yield(nil, fmt.Errorf("%s/%d at offset %d: %w", topic, r.Partition, r.Offset, err))
				return
			}
			if !yield(valuesOf(&e), nil) {
				return
			}
		}
	}
}

func valuesOf(e *event.Event) map[string]string {
	values := map[string]string{}
	var data struct {
		State map[string]any `json:"state"`
	}
	if json.Unmarshal(e.Data, &data) == nil {
		for name, v := range data.State {
			switch v := v.(type) {
			case string:
				values[name] = v
			case float64:
				if v == float64(int64(v)) {
					values[name] = strconv.FormatInt(int64(v), 10)
				}
			}
		}
	}
	values["key"] = e.Key()
	if keys, err := event.SplitKey(e.Key()); err == nil && len(keys) == 1 {
		values["key"] = keys[0]
	}
	return values
}
