package bus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	kafka "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
)

// Kind says what an error leaves behind, and whether to try again.
type Kind int

const (
	// Unknown leaves open whether the broker has done it: the connection broke
	// or the time ran out after the request was sent.
	Unknown Kind = iota
	// Transient was not done; it may be, later.
	Transient
	// Permanent was not done and will not be before a person has acted.
	Permanent
)

// Error is any failure of this package that is not the caller's own context.
type Error struct {
	Op        string // "produce"
	Topic     string // "" where it is about the cluster
	Partition int    // -1 where it is about the whole topic
	Kind      Kind
	Err       error
}

// Error says what was being done, where, and what went wrong.
func (e *Error) Error() string {
	switch {
	case e.Topic == "":
		return fmt.Sprintf("%s: %v", e.Op, e.Err)
	case e.Partition < 0:
		return fmt.Sprintf("%s topic %s: %v", e.Op, e.Topic, e.Err)
	}
	return fmt.Sprintf("%s topic %s, partition %d: %v", e.Op, e.Topic, e.Partition, e.Err)
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Permanent reports that trying again is of no use.
func (e *Error) Permanent() bool { return e.Kind == Permanent }

// ErrUnreachable says that no broker answers.
var ErrUnreachable = errors.New("no Kafka broker answers")

// OutOfRange says that an offset was asked for that the partition does not
// have: it was deleted, or was never written.
type OutOfRange struct {
	Offset      int64 // asked for
	First, Next int64 // what there is: from First to before Next
}

// Error names the offset and what there is.
func (e *OutOfRange) Error() string {
	return fmt.Sprintf("offset %d is not in the log, which goes from %d to %d", e.Offset, e.First, e.Next)
}

// TooLarge says that one record does not fit into a request.
type TooLarge struct {
	Key         string
	Size, Limit int // bytes
}

// Error names the record and the limit.
func (e *TooLarge) Error() string {
	return fmt.Sprintf("the record with key %s takes %d bytes, more than the %d that one request may have", e.Key, e.Size, e.Limit)
}

// fail dresses an error of kafka-go. The caller's own cancellation stays what
// it is.
func (c *Cluster) fail(ctx context.Context, op string, err error) error {
	return c.failAt(ctx, op, "", -1, err)
}

func (c *Cluster) failAt(ctx context.Context, op, topic string, partition int, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", op, context.Cause(ctx))
	}
	e := &Error{Op: op, Topic: topic, Partition: partition, Kind: kindOf(err), Err: err}
	if unreachable(err) && !errors.Is(err, ErrUnreachable) {
		hint := ""
		if c.transport.TLS != nil && errors.Is(err, context.DeadlineExceeded) {
			hint = " (does it speak TLS?)"
		}
		e.Err = fmt.Errorf("%w at %s%s: %w", ErrUnreachable, c.names, hint, err)
	}
	return e
}

// reason looks behind the error with which kafka-go says that it knows no such
// topic: it knows none at all while it reaches no broker.
func (c *Cluster) reason(ctx context.Context, err error) error {
	if errors.Is(err, protocol.ErrNoTopic) {
		if _, lost := c.metadata(ctx); lost != nil && ctx.Err() == nil {
			return lost
		}
	}
	return err
}

// unreachable reports that no connection came about.
func unreachable(err error) bool {
	var op *net.OpError
	var dns *net.DNSError
	return errors.As(err, &op) && op.Op == "dial" || errors.As(err, &dns) || errors.Is(err, context.DeadlineExceeded)
}

func kindOf(err error) Kind {
	var large *TooLarge
	if errors.As(err, &large) {
		return Permanent
	}
	if errors.Is(err, errBatch) {
		return Permanent // TCP has checked what came: it lies there so
	}
	var ranged *OutOfRange
	if errors.As(err, &ranged) {
		return Transient // the log has changed since the caller looked at it
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return Transient
	}
	// kafka-go's own, before anything was sent.
	for _, local := range []error{protocol.ErrNoTopic, protocol.ErrNoPartition, protocol.ErrNoLeader} {
		if errors.Is(err, local) {
			return Transient
		}
	}
	var code kafka.Error
	if !errors.As(err, &code) || errors.Is(err, io.ErrUnexpectedEOF) {
		return Unknown
	}
	switch code {
	case kafka.RequestTimedOut, kafka.NotEnoughReplicasAfterAppend, kafka.NetworkException, kafka.Unknown, kafka.KafkaStorageError:
		return Unknown
	case kafka.MessageSizeTooLarge, kafka.RecordListTooLarge, kafka.InvalidTopic, kafka.InvalidRequiredAcks,
		kafka.TopicAuthorizationFailed, kafka.ClusterAuthorizationFailed, kafka.InvalidTimestamp, kafka.UnsupportedSASLMechanism,
		kafka.IllegalSASLState, kafka.SASLAuthenticationFailed, kafka.UnsupportedVersion, kafka.InvalidPartitionNumber,
		kafka.InvalidReplicationFactor, kafka.InvalidReplicaAssignment, kafka.InvalidConfiguration, kafka.InvalidRequest,
		kafka.UnsupportedForMessageFormat, kafka.PolicyViolation, kafka.SecurityDisabled, kafka.OffsetOutOfRange, kafka.InvalidRecord,
		kafka.GroupAuthorizationFailed, kafka.InvalidGroupId, kafka.InvalidSessionTimeout, kafka.InconsistentGroupProtocol:
		return Permanent
	}
	return Transient
}
