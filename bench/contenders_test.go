package bench_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"banyan/bus"
)

// measure is what one drain cost. Times are in seconds, sizes in MB.
type measure struct {
	wall float64 // from the start of the process to the last row
	exit float64 // to its end
	lead float64 // from the start of the process until it reads the slot
	cpu  float64 // of the process, user and system
	rss  float64 // its peak
	// What the servers spent meanwhile, CPU in seconds.
	source, store, broker float64
}

// cdc drains through the whole path. The clock stops when the last event lies
// in Kafka, as seen from outside; that all is acknowledged and stored is what
// the end of cdc with 0 says.
func (f *field) cdc(h *house) measure {
	f.t.Helper()
	h.startBroker(f.t)
	cluster, err := bus.Dial(context.Background(), bus.Config{Brokers: h.brokers})
	if err != nil {
		f.t.Fatal(err)
	}
	defer cluster.Close()
	args := append([]string{"run", "--until-caught-up"}, strings.Fields(*runArgs)...)
	if f.cfg.profile != "" {
		args = append(args, "--cpuprofile", fmt.Sprintf("%s.%s.pprof", f.cfg.profile, h.name))
	}
	source, store := serverOf(f.source.Server()), serverOf(f.stores)
	before := [3]float64{source.cpu(f.t), store.cpu(f.t), cpuOf(h.brokerPID(f.t))}
	cmd := f.command(h, args...)
	var log bytes.Buffer
	cmd.Stderr = &log
	start := time.Now()
	stages := &stageClock{start: start, passed: make(map[string]float64)}
	cmd.Stdout = stages
	ended := f.start(cmd)
	var m measure
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for running := true; running; {
		select {
		case err := <-ended:
			if err != nil {
				f.t.Fatalf("cdc run: %v\n%s", err, &log)
			}
			running = false
		case <-tick.C:
			m.rss = max(m.rss, peakRSS(cmd.Process.Pid))
		}
		if m.wall == 0 {
			n, err := h.records(context.Background(), cluster)
			if err != nil {
				f.t.Fatalf("count the records: %v", err)
			}
			if n >= int64(f.cfg.rows) {
				m.wall = time.Since(start).Seconds()
			}
		}
	}
	m.exit = time.Since(start).Seconds()
	if n, err := h.records(context.Background(), cluster); err != nil || n != int64(f.cfg.rows) {
		f.t.Fatalf("cdc run ended with %d events of %d in Kafka (%v)\n%s", n, f.cfg.rows, err, &log)
	}
	m.cpu, m.lead = used(cmd), stages.at("streaming")
	m.source, m.store, m.broker = source.cpu(f.t)-before[0], store.cpu(f.t)-before[1], cpuOf(h.brokerPID(f.t))-before[2]
	return m
}

// stageClock notes when a program says what stage it has reached: the first word
// of a line.
type stageClock struct {
	start time.Time

	mu     sync.Mutex
	passed map[string]float64
	text   bytes.Buffer
}

func (c *stageClock) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text.Write(b)
	for line := range strings.Lines(string(b)) {
		word, _, _ := strings.Cut(strings.TrimRight(line, "\n"), " ")
		if _, ok := c.passed[word]; !ok {
			c.passed[word] = time.Since(c.start).Seconds()
		}
	}
	return len(b), nil
}

// at is when a stage was first reached, in seconds; 0 where it was not.
func (c *stageClock) at(stage string) float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.passed[stage]
}

// recvlogical reads the same and throws it away. Without the program it
// measures nothing.
func (f *field) recvlogical(h *house) measure {
	f.t.Helper()
	program := filepath.Join(f.source.Server().Bin.Dir, "pg_recvlogical")
	if _, err := os.Stat(program); errors.Is(err, fs.ErrNotExist) {
		f.t.Log("this Postgres has no pg_recvlogical: nothing to compare with")
		return measure{}
	}
	server := serverOf(f.source.Server())
	before := server.cpu(f.t)
	cmd := exec.Command(program, "-d", f.source.URL, "-S", h.name+"_recv", "--start", "-f", os.DevNull, "--endpos", f.end, "--no-loop",
		"-o", "proto_version=1", "-o", "publication_names=banyan_bench")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	start := time.Now()
	ended := f.start(cmd)
	var m measure
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for m.wall == 0 {
		select {
		case err := <-ended:
			if err != nil {
				f.t.Fatalf("pg_recvlogical: %v\n%s", err, &log)
			}
			m.wall = time.Since(start).Seconds()
		case <-tick.C:
			m.rss = max(m.rss, peakRSS(cmd.Process.Pid))
		}
	}
	m.exit, m.cpu, m.source = m.wall, used(cmd), server.cpu(f.t)-before
	return m
}

// peek decodes the same inside the server, and nothing leaves it but a number.
func (f *field) peek(h *house) measure {
	f.t.Helper()
	server := serverOf(f.source.Server())
	before := server.cpu(f.t)
	start := time.Now()
	n := f.text(`SELECT count(*) FROM pg_logical_slot_peek_binary_changes($1, $2, NULL, 'proto_version', '1', 'publication_names', 'banyan_bench')`, h.name+"_peek", f.end)
	wall := time.Since(start).Seconds()
	if n == "0" {
		f.t.Fatal("there was nothing to decode")
	}
	return measure{wall: wall, exit: wall, source: server.cpu(f.t) - before}
}

// start starts a process and tells its end.
func (f *field) start(cmd *exec.Cmd) <-chan error {
	f.t.Helper()
	if err := cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	return ended
}
