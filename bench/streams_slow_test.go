//go:build slow

package bench_test

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	kafka "github.com/segmentio/kafka-go"

	"banyan/internal/kafkatest"
)

//go:embed kafkastreams/pom.xml kafkastreams/src
var streamsSource embed.FS

// streamsApp compiles the Kafka Streams application with Maven and keeps it, with
// its jars (80 MB), in the user's cache directory until its source changes.
func streamsApp(t testing.TB) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	source, err := fs.Sub(streamsSource, "kafkastreams")
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.New()
	if err := fs.WalkDir(source, ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := fs.ReadFile(source, path)
		fmt.Fprintf(sum, "%s %d %s", path, len(b), b)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(cache, "banyan", fmt.Sprintf("kafkastreams-%x", sum.Sum(nil)[:6]))
	if _, err := os.Stat(target); err == nil {
		return target
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		t.Fatal(err)
	}
	work, err := os.MkdirTemp(filepath.Dir(target), "kafkastreams-build-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(work)
	if err := os.CopyFS(work, source); err != nil {
		t.Fatal(err)
	}
	mvn := exec.Command("mvn", "-B", "-q", "package")
	mvn.Dir = work
	if out, err := mvn.CombinedOutput(); err != nil {
		t.Fatalf("mvn package: %v\n%s", err, out)
	}
	if err := os.Rename(filepath.Join(work, "target"), target); err != nil && !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
	return target
}

// streams is one application of Kafka Streams, with a state directory and a
// group of its own.
type streams struct {
	g      *ground
	topic  string
	id     string // application.id, which is the group's
	dir    string
	client *kafka.Client
}

// newStreams writes the settings: those that have to be there, exactly once, and
// some more.
func (g *ground) newStreams(id string, d *told, more map[string]string) *streams {
	g.t.Helper()
	s := &streams{g: g, topic: d.topic, id: id, dir: g.t.TempDir(), client: &kafka.Client{Addr: kafka.TCP(g.brokers...)}}
	settings := map[string]string{
		"application.id": id, "bootstrap.servers": strings.Join(g.brokers, ","), "state.dir": filepath.Join(s.dir, "state"),
		"auto.offset.reset": "earliest", "processing.guarantee": "exactly_once_v2", "replication.factor": "1",
	}
	for k, v := range more {
		settings[k] = v
	}
	var text strings.Builder
	for k, v := range settings {
		fmt.Fprintf(&text, "%s=%s\n", k, v)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "streams.properties"), []byte(text.String()), 0o644); err != nil {
		g.t.Fatal(err)
	}
	return s
}

// worker is the application, measured by the offsets that it commits in the
// transactions of its counts.
func (s *streams) worker(name string) worker {
	app := streamsApp(s.g.t)
	return worker{name: name, running: "RUNNING", applied: s.applied, cmd: func() *exec.Cmd {
		cmd := exec.Command("java", "-Xmx1g", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp",
			filepath.Join(app, "count.jar")+":"+filepath.Join(app, "libs", "*"), "banyan.bench.Count", "streams.properties", s.topic)
		cmd.Dir = s.dir
		return cmd
	}}
}

func (s *streams) applied(ctx context.Context) (int64, error) {
	var all []int
	for p := range partitions {
		all = append(all, p)
	}
	res, err := s.client.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: s.id, Topics: map[string][]int{s.topic: all}})
	if err != nil {
		return 0, nil // Kafka makes its own topics first
	}
	if code, ok := errors.AsType[kafka.Error](res.Error); ok && code.Temporary() {
		return 0, nil // and reads them
	}
	if res.Error != nil {
		return 0, res.Error
	}
	var n int64
	for _, p := range res.Topics[s.topic] {
		n += max(p.CommittedOffset, 0)
	}
	return n, nil
}

// counted checks the changelog of the store: a count for each key, and all events
// in them. After a kill it holds aborted counts too, which are overwritten.
func (s *streams) counted(d *told) func() error {
	return func() error {
		topic := s.id + "-counts-changelog"
		ends, err := s.g.cluster.AllEnds(context.Background(), topic)
		if err != nil {
			return err
		}
		counts := make(map[string]int64)
		for p, r := range ends {
			for rec, err := range s.g.cluster.Read(context.Background(), topic, p, r.First, r.Next) {
				if err != nil {
					return err
				}
				if len(rec.Value) == 8 {
					counts[string(rec.Key)] = int64(binary.BigEndian.Uint64(rec.Value))
				}
			}
		}
		var events int64
		for _, n := range counts {
			events += n
		}
		if len(counts) != d.distinct || events != d.total() {
			return fmt.Errorf("%s has %d keys that counted %d events, want %d and %d", topic, len(counts), events, d.distinct, d.total())
		}
		return nil
	}
}

// The contenders of the race that counts by key.
const (
	contenderGroup     = "projector, group"
	contenderFold      = "projector, fold"
	contenderInstance  = "projector, group, --instance"
	contenderStreams   = "Streams, exactly once"
	contenderTuned     = "Streams, exactly once, tuned"
	contenderHeaders   = "Streams, exactly once, our headers"
	contenderStatic    = "Streams, exactly once, static member"
	countGroup         = "projection: counting\ngroups:\n  counts: {from: %s, of: events, types: [\"*\"], by: {id: text = key}, measures: {n: count}}\n"
	countFold          = "projection: counting\ntables:\n  counts:\n    from: %s\n    columns: {id: bigint key, n: \"bigint not null = (old.n ?? 0) + 1\"}\n"
	streamsTunedCache  = "268435456"
	streamsTunedCommit = "1000"
)

