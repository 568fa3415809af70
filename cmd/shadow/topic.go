package main

import (
	"context"
	"fmt"
	"time"

	"banyan/cmd/internal/cli"
	"banyan/compare"
	"banyan/shadow"
)

func (a *app) chooseTopic(f *candidateFlags) (*chosen, error) {
	if err := shadow.CheckTopic(f.topic, shadow.ShopMapping()); err != nil {
		return nil, cli.BadInput("--candidate-topic: %w", err)
	}
	s := &shadow.Stream{Topic: f.topic}
	c := &chosen{name: plainName(f.topic[len(shadow.OwnPrefix):]), is: "topic " + f.topic, stream: s, close: func() {}}
	c.who = shadow.Candidates{Who: compare.Candidate{Name: f.topic, Mode: "stream"}, Pricer: s, Named: s.Named}
	return c, nil
}

// never is what a run must not do to others: it refuses a candidate's topic that
// production reads, which a consumer group other than a shadow's tells.
func (r *running) never(ctx context.Context) error {
	if r.who.stream == nil {
		return nil
	}
	readers, err := r.cluster.Readers(ctx, r.who.stream.Topic)
	if err != nil {
		return err
	}
	for _, g := range readers {
		if !shadowGroup(g) {
			return cli.BadInput("--candidate-topic %s: the consumer group %s reads it: what production reads is no candidate's; let the candidate publish to a topic of its own", r.who.stream.Topic, g)
		}
	}
	return nil
}

// shadowGroup reports whether a consumer group is one of ours.
func shadowGroup(group string) bool {
	const ours = "banyan-" + shadow.Prefix
	return len(group) >= len(ours) && group[:len(ours)] == ours
}

// How soon a wait is logged, and how often it is while it lasts.
const (
	firstTold = 3 * time.Second
	nextTold  = time.Minute
)

// tellWaits logs why the run waits, and when it goes on, until ctx is done.
func (r *running) tellWaits(ctx context.Context) error {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	var since, told time.Time // zero where it does not wait
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			why := r.waits()
			switch {
			case why == "" && !told.IsZero():
				r.Log.Info("the candidate answers again", "waited", now.Sub(since).Round(time.Second))
				since, told = time.Time{}, time.Time{}
			case why == "":
				since = time.Time{}
			case since.IsZero():
				since = now
			case now.Sub(since) >= firstTold && (told.IsZero() || now.Sub(told) >= nextTold):
				r.Log.Warn("the shadow waits; nothing is lost meanwhile", "why", cli.Redact(why))
				told = now
			}
		}
	}
}

// waits says why the run does not go on, "" where it does.
func (r *running) waits() string {
	switch {
	case r.who.request != nil:
		if why, all := r.who.request.Paused(); why != "" {
			return fmt.Sprintf("%s (waited %s in all)", why, all.Round(100_000_000))
		}
	case r.who.stream != nil:
		return r.who.stream.Paused()
	}
	return ""
}
