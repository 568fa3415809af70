package shadow

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"banyan/projections"
	"banyan/projections/projectiontest"
	"banyan/quote"
)

// all gives what lies in a log in the order of commits.
func all(t testing.TB, log *projectiontest.Log, o Options) []*projections.Event {
	t.Helper()
	var events []*projections.Event
	for some, err := range history(t.Context(), log, o) {
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, some...)
	}
	return events
}

// inProcess is a core that keeps its journal.
func inProcess(o Options, journal *[][]byte) *core {
	s := newCore(o)
	s.candidate = thrifty{}
	s.done = func(c *comparison, _ *quote.Answer) error {
		*journal = append(*journal, appendEntry(nil, c))
		return nil
	}
	return s
}

func entries(t testing.TB, raw [][]byte) []Entry {
	t.Helper()
	var read []Entry
	for _, r := range raw {
		e, err := ParseEntry(r)
		if err != nil {
			t.Fatalf("%s: %v", r, err)
		}
		read = append(read, e)
	}
	return read
}

// A history gives what the shop's own books say, however it is cut into batches.
func TestTheLedgerIsWhatTheBooksSay(t *testing.T) {
	shop := newShop(t, seedOf(t))
	shop.trade(600)
	o := DefaultOptions()
	o.Name = "test"
	events := all(t, shop.log, o)
	var want string
	for _, size := range []int{len(events), 1, 7} {
		var journal [][]byte
		s := inProcess(o, &journal)
		for rest := events; len(rest) > 0; rest = rest[min(size, len(rest)):] {
			if err := s.take(t.Context(), rest[:min(size, len(rest))]); err != nil {
				t.Fatal(err)
			}
		}
		shop.books.check(t, s.ledger)
		shop.books.checkJournal(t, entries(t, journal))
		if got := whole(t, s.ledger); want == "" {
			want = got
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("in batches of %d (-want +got):\n%s", size, diff)
		}
	}
}
