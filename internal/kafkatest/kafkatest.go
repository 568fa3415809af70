// Package kafkatest gives a test a Kafka on a real loopback socket. New starts
// franz-go's kfake inside the test process in about a millisecond and allows
// faults to be injected; NewReal starts Apache Kafka 4 in a Java process in
// about ten seconds, for the slow tests (go test -tags slow), which must hold
// on the real thing too.
//
// Both keep their address and their data over Stop, Start and Restart. Neither
// creates topics by itself: a topic nobody made is an error, as in a careful
// production cluster.
//
// Tests only.
package kafkatest

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"

	"banyan/internal/embedded"
)

// Options of the broker in the process.
type Options struct {
	// Brokers in the cluster; 0 means 1.
	Brokers int
	// Extra options of kfake, after ours: TLS, SASL, broker settings.
	Extra []kfake.Opt
}

// Broker is a running Kafka, or kfake, cluster.
type Broker struct {
	// Addrs are "127.0.0.1:port", one per broker.
	Addrs []string

	node node
}

// node is what differs between kfake and Kafka.
type node interface {
	start() error
	stop() error
	kill() error
}

// New starts kfake and closes it when the test ends.
func New(t testing.TB, opts ...Options) *Broker {
	t.Helper()
	var o Options
	if len(opts) > 0 {
		o = opts[0]
	}
	n := &inProcess{opts: o, dir: t.TempDir()}
	if err := n.start(); err != nil {
		t.Fatalf("kafkatest: %v", err)
	}
	t.Cleanup(func() {
		if err := n.stop(); err != nil {
			t.Errorf("kafkatest: %v", err)
		}
	})
	return &Broker{Addrs: n.cluster.ListenAddrs(), node: n}
}

// Control gives kfake's own handle for injecting faults; nil for a real Kafka
// and while stopped. A restart makes a new cluster: ask again, and set the
// faults again.
func (b *Broker) Control() *kfake.Cluster {
	if n, ok := b.node.(*inProcess); ok {
		return n.cluster
	}
	return nil
}

// Stop shuts the broker down in order, keeping its data. Stopping a stopped
// broker does nothing.
func (b *Broker) Stop(t testing.TB) {
	t.Helper()
	if err := b.node.stop(); err != nil {
		t.Fatalf("kafkatest: stop: %v", err)
	}
}

// Kill ends a real Kafka with SIGKILL. kfake lives in the test's own process
// and is stopped instead; embedded.ServeBroker is the one that can be killed.
func (b *Broker) Kill(t testing.TB) {
	t.Helper()
	if err := b.node.kill(); err != nil {
		t.Fatalf("kafkatest: kill: %v", err)
	}
}

// Start starts a stopped broker under the same address with the same data.
func (b *Broker) Start(t testing.TB) {
	t.Helper()
	if err := b.node.start(); err != nil {
		t.Fatalf("kafkatest: start: %v", err)
	}
}

// Restart is Stop and Start.
func (b *Broker) Restart(t testing.TB) {
	t.Helper()
	b.Stop(t)
	b.Start(t)
}

// CreateTopic makes a topic with one replica; config pairs as Kafka names them
// ("retention.ms": "-1").
func (b *Broker) CreateTopic(t testing.TB, topic string, partitions int, config map[string]string) {
	t.Helper()
	tc := kafka.TopicConfig{Topic: topic, NumPartitions: partitions, ReplicationFactor: 1}
	for k, v := range config {
		tc.ConfigEntries = append(tc.ConfigEntries, kafka.ConfigEntry{ConfigName: k, ConfigValue: v})
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	transport := &kafka.Transport{}
	defer transport.CloseIdleConnections()
	c := &kafka.Client{Addr: kafka.TCP(b.Addrs...), Transport: transport}
	resp, err := c.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{tc}})
	if err == nil {
		err = resp.Errors[topic]
	}
	if err != nil {
		t.Fatalf("kafkatest: create topic %s: %v", topic, err)
	}
	// The answer comes before every broker knows the topic.
	if err := awaitMetadata(ctx, b.Addrs, topic, partitions); err != nil {
		t.Fatalf("kafkatest: create topic %s: %v", topic, err)
	}
}

// awaitMetadata asks until the cluster answers and, with a topic, knows a
// leader for each of its partitions.
func awaitMetadata(ctx context.Context, addrs []string, topic string, partitions int) error {
	transport := &kafka.Transport{DialTimeout: 2 * time.Second}
	defer transport.CloseIdleConnections()
	c := &kafka.Client{Addr: kafka.TCP(addrs...), Transport: transport, Timeout: 5 * time.Second}
	for {
		var req kafka.MetadataRequest
		if topic != "" {
			req.Topics = []string{topic}
		}
		resp, err := c.Metadata(ctx, &req)
		switch {
		case err != nil:
		case len(resp.Brokers) == 0:
			err = errors.New("no broker has registered")
		case topic == "":
			return nil
		case resp.Topics[0].Error != nil:
			err = resp.Topics[0].Error
		case len(resp.Topics[0].Partitions) == partitions:
			return nil
		default:
			err = fmt.Errorf("%d partitions of %d", len(resp.Topics[0].Partitions), partitions)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the broker does not answer: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// inProcess is kfake in the test's own process.
type inProcess struct {
	opts    Options
	dir     string
	ports   []int
	cluster *kfake.Cluster // nil while stopped
}

func (n *inProcess) start() error {
	if n.cluster != nil {
		return nil
	}
	brokers := max(1, n.opts.Brokers)
	opts := append([]kfake.Opt{kfake.NumBrokers(brokers), kfake.DataDir(n.dir), kfake.DefaultNumPartitions(6)}, n.opts.Extra...)
	var cluster *kfake.Cluster
	var err error
	// A connection in its last handshake may still hold the port, or another test has
	// drawn the same.
	for deadline := time.Now().Add(10 * time.Second); ; {
		ports := n.ports
		if ports == nil {
			if ports, err = freePorts(brokers); err != nil {
				return err
			}
		}
		if cluster, err = kfake.NewCluster(append(opts, kfake.Ports(ports...))...); err == nil {
			n.cluster, n.ports = cluster, ports
			return nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(deadline) {
			return fmt.Errorf("start kfake: %w", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// freePorts are ports that the system gives to nobody while the broker is stopped.
func freePorts(n int) ([]int, error) {
	ports := make([]int, n)
	for i := range ports {
		p, err := embedded.FreePort()
		if err != nil {
			return nil, err
		}
		ports[i] = p
	}
	return ports, nil
}

func (n *inProcess) stop() error {
	if n.cluster != nil {
		n.cluster.Close()
		n.cluster = nil
	}
	return nil
}

func (n *inProcess) kill() error { return n.stop() }
