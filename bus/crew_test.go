package bus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"
)

// crew watches the members of one group: who works on what.
type crew struct {
	t   testing.TB
	c   *Cluster
	cfg GroupConfig

	mu      sync.Mutex
	changed chan struct{}
	owners  map[string]string // "topic/partition" -> member
	works   map[string]int    // generations that a member has begun
	idle    map[string]bool   // members whose work has no partitions
	both    []string          // what two had at a time
	members map[string]*hand
}

// hand is one member.
type hand struct {
	cancel context.CancelFunc
	ended  chan struct{}
	err    error
}

func newCrew(t testing.TB, c *Cluster, cfg GroupConfig) *crew {
	return &crew{t: t, c: c, cfg: cfg, changed: make(chan struct{}), owners: make(map[string]string),
		works: make(map[string]int), idle: make(map[string]bool), members: make(map[string]*hand)}
}

func (g *crew) change(do func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	do()
	close(g.changed)
	g.changed = make(chan struct{})
}

func each(parts map[string][]int, do func(string)) {
	for topic, numbers := range parts {
		for _, p := range numbers {
			do(fmt.Sprintf("%s/%d", topic, p))
		}
	}
}

// work is what a member does: it holds its partitions until it is told to stop.
func (g *crew) work(name string) func(context.Context, map[string][]int) error {
	return func(ctx context.Context, parts map[string][]int) error {
		g.change(func() {
			g.works[name]++
			g.idle[name] = len(parts) == 0
			each(parts, func(p string) {
				if other := g.owners[p]; other != "" {
					g.both = append(g.both, p+" by "+other+" and "+name)
				}
				g.owners[p] = name
			})
		})
		<-ctx.Done()
		g.change(func() {
			delete(g.idle, name)
			each(parts, func(p string) { delete(g.owners, p) })
		})
		return context.Cause(ctx)
	}
}

func (g *crew) join(name string, work func(context.Context, map[string][]int) error) *hand {
	return g.joinAs(name, g.cfg, work)
}

func (g *crew) joinAs(name string, cfg GroupConfig, work func(context.Context, map[string][]int) error) *hand {
	ctx, cancel := context.WithCancel(g.t.Context())
	h := &hand{cancel: cancel, ended: make(chan struct{})}
	g.members[name] = h
	go func() {
		defer close(h.ended)
		h.err = g.c.JoinGroup(ctx, cfg, work)
	}()
	g.t.Cleanup(func() { cancel(); <-h.ended })
	return h
}

func (g *crew) leave(name string) {
	g.t.Helper()
	h := g.members[name]
	h.cancel()
	if err := h.wait(g.t); !errors.Is(err, context.Canceled) {
		g.t.Fatal(err)
	}
}

// wait gives the error with which JoinGroup ended.
func (h *hand) wait(t testing.TB) error {
	t.Helper()
	select {
	case <-h.ended:
		return h.err
	case <-time.After(time.Minute):
		t.Fatal("the member is still there")
		return nil
	}
}

// await waits until what the members do is as it shall be.
func (g *crew) await(what string, is func() bool) {
	g.t.Helper()
	deadline := time.After(time.Minute)
	for {
		g.mu.Lock()
		ok, changed := is(), g.changed
		g.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			g.mu.Lock()
			defer g.mu.Unlock()
			g.t.Fatalf("after a minute not %s: owners %v, idle %v, generations %v", what, g.owners, g.idle, g.works)
		}
	}
}

// shared waits until each of the members has its share and nothing is left.
func (g *crew) shared(partitions int, shares map[string]int) {
	g.t.Helper()
	g.await(fmt.Sprintf("shared as %v", shares), func() bool {
		have := make(map[string]int)
		for _, name := range g.owners {
			have[name]++
		}
		for name := range g.idle {
			if g.idle[name] {
				have[name] = 0
			}
		}
		return len(g.owners) == partitions && maps.Equal(have, shares)
	})
}

// alone fails where two members had one partition at a time.
func (g *crew) alone() {
	g.t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.both) > 0 {
		g.t.Errorf("two at a time: %v", g.both)
	}
}

func quickGroup(id string, topics ...string) GroupConfig {
	return GroupConfig{ID: id, Topics: topics, SessionTimeout: 6 * time.Second, HeartbeatInterval: 50 * time.Millisecond}
}
