package projections

import (
	"sync"
	"time"

	"banyan/projections/control"
	"banyan/projections/state"
)

// Stats is a picture of a running Runner.
type Stats struct {
	Projection string
	Version    int
	State      control.State
	// Parts are the partitions it owns, in the order of topic and partition.
	Parts []PartStats
	// Mark is the last watermark known of the source, Passed the one that all
	// partitions here have passed. Their times tell the age of what readers see.
	Mark, Passed control.Mark

	Events, Batches int64 // committed since the Runner was made
	// Rate is events per second over the last ten seconds.
	Rate float64
	// LastBatch and MeanBatch are events per transaction; CommitTime is the mean
	// from its begin to its end.
	LastBatch  int
	MeanBatch  float64
	CommitTime time.Duration

	// ParkedKeys and ParkedEvents wait in chains of the partitions owned.
	ParkedKeys   int
	ParkedEvents int64
	Timers       int // pending
	Cache        state.LiveStats

	// Stalled says why nothing moves although there is something to do, "" where
	// it moves or has nothing to do; StalledSince when it last moved.
	Stalled      string
	StalledSince time.Time
}

// PartStats is the part of Stats about one partition.
type PartStats struct {
	control.PartID
	Offset int64 // of the next record to be applied
	End    int64 // of the log, as last seen
	// Lag in records, in bytes of them (estimated by their mean size), in time of
	// the source, and in LSNs behind its last watermark.
	Records int64
	Bytes   int64
	Lag     time.Duration
	LSN     uint64
	Passed  control.Mark
	// Stalled says why, where this partition holds up.
	Stalled string
}

// statsBoard is what goroutines write down for Stats.
type statsBoard struct {
	mu     sync.Mutex
	s      Stats
	lanes  []*lane // of the Run under way
	parts  []PartStats
	left   map[string]map[int]int64 // where the last Run ended, until the next begins
	moved  time.Time
	why    string // the committer waits
	rates  [11]second
	timing time.Duration // sum
	warned bool
}

type second struct {
	at int64
	n  int64
}

// update changes the board under its lock.
func (b *statsBoard) update(change func(*Stats)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change(&b.s)
}

// forget lets go of all partitions, and of where the last Run ended in them: somebody
// else may have been further since.
func (b *statsBoard) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lanes, b.parts, b.left = nil, nil, nil
}

// reset begins a Run with these lanes, none at its end.
func (b *statsBoard) reset(lanes []*lane, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left = b.offsets()
	b.lanes, b.parts, b.moved, b.why, b.warned = lanes, make([]PartStats, len(lanes)), now, "", false
	for i, l := range lanes {
		b.parts[i] = PartStats{PartID: l.id, Offset: l.done.next, Passed: l.done.passed}
	}
}

// offsets gives where to go on from, by topic and partition.
func (b *statsBoard) offsets() map[string]map[int]int64 {
	all := map[string]map[int]int64{}
	for _, p := range b.parts {
		if all[p.Topic] == nil {
			all[p.Topic] = map[int]int64{}
		}
		all[p.Topic][p.Part] = p.Offset
	}
	return all
}

// committed notes a batch.
func (b *statsBoard) committed(all []*lane, n int, passed control.Mark, took time.Duration, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, l := range all {
		b.parts[i].Offset, b.parts[i].Passed = l.done.next, l.done.passed
	}
	b.s.Events += int64(n)
	b.s.Batches++
	b.s.LastBatch, b.s.Passed = n, passed
	b.timing += took
	slot := &b.rates[now.Unix()%int64(len(b.rates))]
	if slot.at != now.Unix() {
		*slot = second{at: now.Unix()}
	}
	slot.n += int64(n)
	b.moved, b.why, b.warned = now, "", false
}

// waits notes why the committer does not go on.
func (b *statsBoard) waits(why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.why = why
}

// warnOnce reports whether the stall has not been told yet.
func (b *statsBoard) warnOnce() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	first := !b.warned
	b.warned = true
	return first
}

// quietFor is how long nothing may move before it counts as a stall.
const quietFor = 2 * time.Second

// Applied gives the offsets to go on from, by topic and partition: what a consumer
// group commits for those who look at its lag. After a Run it is where that one
// ended, until the next begins. It may be called at any time.
func (r *Runner) Applied() map[string]map[int]int64 {
	b := &r.stats
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lanes == nil {
		return b.left
	}
	return b.offsets()
}

// Stats gives the picture of this moment. It may be called at any time.
func (r *Runner) Stats() Stats {
	b := &r.stats
	now := r.opts.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.s
	s.Projection, s.Version = r.spec.Name, r.opts.Version.Number
	if s.State == "" {
		s.State = r.opts.Version.State
	}
	if s.Batches > 0 {
		s.MeanBatch = float64(s.Events) / float64(s.Batches)
		s.CommitTime = b.timing / time.Duration(s.Batches)
	}
	for _, slot := range b.rates {
		if age := now.Unix() - slot.at; age >= 1 && age <= 10 {
			s.Rate += float64(slot.n) / 10
		}
	}
	s.Parts = make([]PartStats, len(b.parts))
	behind := false
	for i, p := range b.parts {
		s.Parts[i] = p.fill(b.lanes[i], s.Mark)
		behind = behind || s.Parts[i].Records > 0 || s.Parts[i].LSN > 0
	}
	if quiet := now.Sub(b.moved); behind && quiet >= quietFor {
		s.Stalled, s.StalledSince = b.reason(s.Parts), b.moved
	}
	return s
}

func (p PartStats) fill(l *lane, mark control.Mark) PartStats {
	p.End = max(l.end.Load(), l.read.Load())
	p.Records = max(p.End-p.Offset, 0)
	p.Bytes = p.Records * l.size.Load()
	if mark.Generation == p.Passed.Generation && mark.LSN > p.Passed.LSN {
		p.LSN = mark.LSN - p.Passed.LSN
	}
	if (p.Records > 0 || p.LSN > 0) && !p.Passed.Time.IsZero() {
		p.Lag = max(mark.Time.Sub(p.Passed.Time), 0)
	}
	if why := l.stalled.Load(); why != nil {
		p.Stalled = "broker: " + (*why).Error()
	}
	return p
}

// reason is why nothing moves, as well as it is known.
func (b *statsBoard) reason(parts []PartStats) string {
	if b.why != "" {
		return b.why
	}
	for _, p := range parts {
		if p.Stalled != "" {
			return p.PartID.String() + ": " + p.Stalled
		}
	}
	return "reading"
}
