package bench_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"syscall"
	"testing"
	"time"

	kafka "github.com/segmentio/kafka-go"
	"golang.org/x/sync/errgroup"

	"banyan/internal/kafkatest"
)

// The contenders of the race of rebuilds.
const (
	contenderRebuild = "projector rebuild + swap"
	contenderBatches = "kafka-go, ReadBatch"
	contenderReader  = "kafka-go, Reader"
)

// BenchmarkRebuild makes a version anew from history beside the live one and
// swaps it in, against kafka-go reading the same topic and doing nothing with it.
func BenchmarkRebuild(b *testing.B) { benchmarkRebuild(b, nil) }

func benchmarkRebuild(b *testing.B, kafka *kafkatest.Broker) {
	for _, keys := range []int{1000, 1_000_000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			for b.Loop() {
				rebuilds(b, kafka, keys, *events, *rounds)
			}
		})
	}
}

func rebuilds(t testing.TB, kafka *kafkatest.Broker, keys, events, rounds int) {
	g := newGround(t, kafka)
	d := g.tell(history{source: fmt.Sprintf("again%d", keys), events: events, keys: keys, value: orderState})
	s := g.newService("orders", fmt.Sprintf(ordersFold, d.topic))
	w := g.worker(contenderLive, s, d)
	run := g.live(w)
	g.until(w, run, d.total())
	var all trials
	for n := range rounds {
		turns := []func(){
			func() { all.add(contenderRebuild, g.rebuild(s, d, n)) },
			func() { all.add(contenderBatches, g.decode(d, readBatches)) },
			func() { all.add(contenderReader, g.decode(d, readMessages)) },
		}
		for i := range turns {
			if n%2 == 1 {
				i = len(turns) - 1 - i
			}
			turns[i]()
		}
	}
	run.end(t, syscall.SIGTERM)
	all.print(fmt.Sprintf("Rebuild, %d events of %d keys, %d bytes each, %s", events, d.distinct, d.bytes/int64(events), g.broker), contenderBatches)
	if b, ok := t.(*testing.B); ok {
		all.report(b, contenderRebuild, contenderBatches)
	}
}

// rebuild makes a version, waits until the run that goes on beside it has caught
// up with it, and swaps. The clock runs over all of it.
func (g *ground) rebuild(s *service, d *told, round int) trial {
	g.t.Helper()
	g.quiet()
	store := serverOf(g.stores)
	before := [2]float64{store.cpu(g.t), cpuOf(g.pid)}
	args := []string{"rebuild", s.name, "--wait"}
	if *profile != "" {
		args = append(args, "--cpuprofile", fmt.Sprintf("%s.%s.%d.pprof", *profile, d.source, round))
	}
	m := trial{events: float64(d.total())}
	start := time.Now()
	m.rss, m.cpu, _ = g.command(g.projector(s, args...))
	_, swap, _ := g.command(g.projector(s, "swap", s.name))
	m.wall = time.Since(start).Seconds()
	m.cpu += swap
	m.store, m.broker = store.cpu(g.t)-before[0], cpuOf(g.pid)-before[1]
	if err := s.holds(d, "orders.orders", "changes")(); err != nil {
		g.t.Fatalf("after the rebuild: %v", err)
	}
	return m
}

// command runs a command to its end and gives its peak of memory, its CPU and how
// long it took.
func (g *ground) command(cmd *exec.Cmd) (rss, cpu, wall float64) {
	g.t.Helper()
	start := time.Now()
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			if err != nil {
				g.t.Fatalf("%v: %v\n%s", cmd.Args, err, tailOf(&log))
			}
			return rss, used(cmd), time.Since(start).Seconds()
		case <-tick.C:
			rss = max(rss, peakRSS(cmd.Process.Pid))
		}
	}
}

// decode reads all partitions at once with kafka-go, in this process, and looks
// at every key, value and header.
func (g *ground) decode(d *told, read func(g *ground, topic string, partition int, end int64, got func(*kafka.Message)) error) trial {
	g.t.Helper()
	var before, after syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	broker := cpuOf(g.pid)
	start := time.Now()
	counts := make([]int64, partitions)
	var readers errgroup.Group
	for p, end := range d.ends {
		readers.Go(func() error {
			return read(g, d.topic, p, end, func(m *kafka.Message) {
				if len(m.Key) > 0 && len(m.Value) > 0 && len(m.Headers) >= 12 {
					counts[p]++
				}
			})
		})
	}
	if err := readers.Wait(); err != nil {
		g.t.Fatalf("read with kafka-go: %v", err)
	}
	m := trial{events: float64(d.total()), wall: time.Since(start).Seconds(), broker: cpuOf(g.pid) - broker}
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	m.cpu = time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()).Seconds()
	for p, end := range d.ends {
		if counts[p] != end {
			g.t.Fatalf("kafka-go read %d of %d records of partition %d", counts[p], end, p)
		}
	}
	return m
}

const fetchBytes = 4 << 20

// readBatches is the fastest way that kafka-go has.
func readBatches(g *ground, topic string, partition int, end int64, got func(*kafka.Message)) error {
	conn, err := kafka.DialLeader(context.Background(), "tcp", g.brokers[0], topic, partition)
	if err != nil {
		return err
	}
	defer conn.Close()
	for next := int64(0); next < end; {
		batch := conn.ReadBatchWith(kafka.ReadBatchConfig{MinBytes: 1, MaxBytes: fetchBytes, MaxWait: time.Second})
		for {
			m, err := batch.ReadMessage()
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrShortBuffer) || errors.Is(err, io.ErrUnexpectedEOF) {
				break // the end of what came
			}
			if err != nil {
				return err
			}
			got(&m)
			next = m.Offset + 1
		}
		if err := batch.Close(); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
	}
	return nil
}

// readMessages is the way that kafka-go recommends.
func readMessages(g *ground, topic string, partition int, end int64, got func(*kafka.Message)) error {
	r := kafka.NewReader(kafka.ReaderConfig{Brokers: g.brokers, Topic: topic, Partition: partition, MinBytes: 1, MaxBytes: fetchBytes, QueueCapacity: 10_000, MaxWait: time.Second})
	defer r.Close()
	for next := int64(0); next < end; {
		m, err := r.ReadMessage(context.Background())
		if err != nil {
			return err
		}
		got(&m)
		next = m.Offset + 1
	}
	return nil
}

func TestRebuildCountsEveryEvent(t *testing.T) { rebuilds(t, nil, 100, 5000, 1) }
