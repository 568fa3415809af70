// Package bus is the Kafka client: kafka-go lives here and nowhere else.
//
// It makes and checks topics, appends records to one partition in one request,
// and reads partitions: up to an offset (Read), all of a topic (Follow), or one
// of them for ever (Tail). What a record means is not decided here: package
// event gives its bytes, package outbox decides what to publish where, and in
// which order.
//
// Reading knows nothing of consumer groups. A group (JoinGroup) only says which
// partitions are whose, and for how long; who is told so starts readers of its
// own, and stops them when the generation ends. kafka-go's reader with a group
// hands out records of partitions that another member has by then, and Kafka's
// generation is no fence against a member that was taken for dead and is not:
// both are why offsets live in the database of whoever reads, beside an epoch.
//
// Two things are done below kafka-go's own level. A batch is encoded here,
// because only then is its size known exactly before it is sent, and a repeat
// is the same bytes. And a fetch response is decoded here, because kafka-go
// drops the last offset of a batch: on a compacted topic, where a batch can be
// empty or have lost its tail, a reader that does not know it reads the same
// batch for ever.
package bus
