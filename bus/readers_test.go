package bus

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Readers are the groups that have committed an offset in the topic, and those that ask
// for it; a topic that is not there has none.
func TestReaders(t *testing.T) {
	t.Parallel()
	_, c := start(t)
	ensure(t, c, BusinessTopic("shadow.prices", 3), BusinessTopic("shop.prices", 3))
	readers := func(topic string) []string {
		t.Helper()
		names, err := c.Readers(t.Context(), topic)
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error, 3)
	join := func(group, topic string, at int64) {
		t.Helper()
		joined := make(chan struct{})
		go func() {
			cfg := GroupConfig{ID: group, Topics: []string{topic}, CommitInterval: 20 * time.Millisecond}
			if at > 0 {
				cfg.Applied = func() map[string]map[int]int64 { return map[string]map[int]int64{topic: {1: at}} }
			}
			gone <- c.JoinGroup(ctx, cfg, func(ctx context.Context, _ map[string][]int) error {
				close(joined)
				<-ctx.Done()
				return ctx.Err()
			})
		}()
		<-joined
	}
	join("checkout", "shadow.prices", 7)
	join("billing", "shop.prices", 7)
	join("watcher", "shadow.prices", 0) // has joined, and has read nothing yet
	deadline := time.After(time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for len(readers("shadow.prices")) < 2 || len(readers("shop.prices")) == 0 {
		select {
		case <-deadline:
			t.Fatal("no group has committed within a minute")
		case <-tick.C:
		}
	}
	for topic, want := range map[string][]string{"shadow.prices": {"checkout", "watcher"}, "shop.prices": {"billing"}, "shop.nothing": nil} {
		if diff := cmp.Diff(want, readers(topic)); diff != "" {
			t.Errorf("readers of %s (-want +got):\n%s", topic, diff)
		}
	}
	cancel()
	for range 3 {
		<-gone
	}
	// Who has committed may come back.
	if diff := cmp.Diff([]string{"checkout"}, readers("shadow.prices")); diff != "" {
		t.Errorf("after the group has left (-want +got):\n%s", diff)
	}
}
