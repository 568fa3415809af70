package outbox

import (
	"time"
)

// Progress is how far a relay is, for status and metrics.
type Progress struct {
	// Events and Bytes wait to be published; Bytes is Events times the mean
	// size of those published so far by this process.
	Events int64 `json:"events"`
	Bytes  int64 `json:"bytes"`
	// Seconds is the age, by its commit, of the oldest event that waits.
	Seconds float64 `json:"seconds"`
	// Published counts events acknowledged by the broker since the start, and
	// Rate those per second over the last seconds.
	Published int64   `json:"published"`
	Rate      float64 `json:"rate"`
	// Twins is the number of events whose effect on a twin is outstanding.
	Twins int64 `json:"twins"`
	// Settled is false until the tail of every partition has been read.
	Settled bool `json:"settled"`
	// Watermark is the LSN of the last one sent, and WatermarkTime its time;
	// zero before the first.
	Watermark     uint64    `json:"watermark"`
	WatermarkTime time.Time `json:"watermarkTime"`
	// Error is the last failure that is being retried, "" once all goes well
	// again; Since is when it came up.
	Error string    `json:"error"`
	Since time.Time `json:"since"`
}

// Progress says how far the relay is. It may be called at any time.
func (r *Relay) Progress() Progress {
	r.init()
	s := r.state
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.progress
	p.Rate = s.rate.perSecond(time.Now())
	p.Settled = true
	var oldest time.Time
	var size, count int64
	for _, l := range s.lanes {
		l.mu.Lock()
		p.Events += l.assigned - l.seq
		if !l.oldest.IsZero() && (oldest.IsZero() || l.oldest.Before(oldest)) {
			oldest = l.oldest
		}
		p.Settled = p.Settled && l.settled
		size += l.size
		count += l.count
		seq := l.seq
		l.mu.Unlock()
		if l.twin != nil {
			p.Twins += seq - l.twin.reached()
		}
	}
	if count > 0 {
		p.Bytes = p.Events * (size / count)
	}
	for _, f := range s.failures {
		if p.Error == "" || f.since.Before(p.Since) {
			p.Error, p.Since = f.err.Error(), f.since
		}
	}
	if !oldest.IsZero() {
		p.Seconds = max(0, time.Since(oldest).Seconds())
	}
	return p
}

// failure is one that is being retried.
type failure struct {
	err   error
	since time.Time
}

// note keeps a failure that is being retried, and logs the first of several.
func (r *Relay) note(at TopicPartition, err error) {
	s := r.state
	s.mu.Lock()
	fresh := len(s.failures) == 0
	f, again := s.failures[at]
	if !again {
		f.since = time.Now()
	}
	f.err = err
	s.failures[at] = f
	s.mu.Unlock()
	if fresh {
		r.Log.Warn("relay: cannot publish, trying again", "topic", at.Topic, "error", err)
	}
}

// ok takes note of a success.
func (r *Relay) ok(at TopicPartition, count int64) {
	s := r.state
	s.mu.Lock()
	_, was := s.failures[at]
	delete(s.failures, at)
	well := was && len(s.failures) == 0
	s.progress.Published += count
	s.rate.add(time.Now(), count)
	s.mu.Unlock()
	if well {
		r.Log.Info("relay: publishing again")
	}
}

// rate counts events over the last rateSpan seconds.
type rate struct {
	second  int64
	buckets [rateSpan]int64
}

const rateSpan = 10

func (r *rate) advance(now time.Time) {
	for s := now.Unix(); r.second < s; {
		r.second = max(r.second+1, s-rateSpan)
		r.buckets[r.second%rateSpan] = 0
	}
}

func (r *rate) add(now time.Time, n int64) {
	r.advance(now)
	r.buckets[r.second%rateSpan] += n
}

func (r *rate) perSecond(now time.Time) float64 {
	r.advance(now)
	var n int64
	for _, b := range r.buckets {
		n += b
	}
	return float64(n) / rateSpan
}
