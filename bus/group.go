package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	kafka "github.com/segmentio/kafka-go"
)

// GroupConfig says how a process takes part in a consumer group.
type GroupConfig struct {
	// ID of the group. All its members give the same ID, topics and balancer.
	ID       string
	Topics   []string
	Balancer Balancer
	// Instance names this process among the members, as a pod's name does: the
	// same after a restart, another one in every process that runs beside it.
	// A member of that name that is still in the group when this one joins is
	// taken for its former life, which was killed, and signed off, so that
	// nobody waits until its session is over. Where it does live it joins anew.
	// Empty signs off nobody.
	Instance string

	// SessionTimeout is after how long without a sign of life a member is
	// taken for dead; 10 s where zero. Brokers want at least 6 s.
	SessionTimeout time.Duration
	// RebalanceTimeout is how long the others wait for a member that is to
	// join anew; 30 s where zero.
	RebalanceTimeout time.Duration
	// HeartbeatInterval is how often a member gives a sign of life, and about
	// how long it takes until it hears that another one came or went; a tenth
	// of SessionTimeout where zero, a third at most.
	HeartbeatInterval time.Duration
	// WatchInterval is how often the partitions are counted; 5 s where zero.
	WatchInterval time.Duration

	// Applied gives, by topic and partition, the offset to go on from; it is
	// asked every CommitInterval (5 s where zero), and when this member leaves
	// by itself, and what it says is committed to Kafka. That serves tools that
	// show the lag of a group and nothing else: JoinGroup never reads it, a
	// failure is logged as debug only. nil commits nothing. It is called from
	// another goroutine than work.
	Applied        func() map[string]map[int]int64
	CommitInterval time.Duration

	// Stalled hears why this member is in no generation, after each attempt to
	// get into one, and nil when it is. nil is allowed.
	Stalled func(error)
	// Log gets a line when a generation begins or ends; nil logs nothing.
	Log *slog.Logger
}

// PartitionsChanged says that a topic has another number of partitions than
// when the group was joined. Keys have moved between partitions, so their order
// is lost: nobody goes on by himself.
type PartitionsChanged struct {
	Topic         string
	Before, After int
}

// Error names the topic and what it had and has.
func (p *PartitionsChanged) Error() string {
	return fmt.Sprintf("topic %s had %d partitions and has %d: its keys lie elsewhere now, and the events of one key are no longer in order",
		p.Topic, p.Before, p.After)
}

// ErrRebalanced is why the context of a work ends that is to be shared out
// anew: another member came or went, or the coordinator was lost.
var ErrRebalanced = errors.New("the group shares out its partitions anew")

// JoinGroup takes part in a consumer group until ctx is done, and calls work
// for each generation with this member's partitions by topic, sorted: all or
// some or, where others have them, none; a work without partitions waits for
// its context. That ends, with ErrRebalanced as its cause, when the generation
// does, and work must then return soon: until it has, the others wait, and after
// SessionTimeout they go on without this member, so that two work on the same
// partitions. Kafka does not prevent it, and work has to (by an epoch in its own
// database). Calls of work never overlap here.
//
// A work that returns an error ends JoinGroup with it, unless it is that of its
// own ended context. One that returns nil before its context ends has done all
// there is to do: JoinGroup leaves and returns nil.
//
// A coordinator that is not there (error 15 while Kafka makes its own topics,
// 14 and 16 while it starts) and a broker that restarts are waited for. Errors
// are an *Error; that of a changed partition count wraps a *PartitionsChanged.
// When ctx ends its cause is the error. In all cases the member has left the
// group, or tried to for some seconds, before JoinGroup returns.
//
// No offsets are read from Kafka: where to go on is the business of work.
func (c *Cluster) JoinGroup(ctx context.Context, cfg GroupConfig, work func(ctx context.Context, parts map[string][]int) error) error {
	op := "join group " + cfg.ID
	if err := cfg.complete(); err != nil {
		return &Error{Op: op, Partition: -1, Kind: Permanent, Err: err}
	}
	counts, err := c.countAll(ctx, cfg)
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	within, end := context.WithCancelCause(ctx)
	cut, cutOff := context.WithCancel(context.Background())
	defer cutOff()
	m := &member{c: c, op: op, cfg: cfg, counts: counts, work: work, cutOff: cutOff}
	m.succeed(ctx)
	if m.group, err = kafka.NewConsumerGroup(m.kafkaConfig(cut)); err != nil {
		end(nil)
		return &Error{Op: op, Partition: -1, Kind: Permanent, Err: err}
	}
	var aside sync.WaitGroup
	aside.Go(func() {
		if changed := m.watch(within); changed != nil {
			end(changed)
		}
	})
	err = m.serve(within)
	var changed *PartitionsChanged
	if errors.As(context.Cause(within), &changed) {
		err = &Error{Op: op, Topic: changed.Topic, Partition: -1, Kind: Permanent, Err: changed}
	}
	end(nil)
	m.lost.Wait()
	m.leave()
	aside.Wait()
	return err
}

