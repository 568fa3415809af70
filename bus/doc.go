// Package bus is the Kafka client: kafka-go lives here and nowhere else.
//
// It makes and checks topics, appends records to one partition in one request,
// and reads partitions without any consumer group. What a record means is not
// decided here: package event gives its bytes, package outbox decides what to
// publish where, and in which order.
//
// Two things are done below kafka-go's own level. A batch is encoded here,
// because only then is its size known exactly before it is sent, and a repeat
// is the same bytes. And a fetch response is decoded here, because kafka-go
// drops the last offset of a batch: on a compacted topic, where a batch can be
// empty or have lost its tail, a reader that does not know it reads the same
// batch for ever.
package bus
