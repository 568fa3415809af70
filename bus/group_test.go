package bus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	kafka "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"banyan/internal/kafkatest"
)

// One member, two, three, and one again: every partition has one owner, and the
// same numbers of both topics lie with the same member.
func TestGroupJoinAndLeave(t *testing.T) {
	_, c := start(t)
	checkJoinAndLeave(t, c)
}

func checkJoinAndLeave(t *testing.T, c *Cluster) {
	ensure(t, c, BusinessTopic("orders", 6), BusinessTopic("payments", 6))
	g := newCrew(t, c, quickGroup("shipping", "payments", "orders", "orders"))
	g.join("a", g.work("a"))
	g.shared(12, map[string]int{"a": 12})
	g.join("b", g.work("b"))
	g.shared(12, map[string]int{"a": 6, "b": 6})
	g.join("c", g.work("c"))
	g.shared(12, map[string]int{"a": 4, "b": 4, "c": 4})
	g.mu.Lock()
	for p := range 6 {
		if a, b := g.owners[fmt.Sprintf("orders/%d", p)], g.owners[fmt.Sprintf("payments/%d", p)]; a != b {
			t.Errorf("partition %d of orders lies with %s, of payments with %s", p, a, b)
		}
	}
	g.mu.Unlock()
	g.leave("a")
	g.shared(12, map[string]int{"b": 6, "c": 6})
	g.leave("c")
	g.shared(12, map[string]int{"b": 12})
	g.leave("b")
	g.alone()
}

// More members than partitions: the last ones stand by.
func TestGroupStandsBy(t *testing.T) {
	_, c := start(t)
	ensure(t, c, BusinessTopic("t", 2))
	g := newCrew(t, c, quickGroup("g", "t"))
	for _, name := range []string{"a", "b", "c"} {
		g.join(name, g.work(name))
	}
	g.await("one idle of three", func() bool {
		idle := slices.DeleteFunc(slices.Collect(maps.Keys(g.idle)), func(n string) bool { return !g.idle[n] })
		return len(g.owners) == 2 && len(idle) == 1 && len(g.idle) == 3
	})
	g.alone()
}

// Who owns everything keeps it while others join, and hands it over when it goes.
func TestGroupOneOwner(t *testing.T) {
	_, c := start(t)
	ensure(t, c, BusinessTopic("t", 6), WatermarkTopic("shop.watermarks"))
	cfg := quickGroup("g", "t", "shop.watermarks")
	cfg.Balancer = OneOwner
	g := newCrew(t, c, cfg)
	g.join("a", g.work("a"))
	g.shared(7, map[string]int{"a": 7})
	// Ids are drawn at random: each newcomer has an even chance to be the first.
	for _, name := range []string{"b", "c", "d", "e"} {
		g.join(name, g.work(name))
		g.await("a owner, "+name+" idle", func() bool { return len(g.owners) == 7 && g.owners["t/0"] == "a" && g.idle[name] })
	}
	g.leave("a")
	g.await("another owner", func() bool { return len(g.owners) == 7 && len(g.idle) == 4 })
	g.alone()
}

// The error of a work ends its membership, and the others get its share at
// once, not after a session.
func TestGroupWorkFails(t *testing.T) {
	_, c := start(t)
	ensure(t, c, BusinessTopic("t", 6))
	cfg := quickGroup("g", "t")
	cfg.SessionTimeout, cfg.RebalanceTimeout = 5*time.Minute, 5*time.Minute // longer than this test waits
	g := newCrew(t, c, cfg)
	g.join("a", g.work("a"))
	g.shared(6, map[string]int{"a": 6})
	broken := errors.New("no space left on the disk")
	if err := g.join("b", func(context.Context, map[string][]int) error { return broken }).wait(t); err != broken {
		t.Fatal(err)
	}
	g.shared(6, map[string]int{"a": 6})
	// A work that is through ends it too, without an error.
	if err := g.join("c", func(context.Context, map[string][]int) error { return nil }).wait(t); err != nil {
		t.Fatal(err)
	}
	g.shared(6, map[string]int{"a": 6})
	// What the end of the context makes of a work's own operations is not an
	// error of the work.
	g.join("d", func(ctx context.Context, _ map[string][]int) error {
		<-ctx.Done()
		if !errors.Is(context.Cause(ctx), ErrRebalanced) {
			return nil
		}
		return fmt.Errorf("write a row: %w", ctx.Err())
	})
	g.await("a with half of it", func() bool { return len(g.owners) == 3 })
	g.join("e", g.work("e"))
	g.await("a and e with two thirds", func() bool { return len(g.owners) == 4 })
	g.leave("d")
	g.shared(6, map[string]int{"a": 3, "e": 3})
	g.alone()
}