// complete fills in what is not said.
func (g *GroupConfig) complete() error {
	if g.ID == "" || len(g.Topics) == 0 {
		return errors.New("a group needs an id and topics")
	}
	for d, def := range map[*time.Duration]time.Duration{
		&g.SessionTimeout: 10 * time.Second, &g.RebalanceTimeout: 30 * time.Second,
		&g.WatchInterval: 5 * time.Second, &g.CommitInterval: 5 * time.Second,
	} {
		if *d <= 0 {
			*d = def
		}
	}
	if g.HeartbeatInterval <= 0 {
		g.HeartbeatInterval = g.SessionTimeout / 10
	}
	if 3*g.HeartbeatInterval > g.SessionTimeout {
		return fmt.Errorf("a heartbeat every %s is too rare for a session of %s: a third of it at most", g.HeartbeatInterval, g.SessionTimeout)
	}
	if g.Stalled == nil {
		g.Stalled = func(error) {}
	}
	if g.Log == nil {
		g.Log = slog.New(slog.DiscardHandler)
	}
	g.Topics = slices.Compact(slices.Sorted(slices.Values(g.Topics)))
	return nil
}

// countAll counts the partitions of the group's topics.
func (c *Cluster) countAll(ctx context.Context, cfg GroupConfig) (map[string]int, error) {
	counts := make(map[string]int)
	var told []string
	for _, topic := range cfg.Topics {
		n, err := c.Partitions(ctx, topic)
		if err != nil {
			return nil, err
		}
		counts[topic] = n
		told = append(told, fmt.Sprintf("%s has %d", topic, n))
	}
	if cfg.Balancer == CoPartitioned {
		for _, n := range counts {
			if n != counts[cfg.Topics[0]] {
				return nil, &Error{Op: "count partitions", Partition: -1, Kind: Permanent, Err: fmt.Errorf(
					"%s: topics that are read together by key need equal counts", strings.Join(told, ", "))}
			}
		}
	}
	return counts, nil
}

// member is this process in its group.
type member struct {
	c      *Cluster
	op     string
	cfg    GroupConfig
	counts map[string]int
	work   func(context.Context, map[string][]int) error
	group  *kafka.ConsumerGroup
	cutOff context.CancelFunc // breaks the group's connections
	held   atomic.Bool        // owns something, or did when it was last asked
	id     string             // in the last generation; "" where kafka-go has left it

	lost     sync.WaitGroup     // signs off an id that kafka-go has dropped,
	regained context.CancelFunc // until there is another one; nil where none was lost
}

// serve goes through the generations.
func (m *member) serve(ctx context.Context) error {
	log := m.cfg.Log.With("group", m.cfg.ID)
	quiet := false
	for {
		gen, err := m.group.Next(ctx)
		if err != nil {
			if err := m.missed(ctx, err); err != nil {
				return err
			}
			if !quiet {
				log.Warn("in no generation; trying again", "error", err)
				quiet = true
			}
			continue
		}
		quiet = false
		parts, err := m.parts(ctx, gen)
		if err != nil {
			return err
		}
		m.id = gen.MemberID
		if m.regained != nil {
			m.regained()
			m.regained = nil
		}
		m.held.Store(len(parts) > 0)
		m.cfg.Stalled(nil)
		log.Info("a generation begins", "generation", gen.ID, "partitions", parts)
		over, err := m.run(ctx, gen, parts)
		if over {
			return err
		}
		log.Info("the generation is over", "generation", gen.ID)
	}
}

