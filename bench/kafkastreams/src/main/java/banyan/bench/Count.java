package banyan.bench;

import java.io.FileInputStream;
import java.io.InputStream;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.state.KeyValueStore;

/**
 * Counts the records of a topic by key, as the first example of every Kafka
 * Streams course does: groupByKey().count() into a persistent store with a
 * changelog. The value is handed on as bytes and never parsed.
 *
 * <p>Arguments: a properties file of Kafka Streams' own settings, and the topic.
 * A line on stdout tells each state that the application reaches; SIGTERM closes
 * it. What it has committed is seen from outside, in the group's offsets.
 */
public final class Count {
    private Count() {}

    public static void main(String[] args) throws Exception {
        Properties settings = new Properties();
        try (InputStream in = new FileInputStream(args[0])) {
            settings.load(in);
        }
        StreamsBuilder builder = new StreamsBuilder();
        builder.stream(args[1], Consumed.with(Serdes.Bytes(), Serdes.Bytes()))
                .groupByKey(Grouped.with(Serdes.Bytes(), Serdes.Bytes()))
                .count(Materialized.<Bytes, Long, KeyValueStore<Bytes, byte[]>>as("counts")
                        .withKeySerde(Serdes.Bytes())
                        .withValueSerde(Serdes.Long()));
        KafkaStreams streams = new KafkaStreams(builder.build(), settings);
        CountDownLatch done = new CountDownLatch(1);
        streams.setStateListener((now, before) -> {
            System.out.println(now);
            if (now == KafkaStreams.State.ERROR || now == KafkaStreams.State.NOT_RUNNING) {
                done.countDown();
            }
        });
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.start();
        done.await();
        System.exit(streams.state() == KafkaStreams.State.ERROR ? 1 : 0);
    }
}
