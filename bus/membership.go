package bus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	kafka "github.com/segmentio/kafka-go"
)

const (
	// rejoinPause is how long kafka-go waits after a failed attempt to join.
	rejoinPause = 500 * time.Millisecond
	// leaveLimit is how long a member that goes takes its leave in order. A
	// pending join, which waits for the other members, would hold it up.
	leaveLimit = 3 * time.Second
)

// kafkaConfig is what kafka-go needs to know. Its connections break when cut
// is done.
func (m *member) kafkaConfig(cut context.Context) kafka.ConsumerGroupConfig {
	var balancer kafka.GroupBalancer = coPartitioned{}
	if m.cfg.Balancer == OneOwner {
		balancer = oneOwner{held: &m.held}
	}
	return kafka.ConsumerGroupConfig{
		ID: m.cfg.ID, Brokers: m.c.brokers, Topics: m.cfg.Topics,
		GroupBalancers:    []kafka.GroupBalancer{balancer},
		SessionTimeout:    m.cfg.SessionTimeout,
		RebalanceTimeout:  m.cfg.RebalanceTimeout,
		HeartbeatInterval: m.cfg.HeartbeatInterval,
		JoinGroupBackoff:  rejoinPause,
		// A coordinator that is silent for that long is lost while there is
		// still time to find another one.
		Timeout: m.cfg.SessionTimeout / 2,
		Dialer: &kafka.Dialer{
			ClientID: m.clientID(), Timeout: m.c.transport.DialTimeout, TLS: m.c.transport.TLS,
			DialFunc: func(ctx context.Context, network, address string) (net.Conn, error) {
				return dialLine(ctx, cut, network, address)
			},
		},
	}
}

// clientID is what the coordinator knows this member by; it draws the member's
// id itself.
func (m *member) clientID() string {
	if m.cfg.Instance == "" {
		return m.c.transport.ClientID
	}
	return m.c.transport.ClientID + "/" + m.cfg.Instance
}

// succeed signs off what was left of this instance by a former process.
func (m *member) succeed(ctx context.Context) {
	if m.cfg.Instance == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, m.cfg.SessionTimeout/2)
	defer cancel()
	res, err := m.c.client.DescribeGroups(ctx, &kafka.DescribeGroupsRequest{Addr: m.c.addr, GroupIDs: []string{m.cfg.ID}})
	if err != nil {
		m.cfg.Log.Debug("look for a former life in the group", "group", m.cfg.ID, "error", err)
		return
	}
	for _, g := range res.Groups {
		for _, old := range g.Members {
			if old.ClientID != m.clientID() {
				continue
			}
			err := m.signOff(ctx, old.MemberID)
			m.cfg.Log.Info("signed off the former life of this instance", "group", m.cfg.ID, "member", old.MemberID, "error", err)
		}
	}
}

// line is a connection that breaks when a context ends: kafka-go's group takes
// no context.
type line struct {
	net.Conn
	release func() bool
}

// Close closes the connection.
func (l *line) Close() error {
	l.release()
	return l.Conn.Close()
}

func dialLine(ctx, cut context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(cut, cancel)()
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &line{Conn: conn, release: context.AfterFunc(cut, func() { conn.Close() })}, nil
}

// leave ends the membership.
func (m *member) leave() {
	closed := make(chan struct{})
	go func() {
		m.group.Close()
		close(closed)
	}()
	limit := time.NewTimer(leaveLimit)
	defer limit.Stop()
	select {
	case <-closed:
		return
	case <-limit.C:
	}
	m.cutOff()
	<-closed
	if m.id != "" {
		ctx, cancel := context.WithTimeout(context.Background(), leaveLimit)
		defer cancel()
		if err := m.signOff(ctx, m.id); err != nil {
			m.cfg.Log.Debug("leave a group", "group", m.cfg.ID, "member", m.id, "error", err)
		}
	}
}

// signOff tells the coordinator that a member is gone, so that nobody waits for
// it until its session is over.
func (m *member) signOff(ctx context.Context, id string) error {
	res, err := m.c.client.LeaveGroup(ctx, &kafka.LeaveGroupRequest{
		Addr: m.c.addr, GroupID: m.cfg.ID, Members: []kafka.LeaveGroupRequestMember{{ID: id}},
	})
	if err == nil {
		err = res.Error
		for _, r := range res.Members {
			err = errors.Join(err, r.Error)
		}
	}
	if errors.Is(err, kafka.UnknownMemberId) {
		return nil
	}
	return err
}

// keepSigningOff does it until ctx is done. A coordinator that goes down agrees
// to anything, and the members that it had written down are back when it is.
func (m *member) keepSigningOff(ctx context.Context, id string) {
	again := time.NewTicker(rejoinPause)
	defer again.Stop()
	for {
		within, cancel := context.WithTimeout(ctx, m.cfg.SessionTimeout)
		err := m.signOff(within, id)
		cancel()
		if err != nil && ctx.Err() == nil {
			m.cfg.Log.Debug("sign off a lost member", "group", m.cfg.ID, "member", id, "error", err)
			m.c.forget()
		}
		select {
		case <-ctx.Done():
			return
		case <-again.C:
		}
	}
}

// commit tells Kafka how far this member is, for those who look at the lag: in its
// partitions of this generation, as Kafka would take others' too.
func (m *member) commit(ctx context.Context, gen *kafka.Generation, parts map[string][]int) {
	if m.cfg.Applied == nil {
		return
	}
	topics := make(map[string][]kafka.OffsetCommit)
	for topic, partitions := range m.cfg.Applied() {
		for p, next := range partitions {
			if !slices.Contains(parts[topic], p) {
				continue
			}
			topics[topic] = append(topics[topic], kafka.OffsetCommit{Partition: p, Offset: next})
		}
	}
	if len(topics) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, leaveLimit)
	defer cancel()
	// Not over the group's own connection: what goes wrong there ends the
	// generation.
	res, err := m.c.client.OffsetCommit(ctx, &kafka.OffsetCommitRequest{
		Addr: m.c.addr, GroupID: m.cfg.ID, GenerationID: int(gen.ID), MemberID: gen.MemberID, Topics: topics,
	})
	if err == nil {
		for topic, partitions := range res.Topics {
			for _, p := range partitions {
				if p.Error != nil {
					err = fmt.Errorf("%s, partition %d: %w", topic, p.Partition, p.Error)
				}
			}
		}
	}
	if err != nil {
		m.cfg.Log.Debug("commit offsets for lag tools", "group", m.cfg.ID, "error", err)
		m.c.forget()
	}
}
