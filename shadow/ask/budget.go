package ask

import "sync"

// budget bounds retries by the calls that were made: in all, never more than the
// share of them and the minimum. (The library's budget bounds those that are open
// at once, and lets a lone caller double every call.) What good times have saved up
// is capped: a candidate that falls over is not met by the savings of a day.
type budget struct {
	mu            sync.Mutex
	share, tokens int64 // in thousandths of a retry
}

// savings is the most that is saved up, in retries.
const savings = 10

func newBudget(share float64, minimum int) *budget {
	return &budget{share: int64(share * 1000), tokens: int64(minimum) * 1000}
}

// called is a call that pays its share in.
func (b *budget) called() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tokens < savings*1000 {
		b.tokens += b.share
	}
}

// take asks for a retry.
func (b *budget) take() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tokens < 1000 {
		return false
	}
	b.tokens -= 1000
	return true
}

// giveBack returns one that was not made.
func (b *budget) giveBack() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokens += 1000
}
