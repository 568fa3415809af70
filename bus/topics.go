package bus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	kafka "github.com/segmentio/kafka-go"
)

// Partitions of a business topic and of its twin. The count never changes:
// seq and key order hang on it.
const Partitions = 6

// TopicSpec says how a topic shall be.
type TopicSpec struct {
	Name       string
	Partitions int
	// Config is what the topic is made with. Of a topic that is there,
	// differing values are told as warnings.
	Config map[string]string
	// Replication is min(3, brokers) where zero, and min.insync.replicas, where
	// Config does not name it, min(2, replication).
	Replication int
}

// BusinessTopic is a topic of events: kept for ever.
func BusinessTopic(name string, partitions int) TopicSpec {
	return TopicSpec{Name: name, Partitions: partitions, Config: map[string]string{
		"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1",
	}}
}

// LatestTopic is the compacted twin of a topic: the latest event per key.
func LatestTopic(name string, partitions int) TopicSpec {
	return TopicSpec{Name: name, Partitions: partitions, Config: map[string]string{
		"cleanup.policy": "compact", "compression.type": "uncompressed", "min.compaction.lag.ms": "3600000",
	}}
}

// WatermarkTopic tells how far a source is published: one partition, one hour.
func WatermarkTopic(name string) TopicSpec {
	return TopicSpec{Name: name, Partitions: 1, Config: map[string]string{
		"cleanup.policy": "delete", "retention.ms": "3600000", "segment.ms": "600000",
	}}
}

// Topic is what the cluster says of a topic.
type Topic struct {
	Name        string
	Partitions  int
	Replication int
}

// Topics lists the cluster's topics by name, Kafka's own left out.
func (c *Cluster) Topics(ctx context.Context) ([]Topic, error) {
	c.forget()
	m, err := c.metadata(ctx)
	if err != nil {
		return nil, err
	}
	return topicsOf(m), nil
}

