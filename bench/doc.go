// Package bench holds the race that decides whether Banyan is fast enough: a
// backlog of committed transactions is drained through the whole path (slot,
// rules, outbox with its fsync, relay, Kafka with every acknowledgement) by the
// real cdc binary, beside pg_recvlogical, which reads the same backlog and
// throws it away, and beside plain decoding in the server, which is the floor.
//
// Beside it stands what a projection costs: how fast projector run follows a topic
// and projector rebuild makes it anew, how late the read API answers meanwhile, how
// long a commit in the monolith takes until it can be read, and the same counting
// done by Kafka Streams (the Java program in kafkastreams, which Maven builds).
//
// And what a shadow costs: the fold of orders alone, the way from the broker to rows,
// asking over HTTP beside a bare loop, the report, and the program over a year.
//
// All of them run in the same rounds on the same machine, because absolute
// numbers of a machine that others share say little, and ratios of one round
// say much. RESULTS.md tells what was seen.
//
//	go test ./bench -run '^$' -bench Drain                           # 100,000 rows
//	go test ./bench -run '^$' -bench Drain -rows 1000000 -rounds 5   # W1 and W2 in full
//	go test ./bench -run '^$' -bench 'Live|Rebuild|ReadAPI|Token'    # projections
//	go test ./bench -run '^$' -bench 'Count|Recovery' -tags slow     # against Kafka Streams
//	go test ./bench -run '^$' -bench . -tags slow                    # also on Apache Kafka 4
//	go test ./bench -run '^$' -bench Fold                            # without broker and database
//	go test ./bench -run '^$' -bench /W1 -profile /tmp/w1            # /tmp/w1.N.pprof of cdc
//
//	go test ./bench -run '^$' -bench Shadow                          # all of a shadow; BANYAN_DATA for the real year
//
// There is nothing here but tests.
package bench
