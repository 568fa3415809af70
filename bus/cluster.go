package bus

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	kafka "github.com/segmentio/kafka-go"
)

// Config says where the brokers are and how to speak to them.
type Config struct {
	Brokers  []string    // "host:port"; any of them will do
	TLS      *tls.Config // nil is plain text; see LoadTLS
	ClientID string      // shown in the brokers' logs; "banyan" where empty

	DialTimeout    time.Duration // of one connection, TLS included; 5 s where zero
	RequestTimeout time.Duration // of one question and its answer; 30 s where zero

	// FetchBytes bounds what one fetch of one partition brings, about: who reads many
	// partitions at once holds one fetch of each in memory; 4 MiB where zero.
	FetchBytes int
}

// LoadTLS makes a TLS configuration of PEM files. ca is a file with the
// certificates that are trusted beside the system's; cert and key are the
// client's own, both or neither. All empty gives nil: plain text.
func LoadTLS(ca, cert, key string) (*tls.Config, error) {
	if ca == "" && cert == "" && key == "" {
		return nil, nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("read the certificates of the brokers: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read the certificates of the brokers: %s holds no PEM certificate", ca)
		}
	}
	if (cert == "") != (key == "") {
		return nil, errors.New("a client certificate needs both a cert and a key file")
	}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("read the client certificate: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

// Cluster is a connection to a Kafka cluster. It is safe for concurrent use.
type Cluster struct {
	addr      net.Addr
	brokers   []string
	names     string // the addresses, for messages
	transport *kafka.Transport
	client    *kafka.Client
	request   time.Duration
	most      int           // bytes of one fetch of one partition, about
	pause     time.Duration // first wait of a read that gets no further
	wait      time.Duration // of a fetch for records
}

// Dial connects to the first broker that answers. The caller closes the
// cluster. Where no broker answers, the error is an *Error that names the
// addresses and is worth a retry.
func Dial(ctx context.Context, cfg Config) (*Cluster, error) {
	if len(cfg.Brokers) == 0 {
		return nil, &Error{Op: "connect to Kafka", Kind: Permanent, Err: errors.New("no broker address given")}
	}
	for _, b := range cfg.Brokers {
		if _, _, err := net.SplitHostPort(b); err != nil {
			return nil, &Error{Op: "connect to Kafka", Kind: Permanent, Err: fmt.Errorf("broker address %q: want host:port", b)}
		}
	}
	if cfg.ClientID == "" {
		cfg.ClientID = "banyan"
	}
	if cfg.DialTimeout <= 0 {
		cfg.DialTimeout = 5 * time.Second
	}
	if cfg.RequestTimeout <= 0 {
		cfg.RequestTimeout = 30 * time.Second
	}
	if cfg.FetchBytes <= 0 {
		cfg.FetchBytes = fetchBytes
	}
	t := &kafka.Transport{
		DialTimeout: cfg.DialTimeout,
		IdleTimeout: 30 * time.Second,
		MetadataTTL: 5 * time.Second,
		ClientID:    cfg.ClientID,
		TLS:         cfg.TLS,
	}
	c := &Cluster{
		addr:      kafka.TCP(cfg.Brokers...),
		brokers:   slices.Clone(cfg.Brokers),
		names:     strings.Join(cfg.Brokers, ", "),
		transport: t,
		request:   cfg.RequestTimeout,
		most:      cfg.FetchBytes,
		pause:     50 * time.Millisecond,
		wait:      fetchWait,
	}
	c.client = &kafka.Client{Addr: c.addr, Transport: t}
	if _, err := c.metadata(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Close drops all connections. Calls under way end with an error.
func (c *Cluster) Close() { c.transport.CloseIdleConnections() }

// Ping asks the cluster whether it is there.
func (c *Cluster) Ping(ctx context.Context) error {
	c.forget()
	_, err := c.metadata(ctx)
	return err
}

// metadata gives brokers and topics as kafka-go last saw them, some seconds
// ago at most; after forget, as they are now.
func (c *Cluster) metadata(ctx context.Context) (*kafka.MetadataResponse, error) {
	return ask(ctx, c, "ask for topics", func(ctx context.Context) (*kafka.MetadataResponse, error) {
		return c.client.Metadata(ctx, &kafka.MetadataRequest{Addr: c.addr})
	})
}

// forget drops kafka-go's connections and its picture of the cluster, so that
// the next call sees the cluster as it is now: where a topic was just made,
// where a partition has a new leader, or where a broker was restarted and its
// pooled connections are dead.
func (c *Cluster) forget() { c.transport.CloseIdleConnections() }

// ask does what can be repeated without harm: on an error that a fresh
// connection may cure it asks once more.
func ask[T any](ctx context.Context, c *Cluster, op string, do func(context.Context) (T, error)) (T, error) {
	var v T
	var err error
	for range 2 {
		within, cancel := context.WithTimeout(ctx, c.request)
		v, err = do(within)
		cancel()
		if err == nil || ctx.Err() != nil {
			break
		}
		if kindOf(err) == Permanent {
			break
		}
		c.forget()
	}
	if err != nil {
		return v, c.fail(ctx, op, err)
	}
	return v, nil
}
