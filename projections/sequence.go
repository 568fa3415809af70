package projections

import (
	"context"
	"fmt"
	"hash/maphash"
	"strings"

	"banyan/event"
	"banyan/projections/control"
)

// recentSeqs is how many of the last records of a partition are remembered by
// their bytes, to tell a repeat from another record under the same seq.
const recentSeqs = 4096

// Sequence watches over the records of one partition: it tells repeats by their
// banyan_seq alone and proves by counting that nothing is missing. It belongs to
// one goroutine.
type Sequence struct {
	part   control.PartID
	latest bool
	seq    int64
	gen    int
	seed   maphash.Seed
	recent []remembered // by seq modulo its length
}

type remembered struct {
	seq  int64
	hash uint64
}

// IsLatest reports whether a topic is by its name a compacted one, whose records
// are the latest of each key: their seq is not dense.
func IsLatest(topic string) bool { return strings.HasSuffix(topic, ".latest") }

// NewSequence goes on behind what a version has applied of a partition.
func NewSequence(p control.Part) *Sequence {
	return &Sequence{part: p.PartID, latest: IsLatest(p.Topic), seq: p.Seq, gen: p.Applied.Generation, seed: maphash.MakeSeed()}
}

// recalled is how many records before the first one are read again for that.
const recalled = 512

// recall remembers the last records before an offset, so that a restart between
// two records of one seq hides nothing. What cannot be read is not remembered.
func (s *Sequence) recall(ctx context.Context, log Log, next int64) {
	if s.latest || s.seq == 0 {
		return
	}
	first, _, err := log.Ends(ctx, s.part.Topic, s.part.Part)
	if err != nil {
		return
	}
	for r, err := range log.Read(ctx, s.part.Topic, s.part.Part, max(first, next-recalled), next) {
		if err != nil {
			return
		}
		if seq, ok := r.Seq(); ok && (s.recent == nil || s.recent[seq%recentSeqs].seq != seq) {
			s.remember(seq, s.hash(&r))
		}
	}
}

// Take looks at the next record. fresh is false for a repeat, which is to be
// passed over; whether a record of a `.latest` topic is overtaken is seen only
// beside its key's last one. An error is a *Fault.
func (s *Sequence) Take(r *event.Record) (fresh bool, err error) {
	seq, ok := r.Seq()
	if !ok {
		return false, s.fault(r, event.ErrForeign, "the record has no header "+event.HeaderSeq,
			"only cdc may write to this topic; find who else does")
	}
	if s.latest {
		s.seq = max(s.seq, seq)
		return true, nil
	}
	switch {
	case seq > s.seq+1:
		return false, s.fault(r, ErrGap, fmt.Sprintf("after seq %d comes seq %d: %d records are missing", s.seq, seq, seq-s.seq-1),
			"cdc verify tells what the topic should hold")
	case seq <= s.seq:
		return false, s.repeat(r, seq)
	}
	s.seq = seq
	s.remember(seq, s.hash(r))
	return true, nil
}

// Generation looks at a fresh event's generation, which never steps back.
func (s *Sequence) Generation(e *Event) error {
	if e.Position.Generation < s.gen {
		return &Fault{s.part, e.Offset, fmt.Sprintf("event %s is of generation %d, after one of generation %d", e.ID.String(), e.Position.Generation, s.gen),
			"an older cdc may still be writing; stop it", ErrGeneration}
	}
	s.gen = e.Position.Generation
	return nil
}

func (s *Sequence) repeat(r *event.Record, seq int64) error {
	if s.recent == nil {
		return nil
	}
	if was := s.recent[seq%recentSeqs]; was.seq == seq && was.hash != s.hash(r) {
		return s.fault(r, ErrOtherBytes, fmt.Sprintf("seq %d comes a second time, with other bytes", seq),
			"two writers may have published to this topic; cdc verify tells which one is right")
	}
	return nil
}

func (s *Sequence) remember(seq int64, hash uint64) {
	if s.recent == nil {
		s.recent = make([]remembered, recentSeqs)
	}
	s.recent[seq%recentSeqs] = remembered{seq, hash}
}

func (s *Sequence) hash(r *event.Record) uint64 {
	h := maphash.Bytes(s.seed, r.Value)
	h = h*31 + maphash.Bytes(s.seed, r.Key)
	for i := range r.Headers {
		// Names are the same few; a value of another header is another value.
		h = h*31 + maphash.Bytes(s.seed, r.Headers[i].Value)
	}
	return h
}

func (s *Sequence) fault(r *event.Record, kind error, what, way string) error {
	return &Fault{s.part, r.Offset, what, way, kind}
}