// A broker that restarts costs a generation, and not a session's time: a member
// signs off the id that it lost.
func TestGroupOutlivesRestarts(t *testing.T) {
	b, c := startBroker(t, Config{})
	checkGroupRestart(t, b, c)
}

func checkGroupRestart(t *testing.T, b *kafkatest.Broker, c *Cluster) {
	ensure(t, c, BusinessTopic("stock", 6))
	cfg := quickGroup("restarted", "stock")
	cfg.SessionTimeout, cfg.RebalanceTimeout = 5*time.Minute, 5*time.Minute // longer than this test waits
	stalled := make(chan error, 1000)
	cfg.Stalled = func(err error) { stalled <- err }
	g := newCrew(t, c, cfg)
	g.join("a", g.work("a"))
	g.join("b", g.work("b"))
	g.shared(6, map[string]int{"a": 3, "b": 3})
	b.Stop(t)
	g.await("nobody at work", func() bool { return len(g.owners) == 0 })
	for deadline := time.After(30 * time.Second); ; {
		var err error
		select {
		case err = <-stalled:
		case <-deadline:
			t.Fatal("nobody says that the broker is not there")
		}
		if errors.Is(err, ErrUnreachable) {
			break
		}
	}
	began := time.Now()
	b.Start(t)
	up := time.Now()
	g.shared(6, map[string]int{"a": 3, "b": 3})
	t.Logf("the broker was ready after %s, the group at work %s later", up.Sub(began), time.Since(up))
	g.alone()
}

// A process that was killed and comes back does not wait for the session of its
// former life.
func TestGroupInstanceComesBack(t *testing.T) {
	_, c := start(t)
	checkInstanceComesBack(t, c)
}

func checkInstanceComesBack(t *testing.T, c *Cluster) {
	ensure(t, c, BusinessTopic("invoices", 6))
	cfg := quickGroup("killed", "invoices")
	cfg.SessionTimeout, cfg.RebalanceTimeout = 5*time.Minute, 5*time.Minute
	cfg.Instance = "pod-b"
	// A member whose process is gone: it joins and never gives a sign of life.
	dead := &member{c: c, op: "join", cfg: cfg}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	config := dead.kafkaConfig(ctx)
	config.HeartbeatInterval = time.Hour
	group, err := kafka.NewConsumerGroup(config)
	if err != nil {
		t.Fatal(err)
	}
	for {
		// The first ones may meet a coordinator that is not ready.
		if _, err = group.Next(t.Context()); err == nil {
			break
		}
	}
	cancel()
	defer group.Close()

	cfg.Instance = "pod-a"
	other := newCrew(t, c, cfg)
	other.join("a", other.work("a"))
	cfg.Instance = "pod-b"
	again := newCrew(t, c, cfg)
	again.join("b", again.work("b"))
	began := time.Now()
	other.shared(3, map[string]int{"a": 3})
	again.shared(3, map[string]int{"b": 3})
	t.Logf("after %s both are at work", time.Since(began))
}