func topicsOf(m *kafka.MetadataResponse) []Topic {
	var all []Topic
	for _, t := range m.Topics {
		if t.Internal || t.Error != nil || len(t.Partitions) == 0 {
			continue
		}
		all = append(all, Topic{Name: t.Name, Partitions: len(t.Partitions), Replication: len(t.Partitions[0].Replicas)})
	}
	slices.SortFunc(all, func(a, b Topic) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Partitions counts the partitions of a topic. A topic that is not there is a
// transient error.
func (c *Cluster) Partitions(ctx context.Context, topic string) (int, error) {
	for fresh := range 2 {
		if fresh == 1 {
			c.forget()
		}
		m, err := c.metadata(ctx)
		if err != nil {
			return 0, err
		}
		for _, t := range topicsOf(m) {
			if t.Name == topic {
				return t.Partitions, nil
			}
		}
	}
	return 0, &Error{Op: "look for", Topic: topic, Partition: -1, Kind: Transient, Err: errors.New("there is no such topic")}
}

// Mismatch says that topics are there with another number of partitions than
// they must have. Nothing was made.
type Mismatch struct{ Topics []string }

// Error names the topics, what they have and what they need.
func (m *Mismatch) Error() string {
	return "topics with another number of partitions: " + strings.Join(m.Topics, "; ") +
		": the partition count of a topic of events is fixed; choose other topic names, or delete these topics if nobody needs them"
}

// EnsureTopics makes the topics that are missing and checks those that are
// there. A wrong partition count is a *Mismatch, and then no topic is made;
// other differences come back as warnings, one line each.
func (c *Cluster) EnsureTopics(ctx context.Context, specs []TopicSpec) (warnings []string, err error) {
	c.forget()
	m, err := c.metadata(ctx)
	if err != nil {
		return nil, err
	}
	there := make(map[string]Topic)
	for _, t := range topicsOf(m) {
		there[t.Name] = t
	}
	var missing, old []TopicSpec
	var mismatch Mismatch
	for _, s := range specs {
		t, ok := there[s.Name]
		switch {
		case !ok:
			missing = append(missing, s.complete(len(m.Brokers)))
		case t.Partitions != s.Partitions:
			mismatch.Topics = append(mismatch.Topics, fmt.Sprintf("%s has %d, needs %d", s.Name, t.Partitions, s.Partitions))
		default:
			old = append(old, s)
		}
	}
	if len(mismatch.Topics) > 0 {
		return nil, &mismatch
	}
	if len(missing) > 0 {
		if err := c.create(ctx, missing); err != nil {
			return nil, err
		}
	}
	if len(old) > 0 {
		return c.differences(ctx, old)
	}
	return nil, nil
}

func (s TopicSpec) complete(brokers int) TopicSpec {
	if s.Replication == 0 {
		s.Replication = max(1, min(3, brokers))
	}
	s.Config = maps.Clone(s.Config)
	if s.Config == nil {
		s.Config = make(map[string]string)
	}
	if _, ok := s.Config["min.insync.replicas"]; !ok {
		s.Config["min.insync.replicas"] = fmt.Sprint(min(2, s.Replication))
	}
	return s
}

func (c *Cluster) create(ctx context.Context, specs []TopicSpec) error {
	req := &kafka.CreateTopicsRequest{Addr: c.addr}
	for _, s := range specs {
		t := kafka.TopicConfig{Topic: s.Name, NumPartitions: s.Partitions, ReplicationFactor: s.Replication}
		for _, k := range slices.Sorted(maps.Keys(s.Config)) {
			t.ConfigEntries = append(t.ConfigEntries, kafka.ConfigEntry{ConfigName: k, ConfigValue: s.Config[k]})
		}
		req.Topics = append(req.Topics, t)
	}
	res, err := ask(ctx, c, "create topics", func(ctx context.Context) (*kafka.CreateTopicsResponse, error) {
		return c.client.CreateTopics(ctx, req)
	})
	if err != nil {
		return err
	}
	for _, s := range specs {
		// Made by another process between our look and our request, or by our
		// own first request whose answer was lost.
		if err := res.Errors[s.Name]; err != nil && !errors.Is(err, kafka.TopicAlreadyExists) {
			return c.failAt(ctx, "create", s.Name, -1, err)
		}
	}
	for _, s := range specs {
		if err := c.await(ctx, s.Name, s.Partitions); err != nil {
			return err
		}
	}
	return nil
}

// await asks until every partition of a topic that was just made answers: the
// brokers agree on its leaders a little later.
func (c *Cluster) await(ctx context.Context, topic string, partitions int) error {
	within, cancel := context.WithTimeout(ctx, c.request)
	defer cancel()
	all := make([]int, partitions)
	for i := range all {
		all[i] = i
	}
	for {
		c.forget()
		_, err := c.ends(within, topic, all)
		if err == nil || kindOf(err) == Permanent {
			return err
		}
		retry := time.NewTimer(c.pause)
		select {
		case <-within.Done():
			retry.Stop()
			return c.failAt(ctx, "wait for", topic, -1, err)
		case <-retry.C:
		}
	}
}

// differences compares the configuration of topics that are there.
func (c *Cluster) differences(ctx context.Context, specs []TopicSpec) ([]string, error) {
	req := &kafka.DescribeConfigsRequest{Addr: c.addr}
	for _, s := range specs {
		req.Resources = append(req.Resources, kafka.DescribeConfigRequestResource{ResourceType: kafka.ResourceTypeTopic, ResourceName: s.Name})
	}
	res, err := ask(ctx, c, "ask for topic settings", func(ctx context.Context) (*kafka.DescribeConfigsResponse, error) {
		return c.client.DescribeConfigs(ctx, req)
	})
	if err != nil {
		return nil, err
	}
	have := make(map[string]map[string]string)
	var warnings []string
	for _, r := range res.Resources {
		if r.Error != nil {
			warnings = append(warnings, fmt.Sprintf("topic %s: its settings cannot be read: %v", r.ResourceName, r.Error))
			continue
		}
		have[r.ResourceName] = make(map[string]string)
		for _, e := range r.ConfigEntries {
			have[r.ResourceName][e.ConfigName] = e.ConfigValue
		}
	}
	for _, s := range specs {
		for _, k := range slices.Sorted(maps.Keys(s.Config)) {
			if got, ok := have[s.Name][k]; ok && got != s.Config[k] {
				warnings = append(warnings, fmt.Sprintf("topic %s: %s is %s, should be %s", s.Name, k, got, s.Config[k]))
			}
		}
	}
	return warnings, nil
}

// DeleteTopics deletes topics and all that is in them. One that is not there is
// no error.
func (c *Cluster) DeleteTopics(ctx context.Context, names ...string) error {
	if len(names) == 0 {
		return nil
	}
	res, err := ask(ctx, c, "delete topics", func(ctx context.Context) (*kafka.DeleteTopicsResponse, error) {
		return c.client.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Addr: c.addr, Topics: names})
	})
	if err != nil {
		return err
	}
	defer c.forget()
	for _, n := range names {
		if err := res.Errors[n]; err != nil && !errors.Is(err, kafka.UnknownTopicOrPartition) {
			return c.failAt(ctx, "delete", n, -1, err)
		}
	}
	return nil
}
