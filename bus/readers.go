package bus

import (
	"context"
	"fmt"
	"net"
	"slices"

	"github.com/segmentio/kafka-go"
)

// Readers lists the consumer groups that read a topic: those with a member that asks
// for it at the moment (their offsets may lie anywhere), and those that have committed
// an offset in it, and may come back. Errors are an *Error. A topic that is not there
// has no readers.
func (c *Cluster) Readers(ctx context.Context, topic string) ([]string, error) {
	const op = "list the readers"
	c.forget() // a topic may have come a moment ago
	m, err := c.metadata(ctx)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(m.Topics, func(t kafka.Topic) bool { return t.Name == topic && t.Error == nil })
	if at < 0 {
		return nil, nil
	}
	var partitions []int
	for _, p := range m.Topics[at].Partitions {
		partitions = append(partitions, p.ID)
	}
	fail := func(err error) error { return &Error{Op: op, Topic: topic, Partition: -1, Kind: Transient, Err: err} }
	var readers []string
	for _, b := range m.Brokers {
		addr := kafka.TCP(fmt.Sprintf("%s:%d", b.Host, b.Port))
		list, err := c.client.ListGroups(ctx, &kafka.ListGroupsRequest{Addr: addr})
		if err == nil {
			err = list.Error
		}
		if err != nil {
			return nil, fail(err)
		}
		for _, g := range list.Groups {
			reads, err := c.reads(ctx, g.GroupID, topic, partitions)
			if err == nil && !reads {
				reads, err = c.asks(ctx, addr, g.GroupID, topic)
			}
			if err != nil {
				return nil, fail(err)
			}
			if reads && !slices.Contains(readers, g.GroupID) {
				readers = append(readers, g.GroupID)
			}
		}
	}
	slices.Sort(readers)
	return readers, nil
}

// reads reports whether a group has committed an offset in one of the partitions.
func (c *Cluster) reads(ctx context.Context, group, topic string, partitions []int) (bool, error) {
	r, err := c.client.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: group, Topics: map[string][]int{topic: partitions}})
	if err == nil {
		err = r.Error
	}
	if err != nil {
		return false, fmt.Errorf("group %s: %w", group, err)
	}
	return slices.ContainsFunc(r.Topics[topic], func(p kafka.OffsetFetchPartition) bool { return p.CommittedOffset >= 0 }), nil
}

// asks reports whether a group has a member that asks for a topic.
func (c *Cluster) asks(ctx context.Context, coordinator net.Addr, group, topic string) (bool, error) {
	r, err := c.client.DescribeGroups(ctx, &kafka.DescribeGroupsRequest{Addr: coordinator, GroupIDs: []string{group}})
	if err != nil {
		return false, fmt.Errorf("group %s: %w", group, err)
	}
	for _, g := range r.Groups {
		// What is told of its members in another protocol, Connect's for one, cannot be
		// read, and is about no topic.
		for _, m := range g.Members {
			if slices.Contains(m.MemberMetadata.Topics, topic) {
				return true, nil
			}
		}
	}
	return false, nil
}
