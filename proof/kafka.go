package proof

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"

	"banyan/bus"
	"banyan/event"
)

// Kafka makes a cluster the Topics of a proof. The cluster stays the caller's.
func Kafka(c *bus.Cluster) Topics { return kafkaTopics{c} }

type kafkaTopics struct{ c *bus.Cluster }

func (k kafkaTopics) Partitions(ctx context.Context, topic string) (int, error) {
	all, err := k.c.Topics(ctx)
	if err != nil {
		return 0, err
	}
	for _, t := range all {
		if t.Name == topic {
			return t.Partitions, nil
		}
	}
	return 0, nil
}

func (k kafkaTopics) Ends(ctx context.Context, topic string, partition int) (first, next int64, err error) {
	return k.c.Ends(ctx, topic, partition)
}

func (k kafkaTopics) Read(ctx context.Context, topic string, partition int, from, until int64) iter.Seq2[event.Record, error] {
	return k.c.Read(ctx, topic, partition, from, until)
}

// Mark is a watermark and where it lies in its topic.
type Mark struct {
	event.Watermark
	// Offset grows as long as cdc run works.
	Offset int64
}

// lookBack is how many of the last watermarks are looked at: one of a stopped
// owner can lie last.
const lookBack = 16

// Watermarks gives the latest watermark of a source, as the topic
// <source>.watermarks has it: what Config.Watermark wants.
func Watermarks(topics Topics, source string) func(ctx context.Context) (*Mark, error) {
	topic := source + ".watermarks"
	there := false
	return func(ctx context.Context) (*Mark, error) {
		if !there {
			n, err := topics.Partitions(ctx, topic)
			if err != nil || n == 0 {
				return nil, err
			}
			there = true
		}
		first, next, err := topics.Ends(ctx, topic, 0)
		if err != nil {
			return nil, err
		}
		var best *Mark
		for r, err := range topics.Read(ctx, topic, 0, max(first, next-lookBack), next) {
			if tooOld := (*bus.OutOfRange)(nil); errors.As(err, &tooOld) {
				return best, nil // expired meanwhile
			}
			if err != nil {
				return nil, err
			}
			m := &Mark{Offset: r.Offset}
			if err := json.Unmarshal(r.Value, &m.Watermark); err != nil {
				return nil, fmt.Errorf("topic %s, offset %d: %w", topic, r.Offset, err)
			}
			if best == nil || m.Writer >= best.Writer && !best.After(&m.Watermark) {
				best = m
			}
		}
		return best, nil
	}
}