// Kafka makes its own topic for offsets when the first group comes.
func TestGroupWaitsForTheCoordinator(t *testing.T) {
	k, c := start(t)
	ensure(t, c, BusinessTopic("t", 1))
	for _, err := range []*kerr.Error{kerr.CoordinatorNotAvailable, kerr.CoordinatorLoadInProgress, kerr.NotCoordinator} {
		k.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.JoinGroup}, Err: err, Count: 1})
		cfg := quickGroup("g", "t")
		var told []error
		cfg.Stalled = func(err error) { told = append(told, err) }
		g := newCrew(t, c, cfg)
		g.join("a", g.work("a"))
		g.shared(1, map[string]int{"a": 1})
		g.leave("a")
		if len(told) != 2 || told[0] == nil || !strings.Contains(told[0].Error(), "join group g") || told[1] != nil {
			t.Errorf("%s: told %v", err.Message, told)
		}
	}
	k.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.JoinGroup}, Err: kerr.GroupAuthorizationFailed, Count: -1})
	var e *Error
	if err := c.JoinGroup(t.Context(), quickGroup("g", "t"), nil); !errors.As(err, &e) || e.Kind != Permanent {
		t.Error(err)
	}
}

func TestGroupPartitionsChanged(t *testing.T) {
	_, c := start(t)
	ensure(t, c, BusinessTopic("t", 6), BusinessTopic("u", 6))
	cfg := quickGroup("g", "t", "u")
	cfg.WatchInterval = 50 * time.Millisecond
	c.transport.MetadataTTL = 50 * time.Millisecond
	c.forget()
	g := newCrew(t, c, cfg)
	a, b := g.join("a", g.work("a")), g.join("b", g.work("b"))
	g.shared(12, map[string]int{"a": 6, "b": 6})
	res, err := c.client.CreatePartitions(t.Context(), &kafka.CreatePartitionsRequest{Topics: []kafka.TopicPartitionsConfig{{Name: "u", Count: 8}}})
	if err != nil || res.Errors["u"] != nil {
		t.Fatal(err, res)
	}
	for _, h := range []*hand{a, b} {
		err := h.wait(t)
		var changed *PartitionsChanged
		var e *Error
		if !errors.As(err, &changed) || *changed != (PartitionsChanged{"u", 6, 8}) || !errors.As(err, &e) || e.Kind != Permanent {
			t.Error(err)
		}
	}
	g.alone()
	// Topics that do not go together are refused.
	err = c.JoinGroup(t.Context(), cfg, nil)
	if err == nil || !strings.Contains(err.Error(), "t has 6, u has 8: topics that are read together by key need equal counts") {
		t.Error(err)
	}
}

// Who shares out may see a new partition before the others' watch does.
func TestGroupSharesOutTooMuch(t *testing.T) {
	_, c := start(t)
	ensure(t, c, BusinessTopic("t", 8), BusinessTopic("u", 8))
	m := &member{c: c, op: "join group g", cfg: GroupConfig{Topics: []string{"t", "u"}}, counts: map[string]int{"t": 6, "u": 8}}
	assigned := func(t, u []int) *kafka.Generation {
		list := func(numbers []int) (as []kafka.PartitionAssignment) {
			for _, n := range numbers {
				as = append(as, kafka.PartitionAssignment{ID: n})
			}
			return as
		}
		return &kafka.Generation{Assignments: map[string][]kafka.PartitionAssignment{"t": list(t), "u": list(u)}}
	}
	var changed *PartitionsChanged
	if _, err := m.parts(t.Context(), assigned([]int{7, 6, 5}, nil)); !errors.As(err, &changed) || *changed != (PartitionsChanged{"t", 6, 8}) {
		t.Error(err)
	}
	if _, err := m.parts(t.Context(), assigned([]int{1, 0}, []int{1, 2})); err == nil || !strings.Contains(err.Error(), "the members do not all read t, u") {
		t.Error(err)
	}
	got, err := m.parts(t.Context(), assigned([]int{2, 0, 1}, []int{0, 1, 2}))
	if d := cmp.Diff(map[string][]int{"t": {0, 1, 2}, "u": {0, 1, 2}}, got); d != "" || err != nil {
		t.Error(d, err)
	}
	if got, err := m.parts(t.Context(), assigned(nil, nil)); len(got) != 0 || err != nil {
		t.Error(got, err)
	}
}

