package bench;

import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.kafka.shaded.org.apache.kafka.clients.producer.ProducerRecord;

/**
 * Writes as the loop does, but with the log time of what caused a record: in topics that take the
 * writer's time, decisions then stand beside the impressions that were laid out for them.
 */
public final class Stamped implements KafkaRecordSerializationSchema<byte[]> {
    private static final long serialVersionUID = 1L;

    private final pho.Emitted inner;

    /** @param topics the topics of the dataflow's streams, in the order of their places */
    public Stamped(String[] topics) {
        inner = new pho.Emitted(topics);
    }

    @Override
    public ProducerRecord<byte[], byte[]> serialize(
            byte[] emitted, KafkaSinkContext context, Long timestamp) {
        ProducerRecord<byte[], byte[]> made = inner.serialize(emitted, context, timestamp);
        return new ProducerRecord<>(made.topic(), null, timestamp, made.key(), made.value());
    }
}
