package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"banyan/bus"
)

// Kafka is how to reach Kafka, as a configuration has it.
type Kafka struct {
	Brokers []string // host:port
	// CA, Cert and Key are PEM files; all empty is a connection without TLS.
	CA, Cert, Key string
	ClientID      string // as the broker's log and quotas name us
	// FetchBytes bounds what is fetched of one partition at a time; bus.Config says
	// how.
	FetchBytes int
}

// KafkaFlags gives c, and every command below it, the flags that say how to reach
// Kafka: --brokers, --kafka-ca, --kafka-cert and --kafka-key.
func (a *App) KafkaFlags(c *cobra.Command, k *Kafka) {
	a.BrokersFlag(c, &k.Brokers)
	f := c.PersistentFlags()
	f.StringVar(&k.CA, "kafka-ca", "", "PEM `file` of the authorities that sign the brokers' certificates; with it connections use TLS")
	f.StringVar(&k.Cert, "kafka-cert", "", "PEM `file` of this client's certificate")
	f.StringVar(&k.Key, "kafka-key", "", "PEM `file` of its key")
}

// Reach is k where it names brokers, else the same with the embedded broker in DataDir.
func (a *App) Reach(ctx context.Context, k Kafka) (Kafka, error) {
	if len(k.Brokers) > 0 {
		return k, nil
	}
	var err error
	_, k.Brokers, err = a.Servers(ctx, "", true)
	return k, err
}

// Owner names this process to people: its host and number.
func Owner() string {
	host, _ := os.Hostname()
	return fmt.Sprintf("%s, process %d", host, os.Getpid())
}

// Dial connects. The caller closes the cluster.
func (k Kafka) Dial(ctx context.Context) (*bus.Cluster, error) {
	tls, err := bus.LoadTLS(k.CA, k.Cert, k.Key)
	if err != nil {
		return nil, BadInput("kafka.tls: %w", err)
	}
	return bus.Dial(ctx, bus.Config{Brokers: k.Brokers, TLS: tls, ClientID: k.ClientID, FetchBytes: k.FetchBytes})
}

// DialPatiently connects for a run, to which a broker that is away is no reason
// not to start: it tries again, and says so once, until ctx ends or the error is
// one that trying again does not mend. The caller closes the cluster.
func (k Kafka) DialPatiently(ctx context.Context, log *slog.Logger) (*bus.Cluster, error) {
	wait := 100 * time.Millisecond
	for told := false; ; {
		cluster, err := k.Dial(ctx)
		if e, ok := errors.AsType[*bus.Error](err); err == nil || !ok || e.Kind == bus.Permanent {
			return cluster, err
		}
		if !told {
			log.Warn("Kafka does not answer, trying again", "error", err)
			told = true
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(wait):
		}
		wait = min(2*wait, 5*time.Second)
	}
}