// A member that waits to join, because another one does not let go, can still
// leave.
func TestGroupLeavesWhileItJoins(t *testing.T) {
	_, c := start(t)
	ensure(t, c, BusinessTopic("t", 6))
	cfg := quickGroup("g", "t")
	cfg.SessionTimeout = time.Minute
	g := newCrew(t, c, cfg)
	release := make(chan struct{})
	told := make(chan struct{})
	g.join("a", func(ctx context.Context, parts map[string][]int) error {
		g.change(func() { g.owners["t/0"] = "a" })
		<-ctx.Done()
		close(told)
		<-release
		return errors.New("let go")
	})
	g.await("a at work", func() bool { return g.owners["t/0"] == "a" })
	b := g.join("b", g.work("b"))
	<-told
	began := time.Now()
	b.cancel()
	if err := b.wait(t); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if took := time.Since(began); took > 4*leaveLimit {
		t.Errorf("it took %s to leave", took)
	}
	close(release)
	if err := g.members["a"].wait(t); err == nil || err.Error() != "let go" {
		t.Error(err)
	}
}

// What is applied is shown to those who look at the lag.
func TestGroupCommits(t *testing.T) {
	_, c := start(t)
	ensure(t, c, BusinessTopic("t", 2))
	if _, err := c.Produce(t.Context(), "t", 1, sample(9)); err != nil {
		t.Fatal(err)
	}
	cfg := quickGroup("g", "t")
	cfg.CommitInterval = 10 * time.Millisecond
	asked := make(chan struct{}, 1000)
	var next int64 // of the calls, which do not overlap
	cfg.Applied = func() map[string]map[int]int64 {
		next++
		asked <- struct{}{}
		return map[string]map[int]int64{"t": {1: min(next, 9)}}
	}
	err := c.JoinGroup(t.Context(), cfg, func(ctx context.Context, _ map[string][]int) error {
		for range 9 {
			<-asked
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.client.OffsetFetch(t.Context(), &kafka.OffsetFetchRequest{GroupID: "g", Topics: map[string][]int{"t": {0, 1}}})
	if err != nil || res.Error != nil {
		t.Fatal(err, res)
	}
	if p := res.Topics["t"]; p[0].CommittedOffset != -1 || p[1].CommittedOffset != 9 {
		t.Errorf("committed are %+v", p)
	}
}

// A member that names more than its partitions of the generation, as one does that has
// just lost some, commits nothing in those: its offsets there may be old.
func TestGroupCommitsOnlyItsOwn(t *testing.T) {
	_, c := start(t)
	ensure(t, c, BusinessTopic("t", 2))
	g := newCrew(t, c, quickGroup("g", "t"))
	g.cfg.CommitInterval = 10 * time.Millisecond
	at := map[string]int64{"a": 4, "b": 7}
	for name, next := range at {
		cfg := g.cfg
		cfg.Applied = func() map[string]map[int]int64 { return map[string]map[int]int64{"t": {0: next, 1: next}} }
		g.joinAs(name, cfg, g.work(name))
	}
	g.shared(2, map[string]int{"a": 1, "b": 1})
	deadline := time.After(time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		res, err := c.client.OffsetFetch(t.Context(), &kafka.OffsetFetchRequest{GroupID: "g", Topics: map[string][]int{"t": {0, 1}}})
		if err != nil || res.Error != nil {
			t.Fatal(err, res)
		}
		p := res.Topics["t"]
		g.mu.Lock()
		right := p[0].CommittedOffset == at[g.owners["t/0"]] && p[1].CommittedOffset == at[g.owners["t/1"]]
		g.mu.Unlock()
		if right {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("committed are %+v", p)
		case <-tick.C:
		}
	}
}

func TestGroupConfigIsChecked(t *testing.T) {
	_, c := start(t)
	ensure(t, c, BusinessTopic("t", 1))
	for want, cfg := range map[string]GroupConfig{
		"needs an id and topics": {ID: "g"},
		"too rare":               {ID: "g", Topics: []string{"t"}, HeartbeatInterval: 4 * time.Second},
		"no such topic":          {ID: "g", Topics: []string{"t", "nosuch"}},
	} {
		var e *Error
		if err := c.JoinGroup(t.Context(), cfg, nil); !errors.As(err, &e) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