// field of the counting race: two topics with the same keys, of which one has no
// headers.
type countField struct {
	*ground
	ours, plain *told
	turn        int
}

func newCountField(t testing.TB, keys int) *countField {
	f := &countField{ground: newGround(t, kafkatest.NewReal(t))}
	f.ours = f.tell(history{source: "counted", events: *events, keys: keys, value: smallState})
	f.plain = f.tell(history{source: "plain", events: *events, keys: keys, value: smallState, plain: true})
	return f
}

// contender makes a fresh worker: a new database, or a new application.
func (f *countField) contender(name string) worker {
	f.turn++
	id := fmt.Sprintf("count-%d", f.turn)
	ours := func(yaml string, args ...string) worker {
		s := f.newService("counting", fmt.Sprintf(yaml, f.ours.topic))
		w := f.worker(name, s, f.ours, args...)
		w.check = s.holds(f.ours, "counting.counts", "n")
		return w
	}
	peer := func(d *told, more map[string]string) worker {
		s := f.newStreams(id, d, more)
		w := s.worker(name)
		w.check = s.counted(d)
		return w
	}
	switch name {
	case contenderGroup:
		return ours(countGroup)
	case contenderInstance:
		return ours(countGroup, "--instance", "one")
	case contenderFold:
		return ours(countFold)
	case contenderHeaders:
		return peer(f.ours, nil)
	case contenderTuned:
		return peer(f.plain, map[string]string{"num.stream.threads": "2", "statestore.cache.max.bytes": streamsTunedCache, "commit.interval.ms": streamsTunedCommit})
	case contenderStatic:
		return peer(f.plain, map[string]string{"group.instance.id": "one"})
	}
	return peer(f.plain, nil)
}

// chosen are those that -only lets through.
func chosen(names ...string) []string {
	return slices.DeleteFunc(names, func(name string) bool { return !strings.Contains(name, *only) })
}

// BenchmarkCount counts events by key: projector run against Kafka Streams, on
// the same broker.
func BenchmarkCount(b *testing.B) {
	names := chosen(contenderGroup, contenderFold, contenderStreams, contenderTuned, contenderHeaders)
	for _, keys := range []int{1000, 1_000_000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			for b.Loop() {
				f := newCountField(b, keys)
				var t trials
				for n := range *rounds {
					for i := range names {
						if n%2 == 1 {
							i = len(names) - 1 - i
						}
						t.add(names[i], f.measure(f.contender(names[i]), f.ours.total()))
					}
				}
				t.print(fmt.Sprintf("Counting %d events of %d keys, %s", *events, f.ours.distinct, f.broker), contenderStreams)
				t.report(b, contenderGroup, contenderStreams)
			}
		})
	}
}

// BenchmarkRecovery kills a counter with SIGKILL when it has counted half, starts
// it again at once, and waits until it counts and until it is done.
func BenchmarkRecovery(b *testing.B) {
	names := chosen(contenderGroup, contenderInstance, contenderStreams, contenderStatic)
	for _, keys := range []int{1000, 1_000_000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			for b.Loop() {
				f := newCountField(b, keys)
				var r recoveries
				for n := range *rounds {
					for i := range names {
						if n%2 == 1 {
							i = len(names) - 1 - i
						}
						r.add(names[i], f.killed(f.contender(names[i]), f.ours.total()))
					}
				}
				r.print(fmt.Sprintf("Killed at half of %d events of %d keys, %s", *events, f.ours.distinct, f.broker), names)
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(r.median(contenderGroup, false), "s-until-counting")
				b.ReportMetric(r.median(contenderStreams, false), "s-streams")
			}
		})
	}
}

// recovery is what a kill cost, in seconds from the start of the second process.
type recovery struct{ counting, done float64 }

// killed measures one recovery.
func (f *countField) killed(w worker, all int64) recovery {
	f.t.Helper()
	f.quiet()
	first := f.live(w)
	f.until(w, first, all/2)
	first.end(f.t, syscall.SIGKILL)
	had, err := w.applied(context.Background())
	if err != nil {
		f.t.Fatal(err)
	}
	if had >= all {
		f.t.Fatalf("%s had applied everything before it could be killed: more -events are needed", w.name)
	}
	second := f.live(w)
	var r recovery
	r.counting, _ = f.until(w, second, had+1)
	r.done, _ = f.until(w, second, all)
	second.end(f.t, syscall.SIGTERM)
	if err := w.check(); err != nil {
		f.t.Fatalf("%s after the kill: %v", w.name, err)
	}
	return r
}

// recoveries are the rounds, by contender.
type recoveries map[string][]recovery

func (r *recoveries) add(name string, one recovery) {
	if *r == nil {
		*r = recoveries{}
	}
	(*r)[name] = append((*r)[name], one)
}

func (r recoveries) values(name string, done bool) []float64 {
	var v []float64
	for _, one := range r[name] {
		if done {
			v = append(v, one.done)
		} else {
			v = append(v, one.counting)
		}
	}
	return v
}

func (r recoveries) median(name string, done bool) float64 { return median(r.values(name, done)) }

func (r recoveries) print(title string, names []string) {
	rows := [][]string{{"", "s until it counts", "", "s until it has counted all", ""}}
	span := func(v []float64) string { return fmt.Sprintf("[%.1f-%.1f]", slices.Min(v), slices.Max(v)) }
	for _, name := range names {
		again, done := r.values(name, false), r.values(name, true)
		rows = append(rows, []string{name, fmt.Sprintf("%.1f", median(again)), span(again), fmt.Sprintf("%.1f", median(done)), span(done)})
	}
	printTable(title, rows)
}
