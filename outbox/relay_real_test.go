//go:build slow

package outbox_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"banyan/internal/kafkatest"
	"banyan/outbox"
)

// On Apache Kafka: the broker is killed, twice, while the owner commits.
func TestRealKafkaKilled(t *testing.T) {
	_, _, o := start(t, outbox.Options{Twins: true})
	b := kafkatest.NewReal(t)
	c := busFor(t, b)
	r, _ := relayFor(t, o, c)
	want := make(map[string]bool)
	n := 0
	burst := func() {
		for range 30 {
			n++
			step := orders(n, 50)
			for _, e := range step.Events {
				want[e.ID.String()] = true
			}
			if err := o.Commit(testContext(t), at(n), put(testContext(t), step)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 2 {
		burst()
		b.Kill(t)
		burst() // the commit side goes on
		b.Start(t)
		burst()
	}
	eventually(t, "everything is published", func() bool { p := r.Progress(); return p.Events == 0 && p.Twins == 0 && p.Error == "" })
	got, repeats := published(t, c, "shop.orders")
	t.Logf("%d events, %d repeats", len(got), repeats)
	if d := cmp.Diff(want, got); d != "" {
		t.Fatalf("(-stored +published): %s", d)
	}
}