// missed says whether there can be another attempt after err.
func (m *member) missed(ctx context.Context, err error) error {
	if ctx.Err() != nil || kindOf(err) == Permanent {
		return m.c.fail(ctx, m.op, err)
	}
	m.cfg.Stalled(m.c.fail(ctx, m.op, err))
	// But for this one error kafka-go drops its id, which the coordinator then
	// waits for until the session is over.
	if id := m.id; id != "" && !errors.Is(err, kafka.RebalanceInProgress) {
		m.id = ""
		within, cancel := context.WithCancel(ctx)
		m.regained = cancel
		m.lost.Go(func() { m.keepSigningOff(within, id) })
	}
	return nil
}

// parts gives this member's partitions in a generation.
func (m *member) parts(ctx context.Context, gen *kafka.Generation) (map[string][]int, error) {
	parts := make(map[string][]int)
	for topic, list := range gen.Assignments {
		for _, a := range list {
			parts[topic] = append(parts[topic], a.ID)
		}
		slices.Sort(parts[topic])
	}
	var first []int
	for i, topic := range m.cfg.Topics {
		numbers := parts[topic]
		if n := len(numbers); n > 0 && numbers[n-1] >= m.counts[topic] {
			// Who shares out has seen it before our own watch did.
			return nil, &Error{Op: m.op, Topic: topic, Partition: -1, Kind: Permanent,
				Err: &PartitionsChanged{Topic: topic, Before: m.counts[topic], After: max(numbers[n-1]+1, m.count(ctx, topic))}}
		}
		if i == 0 {
			first = numbers
		}
		if m.cfg.Balancer == CoPartitioned && !slices.Equal(first, numbers) {
			return nil, &Error{Op: m.op, Topic: topic, Partition: -1, Kind: Permanent, Err: fmt.Errorf(
				"this member would get partitions %v of %s and %v of this one: the members do not all read %s; give these a group id of their own",
				first, m.cfg.Topics[0], numbers, strings.Join(m.cfg.Topics, ", "))}
		}
	}
	return parts, nil
}

func (m *member) count(ctx context.Context, topic string) int {
	m.c.forget()
	n, err := m.c.Partitions(ctx, topic)
	if err != nil {
		return 0
	}
	return n
}

// watch returns when a topic has another number of partitions than it had.
func (m *member) watch(ctx context.Context) error {
	tick := time.NewTicker(m.cfg.WatchInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for _, topic := range m.cfg.Topics {
			// An error here is one for the group and the readers too; they tell.
			n, err := m.c.Partitions(ctx, topic)
			if err == nil && n != m.counts[topic] {
				return &PartitionsChanged{Topic: topic, Before: m.counts[topic], After: n}
			}
		}
	}
}

// run is one generation. over says that it was the last one here.
func (m *member) run(ctx context.Context, gen *kafka.Generation, parts map[string][]int) (over bool, err error) {
	within, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	type result struct {
		over bool
		err  error
	}
	done := make(chan result, 1)
	gen.Start(func(alive context.Context) {
		defer context.AfterFunc(alive, func() { cancel(ErrRebalanced) })()
		err := m.work(within, maps.Clone(parts))
		r := result{err: err}
		switch ended := within.Err() != nil; {
		case ended && (err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(within))):
			if r.over = ctx.Err() != nil; r.over {
				r.err = m.c.fail(ctx, m.op, ctx.Err())
			}
		default:
			r.over = true
		}
		done <- r
		if r.over {
			// Where this function returns, kafka-go joins the next generation.
			// It shall leave instead.
			<-alive.Done()
		}
	})

	commit := time.NewTicker(m.cfg.CommitInterval)
	defer commit.Stop()
	ended := within.Done()
	var late <-chan time.Time
	for {
		select {
		case r := <-done:
			if r.over {
				m.commit(context.WithoutCancel(ctx), gen, parts)
			}
			return r.over, r.err
		case <-commit.C:
			m.commit(within, gen, parts)
		case <-ended:
			ended = nil
			timer := time.NewTimer(m.cfg.SessionTimeout)
			defer timer.Stop()
			late = timer.C
		case <-late:
			m.cfg.Stalled(fmt.Errorf("%s: generation %d is over since %s, and its work has not ended", m.op, gen.ID, m.cfg.SessionTimeout))
		}
	}
}
